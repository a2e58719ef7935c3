"""What a run costs: reserved device time, and the part of it that invocations took, each times its price.

    reserved = sum over workers, decoders, encoders of  time there x threads x price of a device-second
    marginal = sum over invocations of                  time taken x threads x price of a device-second

Reserved is what is paid for; marginal is what one invocation more or less changes, and what candidates are chosen by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from llamapipe.clock import Env
from llamapipe.control import Reservations, RunPlan, SinkPlan, StagePlan
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.media import SINKS
from llamapipe.report import CostSummary
from llamapipe.spec import CORE_SECONDS, Prices, load_prices

__all__ = ["CostMeter", "config_root", "prices_for", "rate_of"]

_FILE = "prices.yaml"
_CPU = "cpu"


def config_root(env: Env) -> Path:
    """LLAMAPIPE_CONFIG, else ``llamapipe`` in the user's folder of settings."""
    if env.get("LLAMAPIPE_CONFIG"):
        return Path(env["LLAMAPIPE_CONFIG"])
    base = env.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path(env.get("HOME", "~")).expanduser() / ".config") / "llamapipe"


def prices_for(asked: Path | None, env: Env) -> Prices:
    """Those of the file that was asked for, else of the user's ``prices.yaml``, else core-seconds.

    Raises what `llamapipe.spec.load_prices` raises.
    """
    if asked is not None:
        return load_prices(asked)
    own = config_root(env) / _FILE
    return load_prices(own) if own.is_file() else CORE_SECONDS


def rate_of(plan: StagePlan, choice: int, prices: Prices) -> float:
    """What a second of an invocation of the stage's candidate costs."""
    variant = plan.choice(choice).variant
    if variant is None:
        return prices.of(_CPU)
    return prices.of(variant.device) * max(1, variant.threads)


class CostMeter:
    """Follows one run. ``decoders``: threads by stream; ``cores``: that there are. Times are of the run's clock."""

    def __init__(
        self,
        plan: RunPlan,
        prices: Prices,
        *,
        cores: float,
        decoders: Mapping[str, int],
        before: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self._prices = prices
        self._decoders = dict(decoders)
        self._going = [s.stream for s in plan.streams if s.resume is None or not s.resume.ended]
        self._awaited = {s.stream for s in plan.streams if s.awaited}
        self._encoder_threads = sum(_encoder_threads(sink) for sink in plan.sinks)
        self._before = {device: dict(parts) for device, parts in (before or {}).items()}
        self.rates = {
            stage.name: [rate_of(stage, way, prices) for way in range(len(stage.ways))] for stage in plan.stages
        }
        self._workers = {
            worker.name: _held_by([stage for stage in plan.stages if stage.placement == worker.kind])
            for worker in plan.workers
        }
        devices = {device for held in self._workers.values() for device in held} | {_CPU}
        self._price = {device: prices.of(device) for device in sorted(devices)}
        # A core is held once, whichever of its threads runs; so is a GPU by all that share it.
        self._capacity = {device: cores if device == _CPU else 1.0 for device in devices}
        self._reservations = Reservations(self._capacity)

    @property
    def most_threads(self) -> float:
        """That may want a core at the same time."""
        workers = sum(held[_CPU] for held in self._workers.values())
        return workers + sum(self._decoders.get(s, 1) + self._encoder_threads for s in self._going)

    @property
    def cost_per_s(self) -> float:
        """While all workers, decoders and encoders are there."""
        units = {_CPU: self.most_threads}
        for held in self._workers.values():
            units |= {device: 1.0 for device in held if device != _CPU}
        return sum(min(n, self._capacity[device]) * self._price[device] for device, n in units.items())

    def hold_on(self, cores: float, now_s: float) -> None:
        """From now on the run is held on so many cores."""
        self._capacity[_CPU] = cores
        self._reservations.limit(_CPU, cores, now_s)

    def event(self, event: ev.Event, now_s: float, actions: Sequence[act.Action]) -> None:
        """Control has taken an event, and answered it with these actions."""
        reservations = self._reservations
        match event:
            case ev.Start():
                for stream in self._going:
                    if stream not in self._awaited:
                        self._stream(stream, now_s)
            case ev.StreamOpened():
                self._stream(event.stream, now_s)
            case ev.StreamEnded():
                reservations.release(f"decode {event.stream}", now_s)
            case ev.StreamClosed():
                reservations.release(f"decode {event.stream}", now_s)
                reservations.release(f"encode {event.stream}", now_s)
            case ev.WorkerLost():
                self._worker(event.worker, now_s, up=False)
        for action in actions:
            if isinstance(action, act.StartWorker):
                self._worker(action.worker, now_s, up=True)

    def _stream(self, stream: str, now_s: float) -> None:
        self._reservations.hold(f"decode {stream}", _CPU, "decode", self._decoders.get(stream, 1), now_s)
        self._reservations.hold(f"encode {stream}", _CPU, "encode", self._encoder_threads, now_s)

    def _worker(self, worker: str, now_s: float, *, up: bool) -> None:
        for device, units in self._workers[worker].items():
            name = f"{worker} {device}"
            if up:
                self._reservations.hold(name, device, "workers", units, now_s)
            else:
                self._reservations.release(name, now_s)

    def reserved_s(self, now_s: float) -> dict[str, dict[str, float]]:
        """Device-seconds so far by device and part, those of earlier processes of the run too."""
        found = {device: dict(parts) for device, parts in self._before.items()}
        for (device, part), seconds in self._reservations.device_s(now_s).items():
            parts = found.setdefault(device, {})
            parts[part] = parts.get(part, 0.0) + seconds
        return found

    def summary(self, now_s: float, marginal: float, frames: int) -> CostSummary:
        """The whole account; ``marginal`` is that of all invocations, ``frames`` were delivered."""
        reserved_s = self.reserved_s(now_s)
        by_part: dict[str, float] = {"workers": 0.0, "decode": 0.0, "encode": 0.0}
        for device, parts in reserved_s.items():
            for part, seconds in parts.items():
                by_part[part] = by_part.get(part, 0.0) + seconds * self._prices.of(device)
        reserved = sum(by_part.values())
        return CostSummary(
            unit=self._prices.unit,
            reserved=reserved,
            marginal=marginal,
            reserved_by=by_part,
            reserved_per_1000_frames=1000 * reserved / frames if frames else None,
            device_s={device: sum(parts.values()) for device, parts in reserved_s.items()},
            price_per_s=self._price,
        )


def _held_by(stages: list[StagePlan]) -> dict[str, float]:
    """What a worker that has these stages holds: as many cores as its widest replica, and each accelerator."""
    held: dict[str, float] = {_CPU: 1.0}
    for stage in stages:
        for number in range(stage.num_choices):
            variant = stage.choice(number).variant
            if variant is not None:
                units = float(max(1, variant.threads)) if variant.device == _CPU else 1.0
                held[variant.device] = max(held.get(variant.device, 0.0), units)
    return held


def _encoder_threads(sink: SinkPlan) -> int:
    """None of a sink that takes no pictures: what it writes is nothing beside them. One where it cannot be told."""
    if not any(edge.kind == "frames" for edge in sink.inputs):
        return 0
    declared = SINKS[sink.type].params if sink.type in SINKS else {}
    if "threads" not in declared:
        return 1
    return int(str(sink.params.get("threads", declared["threads"].default)))
