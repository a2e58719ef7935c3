"""What control starts from: stages, sinks, streams, workers. Plain data, part of every event log."""

from __future__ import annotations

import msgspec

from llamapipe.catalog import Configuration

__all__ = ["EdgePlan", "RunPlan", "SinkPlan", "StagePlan", "StreamPlan"]


class EdgePlan(msgspec.Struct, frozen=True, array_like=True):
    """One connection into an input port. ``stage`` is empty for the source itself."""

    port: str  # of the consumer
    stage: str  # producer
    output: str  # producer's port
    kind: str  # PortKind of the producer's port

    @property
    def selector(self) -> str:
        """As written in a pipeline: ``$ops.detect.boxes``."""
        return f"$ops.{self.stage}.{self.output}" if self.stage else f"$source.{self.output}"


class StagePlan(msgspec.Struct, frozen=True):
    """One stage with the configuration that it runs in."""

    name: str
    type: str
    inputs: tuple[EdgePlan, ...]
    outputs: dict[str, str]  # port -> PortKind
    configuration: Configuration
    level: str = ""  # name of the fan-out stage whose items it consumes; empty: one item a frame
    depth: int = 1  # longest way from the source, in stages
    stateful: bool = False
    fan_out: bool = False
    filters: bool = False
    hides: bool = False
    when: str | None = None
    sample_fps: float | None = None
    max_items: int = 64  # fan-out cap per frame


class SinkPlan(msgspec.Struct, frozen=True):
    """One sink; every stream has its own instance of it."""

    name: str
    type: str
    inputs: tuple[EdgePlan, ...]
    hides: bool = False  # a hiding stage lies upstream
    path: str | None = None
    params: dict[str, object] = {}


class StreamPlan(msgspec.Struct, frozen=True):
    """One source as control sees it."""

    stream: str
    drop_policy: str = "block"  # block | drop-oldest | drop-newest
    max_pending: int = 4  # frames that may wait for admission under a dropping policy


class RunPlan(msgspec.Struct, frozen=True):
    """Initial state of a run: with the event log it determines every action."""

    pipeline: str
    stages: tuple[StagePlan, ...]  # in topological order
    sinks: tuple[SinkPlan, ...]
    streams: tuple[StreamPlan, ...]
    workers: tuple[str, ...]
    max_in_flight: int = 16  # frames between admission and commit, all streams together
    max_queued: int = 2  # invocations that a worker may hold, the running one included
    latency_slo_s: float | None = None
    seed: int = 0
    version: int = 1
