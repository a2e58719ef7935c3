"""What a serving controller is made of: plain data, so that an event log replays to the same actions."""

from __future__ import annotations

import msgspec

__all__ = ["Host", "ServingPlan", "StaticPlan"]


class Host(msgspec.Struct, frozen=True):
    """Where replicas may be: its cores and memory are hard limits."""

    name: str
    cores: tuple[int, ...]  # their numbers
    memory_bytes: int
    devices: tuple[str, ...] = ("cpu",)


class StaticPlan(msgspec.Struct, frozen=True):
    """What the static policy keeps running: so many replicas of each variant."""

    replicas: dict[str, int] = {}


class ServingPlan(msgspec.Struct, frozen=True):
    """Everything that is fixed for the life of a controller. Times in seconds."""

    hosts: tuple[Host, ...]
    policy: str = "llamapipe"  # "llamapipe", "infaas", "static"
    static: StaticPlan = StaticPlan()
    prices: dict[str, float] = {}  # of a core-second, by device; a device without one costs 1
    transit_s: float = 0.0  # what 99 of 100 queries take beside their invocations, until queries have shown it
    period_s: float = 1.0  # between two plans
    scale_down_s: float = 3.0  # of evidence that less would do, before anything is stopped
    linger_s: float = 10.0  # after the last query of its kind, before the last replica that can serve it is stopped
    patience_s: float = 10.0  # queries without a latency are served before those that come so much later
    max_attempts: int = 3  # an item that failed so often is not tried again
    backoff_s: float = 1.0  # before a variant that could not be loaded is tried again; doubles each time
    max_load_failures: int = 3  # then it counts as one that cannot be loaded

    def price(self, device: str) -> float:
        """Of one core-second on a device."""
        return self.prices.get(device, 1.0)
