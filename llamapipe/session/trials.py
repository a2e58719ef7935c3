"""Trying configurations on held frames: the real engine in this process, and how far its results agree.

What is compared are the results that reach a sink and that no other result at a sink is made of: the tracks of a
pipeline that writes detections and tracks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from llamapipe.accuracy import agreement, average_precision_interval
from llamapipe.clock import Clock, Env
from llamapipe.data import Boxes
from llamapipe.errors import LlamapipeError
from llamapipe.operator import Manifest, PortKind
from llamapipe.report import RunSummary
from llamapipe.session.execute import run_held
from llamapipe.session.labelled import Row
from llamapipe.session.request import RunRequest
from llamapipe.session.results import FrameResult
from llamapipe.session.stretches import HeldVideo, Stretches
from llamapipe.session.tunable import Choice
from llamapipe.spec import PipelineSpec, upstream
from llamapipe.tune import Predicted, Tuning

__all__ = ["Evaluator", "Judge", "Trial", "Trials", "judged_results"]

_Z = 1.96  # of a 95 % interval
_SEED = 0
_USUAL_DEVIATION = 0.05  # relative, of a cost of which nothing else is known
_PARTS = 5  # of the frames, each of which tells the cost once
_PACED_S = 1.0  # of video that latency is measured on
_LEAST_PACED = 12  # frames


@dataclass(frozen=True, slots=True)
class Trial:
    """What a configuration came to. ``by_stage`` are core-seconds a frame, ``items`` items a frame."""

    predicted: Predicted
    took_s: float
    frames: int
    by_stage: Mapping[str, float] = field(default_factory=dict)
    items: Mapping[str, float] = field(default_factory=dict)


class Evaluator(Protocol):
    """Tries configurations. The first one that it is given is the reference."""

    def evaluate(self, choice: Choice, *, pace: Callable[[Predicted], bool]) -> Trial | None:
        """``pace`` says whether latency is worth measuring too, at the video's own rate, by what else was found.

        None: interrupted. Raises LlamapipeError where the configuration cannot be run.
        """
        ...


def judged_results(spec: PipelineSpec, manifests: Mapping[str, Manifest]) -> list[str]:
    """``stage.port`` of the boxes that are compared: at a sink, and no part of another one there."""
    drawn = [selector for sink in spec.sinks for selector in sink.inputs]
    if not drawn:
        drawn = [f"$ops.{op.name}.{port}" for op in spec.ops for port in manifests[op.name].outputs]
    boxes = {s for s in drawn if _kind(s, manifests) in (PortKind.BOXES, PortKind.TRACKS, PortKind.CLASSES)}
    made_of = {s: upstream(spec, s) - {_stage(s)} for s in boxes}
    final = [s for s in boxes if not any(_stage(s) in stages for other, stages in made_of.items() if other != s)]
    return sorted(s.removeprefix("$ops.") for s in final)


def _stage(selector: str) -> str:
    return selector.split(".")[1]


def _kind(selector: str, manifests: Mapping[str, Manifest]) -> PortKind | None:
    parts = selector.split(".")
    return manifests[parts[1]].outputs[parts[2]].kind if parts[0] == "$ops" else None


class Judge:
    """Scores results: by agreement with the first that it sees, or by AP where ``truths`` are given.

    ``truths`` are rows of labelled frames by index in the video; ``stage`` whose boxes they are compared with.
    """

    def __init__(
        self, results: Sequence[str], held: Stretches, truths: Mapping[int, Sequence[Row]] | None = None
    ) -> None:
        self._results = list(results)
        self._held = held
        self._truths = truths
        self._reference: list[Boxes] | None = None

    @property
    def metric(self) -> str:
        """``agreement``, ``ap50``, or ``none`` where nothing can be compared."""
        return "none" if not self._results else "agreement" if self._truths is None else "ap50"

    @property
    def found(self) -> int:
        """Boxes of the reference."""
        return sum(map(len, self._reference or ()))

    def score(self, frames: Mapping[int, FrameResult]) -> tuple[float, float, float] | None:
        """(value, low, high) of results by place among the held frames; None where there is nothing to compare."""
        if not self._results:
            return None
        found = [self._boxes(frames.get(at)) for at in range(len(self._held.frames))]
        rng = np.random.default_rng(_SEED)
        if self._truths is not None:
            return self._by_truth(found, self._truths, rng)
        if self._reference is None:
            self._reference = found
            return 1.0, 1.0, 1.0
        compared = agreement(found, self._reference, rng=rng)
        if compared.num_found + compared.num_reference == 0:
            n = len(found)  # both see nothing in any frame: how sure that is, by Wilson
            return 1.0, n / (n + _Z**2), 1.0
        return compared.f1, compared.low, compared.high

    def _boxes(self, result: FrameResult | None) -> Boxes:
        """All that is compared of a frame; labels are told apart by the result that they are of."""
        if result is None:
            return Boxes.empty()
        parts: list[Boxes] = []
        for name in self._results:
            value: Any = result.values.get(name)
            if isinstance(value, Boxes):
                parts.append(Boxes(value.xyxy, value.score, value.label, [f"{name}:{n}" for n in value.names]))
        return Boxes.concat(parts)

    def _by_truth(
        self, found: Sequence[Boxes], truths: Mapping[int, Sequence[Row]], rng: np.random.Generator
    ) -> tuple[float, float, float]:
        frames = [
            (boxes.xyxy, boxes.score, _corners(truths[index]))
            for boxes, index in zip(found, self._held.indices, strict=True)
            if index in truths
        ]
        return average_precision_interval(frames, 0.5, rng=rng)


def _corners(rows: Sequence[Row]) -> NDArray[np.float64]:
    return np.array([row.box for row in rows], float).reshape(-1, 4)


class Trials:
    """An `Evaluator` over the real engine.

    ``request`` is the run without what is tuned; ``blank`` a tuning of the pipeline without values.
    """

    def __init__(
        self,
        request: RunRequest,
        blank: Tuning,
        held: Stretches,
        judge: Judge,
        *,
        interrupt: threading.Event,
        clock: Clock,
        env: Env,
    ) -> None:
        self._request = request
        self._blank = blank
        self._held = held
        self._judge = judge
        self._interrupt = interrupt
        self._clock = clock
        self._env = env
        self._reference_s: NDArray[np.float64] | None = None

    def evaluate(self, choice: Choice, *, pace: Callable[[Predicted], bool]) -> Trial | None:
        """See `Evaluator`."""
        began_s = self._clock.now_s()
        frames: dict[int, FrameResult] = {}
        ends_s: list[float] = []

        def take(result: FrameResult) -> None:
            frames[result.frame] = _without_pictures(result)
            ends_s.append(self._clock.now_s())

        pinned = msgspec.structs.replace(self._blank, values=choice, objective="")
        request = replace(self._request, config=pinned)
        summary = self._run(request, HeldVideo(self._held, clock=self._clock), take)
        if summary is None:
            return None
        num = len(self._held.frames)
        by_stage = {s.name: s.busy_s * _threads(s.variant) / num for s in summary.stages}
        score = self._judge.score(frames)
        predicted = Predicted(
            cost_core_ms=max(1e-3, 1000 * sum(by_stage.values())),
            cost_deviation=self._deviation(ends_s),
            frames_per_s=summary.fps,
            accuracy=None if score is None else score[0],
            accuracy_low=None if score is None else score[1],
            accuracy_high=None if score is None else score[2],
        )
        if pace(predicted):
            paced = self._paced(request)
            if paced is None:
                return None
            num += paced.frames.decoded
            if (latency := paced.latency_ms) is not None:
                predicted = msgspec.structs.replace(
                    predicted, p50_ms=latency.p50, p95_ms=latency.p95, p99_ms=latency.p99
                )
        items = {s.name: s.items / len(self._held.frames) for s in summary.stages}
        return Trial(predicted, self._clock.now_s() - began_s, num, by_stage, items)

    def _paced(self, request: RunRequest) -> RunSummary | None:
        """The same at the video's own rate: as it would be served."""
        few = self._held.first(max(_LEAST_PACED, round(_PACED_S * self._held.fps)))
        request = replace(request, realtime=True, slo=self._blank.objective)
        return self._run(request, HeldVideo(few, clock=self._clock, paced=True), lambda _: None)

    def _run(self, request: RunRequest, video: HeldVideo, take: Any) -> RunSummary | None:
        summary = run_held(request, video, take, interrupt=self._interrupt, clock=self._clock, env=self._env)
        if summary.outcome == "cancelled" or self._interrupt.is_set():
            return None
        if summary.outcome == "failed":
            raise LlamapipeError(summary.error or "the trial failed")
        return summary

    def _deviation(self, ends_s: Sequence[float]) -> float:
        """How sure a cost is: by how much parts of the frames disagree on its ratio to the reference's.

        The frames are the same, so what is left is the noise of measuring.
        """
        if len(ends_s) < _PARTS + 1:
            return _USUAL_DEVIATION
        took_s = np.diff([ends_s[at] for at in np.linspace(0, len(ends_s) - 1, _PARTS + 1).astype(int)])
        if self._reference_s is None:
            self._reference_s = took_s
            return _USUAL_DEVIATION
        if np.any(took_s <= 0) or np.any(self._reference_s <= 0):
            return _USUAL_DEVIATION
        ratios = np.log(took_s / self._reference_s)
        return float(np.clip(np.std(ratios, ddof=1) / np.sqrt(_PARTS), 0.01, 0.3))


def _without_pictures(result: FrameResult) -> FrameResult:
    """Boxes alone: pictures would fill the memory."""
    return replace(result, values={name: value for name, value in result.values.items() if isinstance(value, Boxes)})


def _threads(variant: str | None) -> int:
    """Of a variant's name, which ends in ``/t2``; a stage without a model takes one."""
    return int(variant.rsplit("/t", 1)[1]) if variant is not None else 1
