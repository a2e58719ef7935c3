"""Trying configurations on held frames: the real engine in this process, and how far its results agree.

What is compared are the results that reach a sink and that no other result at a sink is made of: the tracks of a
pipeline that writes detections and tracks.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from llamapipe.accuracy import agreement, average_precision_interval
from llamapipe.catalog import Variant
from llamapipe.clock import Clock, Env
from llamapipe.data import Boxes
from llamapipe.errors import LlamapipeError
from llamapipe.inference import AssetStore, cache_root, load_predictor
from llamapipe.operator import Manifest, PortKind
from llamapipe.report import RunSummary, StageSummary
from llamapipe.session.execute import run_held
from llamapipe.session.labelled import Row
from llamapipe.session.request import RunRequest
from llamapipe.session.results import FrameResult
from llamapipe.session.stretches import HeldVideo, Stretches
from llamapipe.session.tunable import Choice
from llamapipe.spec import CORE_SECONDS, PipelineSpec, Prices
from llamapipe.tune import Predicted, Tuning

__all__ = ["Evaluator", "Judge", "Trial", "Trials", "judged_results", "run_trial"]

_Z = 1.96  # of a 95 % interval
_SEED = 0
_Z_95 = 1.645  # of a 95th percentile
_DEVIATIONS = (0.03, 0.3)  # least and most of a cost: two runs are never equal
_PACED_S = 0.6  # of video that latency is measured on
_PACED_LONGER_S = 2.0  # the same, where a few late frames decide: the first ones of a run are, whatever it runs
_FEWEST = 40  # frames of a trial
_MOST_NETWORKS = 4
_LEAST_PACED = 12  # frames


@dataclass(frozen=True, slots=True)
class Trial:
    """What a configuration came to.

    ``by_stage`` are core-seconds a frame, other devices' by their price against a core's; ``items`` items a frame.
    """

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
    made_of = {s: _sources_of(s, spec, manifests) for s in boxes}
    final = [s for s in boxes if not any(s in parts for other, parts in made_of.items() if other != s)]
    return sorted(s.removeprefix("$ops.") for s in final)


def _sources_of(selector: str, spec: PipelineSpec, manifests: Mapping[str, Manifest]) -> set[str]:
    """The boxes that a result is made of: faces in crops of people are other things than these people."""
    inputs = {op.name: [s for selectors in op.inputs.values() for s in selectors] for op in spec.ops}
    found: set[str] = set()
    waiting = [selector]
    while waiting:
        for source in inputs[waiting.pop().split(".")[1]]:
            if source not in found and _kind(source, manifests) not in (None, PortKind.FRAMES):
                found.add(source)
                waiting.append(source)
    return found


def _kind(selector: str, manifests: Mapping[str, Manifest]) -> PortKind | None:
    parts = selector.split(".")
    return manifests[parts[1]].outputs[parts[2]].kind if parts[0] == "$ops" else None


class Judge:
    """Scores results: by agreement with the first that it sees, or by AP where ``truths`` are given.

    ``truths`` are rows of labelled frames by index in the video; ``stage`` whose boxes they are compared with.
    """

    def __init__(self, results: Sequence[str], truths: Mapping[int, Sequence[Row]] | None = None) -> None:
        self._results = list(results)
        self._truths = truths
        self._reference: dict[int, Boxes] | None = None  # by index in the video

    @property
    def metric(self) -> str:
        """``agreement``, ``ap50``, or ``none`` where nothing can be compared."""
        return "none" if not self._results else "agreement" if self._truths is None else "ap50"

    @property
    def found(self) -> int:
        """Boxes of the reference."""
        return sum(map(len, (self._reference or {}).values()))

    def count(self, result: FrameResult) -> int:
        """Boxes of a frame that are compared."""
        return len(self.boxes(result))

    def score(self, frames: Mapping[int, FrameResult]) -> tuple[float, float, float] | None:
        """(value, low, high) of results by index in the video; None where there is nothing to compare.

        What comes first is the reference, and has all frames; others may have some of them.
        """
        if not self._results:
            return None
        boxes = {index: self.boxes(frame) for index, frame in frames.items()}
        rng = np.random.default_rng(_SEED)
        if self._truths is not None:
            return self._by_truth(boxes, self._truths, rng)
        if self._reference is None:
            self._reference = boxes
            return 1.0, 1.0, 1.0
        found = list(boxes.values())
        compared = agreement(found, [self._reference.get(index, Boxes.empty()) for index in boxes], rng=rng)
        if compared.num_found + compared.num_reference == 0:
            n = len(found)  # both see nothing in any frame: how sure that is, by Wilson
            return 1.0, n / (n + _Z**2), 1.0
        return compared.f1, compared.low, compared.high

    def boxes(self, result: FrameResult) -> Boxes:
        """All that is compared of a frame; labels are told apart by the result that they are of."""
        parts: list[Boxes] = []
        for name in self._results:
            value: Any = result.values.get(name)
            if isinstance(value, Boxes):
                parts.append(Boxes(value.xyxy, value.score, value.label, [f"{name}:{n}" for n in value.names]))
        return Boxes.concat(parts)

    def _by_truth(
        self, found: Mapping[int, Boxes], truths: Mapping[int, Sequence[Row]], rng: np.random.Generator
    ) -> tuple[float, float, float]:
        """Average precision; where the truth has labels the mean over them, as `llamapipe eval` has it."""
        named = {row.label for index in found for row in truths.get(index, ())}
        labels = [""] if "" in named else sorted(named) or [""]
        each = [average_precision_interval(_of_label(found, truths, label), 0.5, rng=rng) for label in labels]
        value, low, high = np.mean(each, axis=0)
        return float(value), float(low), float(high)


def _of_label(
    found: Mapping[int, Boxes], truths: Mapping[int, Sequence[Row]], label: str
) -> list[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]]:
    """Boxes, scores and true boxes of a label (empty: of all) in every labelled frame."""
    frames = []
    for index, boxes in found.items():
        if index in truths:
            keep = np.array([not label or name.rpartition(":")[2] == label for name in boxes.labels], bool)
            rows = [row for row in truths[index] if not label or row.label == label]
            frames.append((boxes.xyxy[keep], boxes.score[keep], _corners(rows)))
    return frames


def _corners(rows: Sequence[Row]) -> NDArray[np.float64]:
    return np.array([row.box for row in rows], float).reshape(-1, 4)


class Trials:
    """An `Evaluator` over the real engine.

    ``request`` is the run without what is tuned; ``blank`` a tuning of the pipeline without values. The first trial
    finds out how many frames are looked at from then on: as many as ``enough`` boxes are in, and no more than it can
    work off in ``reference_s``.
    """

    def __init__(
        self,
        request: RunRequest,
        blank: Tuning,
        held: Stretches,
        judge: Judge,
        *,
        reference_s: float,
        enough: int,
        interrupt: threading.Event,
        clock: Clock,
        env: Env,
        prices: Prices = CORE_SECONDS,
    ) -> None:
        self._request = request
        self._prices = prices
        self._blank = blank
        self._held = held
        self._all_held = held  # for latency: frames that are not compared cost no time of their own
        self._judge = judge
        self._interrupt = interrupt
        self._clock = clock
        self._env = env
        self._spare_s = reference_s
        self._enough = enough
        self._kept = LoadedNetworks(AssetStore(cache_root(env), env=env))
        self._is_settled = False

    @property
    def num_frames(self) -> int:
        """That are looked at."""
        return len(self._held.frames)

    def close(self) -> None:
        """Let go of the networks."""
        self._kept.close()

    def evaluate(self, choice: Choice, *, pace: Callable[[Predicted], bool]) -> Trial | None:
        """See `Evaluator`."""
        began_s = self._clock.now_s()
        request = replace(self._request, config=msgspec.structs.replace(self._blank, values=choice, objective=""))
        self._kept.keep_of(choice)
        num = 0
        looked = None
        if not self._is_settled:
            looked = self._settle(request)
            if looked is None:
                return None
            num = len(looked[1])
            took_s = self._clock.now_s() - began_s
            if len(self._held.frames) > num or self._spare_s > took_s:
                looked = None  # there is time to see all of them, or the same ones again without what begins a run
        held = self._held
        if looked is None:
            looked = self._look(request, held)
            if looked is None:
                return None
            num += len(held.frames)
        summary, frames = looked
        by_stage = {s.name: s.busy_s * _cores(s.variant, self._prices) / len(held.frames) for s in summary.stages}
        score = self._judge.score(frames)
        predicted = Predicted(
            cost_core_ms=max(1e-3, 1000 * sum(by_stage.values())),
            cost_deviation=_deviation(summary.stages),
            frames_per_s=summary.fps,
            accuracy=None if score is None else score[0],
            accuracy_low=None if score is None else score[1],
            accuracy_high=None if score is None else score[2],
        )
        if pace(predicted):
            paced = self._paced(request, predicted)
            if paced is None:
                return None
            num += paced.frames.decoded
            if (latency := paced.latency_ms) is not None:
                predicted = msgspec.structs.replace(
                    predicted, p50_ms=latency.p50, p95_ms=latency.p95, p99_ms=latency.p99
                )
        items = {s.name: s.items / len(held.frames) for s in summary.stages}
        return Trial(predicted, self._clock.now_s() - began_s, num, by_stage, items)

    def _look(self, request: RunRequest, held: Stretches) -> tuple[RunSummary, dict[int, FrameResult]] | None:
        """Work frames off, and keep the results by index in the video. None: interrupted."""
        frames: dict[int, FrameResult] = {}

        def take(result: FrameResult) -> None:
            frames[held.indices[result.frame]] = _without_pictures(result)

        summary = self._run(request, HeldVideo(held, clock=self._clock), take)
        return None if summary is None else (summary, frames)

    def _settle(self, request: RunRequest) -> tuple[RunSummary, dict[int, FrameResult]] | None:
        """Keep as many of the frames as time is for, by a few that are worked off first, and return what these gave.

        None: interrupted.
        """
        looked = self._look(request, self._held.first(_FEWEST))
        if looked is None:
            return None
        summary, frames = looked
        boxes = [self._judge.count(result) for result in frames.values()]
        wanted = self._enough * len(boxes) / sum(boxes) if sum(boxes) else len(self._held.frames)
        if self._judge.metric == "none":
            wanted = 0
        self._held = self._held.first(max(_FEWEST, round(min(wanted, self._spare_s * summary.fps))))
        self._is_settled = True
        return looked

    def _paced(self, request: RunRequest, predicted: Predicted) -> RunSummary | None:
        """The same at the video's own rate: as it would be served, by as many workers as that cost takes."""
        config = msgspec.structs.replace(cast(Tuning, request.config), predicted=predicted)
        request = replace(request, realtime=True, slo=self._blank.objective, config=config)
        summary = None
        for length_s in (_PACED_S, _PACED_LONGER_S):
            few = self._all_held.first(max(_LEAST_PACED, round(length_s * self._held.fps)))
            summary = self._run(request, HeldVideo(few, clock=self._clock, paced=True), lambda _: None)
            if summary is None or not _is_missed_by_few(summary):
                break
        return summary

    def _run(self, request: RunRequest, video: HeldVideo, take: Callable[[FrameResult], None]) -> RunSummary | None:
        return run_trial(request, video, take, interrupt=self._interrupt, clock=self._clock, env=self._env)


def run_trial(
    request: RunRequest,
    video: HeldVideo,
    take: Callable[[FrameResult], None],
    *,
    interrupt: threading.Event,
    clock: Clock,
    env: Env,
) -> RunSummary | None:
    """Run on held frames. None: interrupted, at once. Raises LlamapipeError where it cannot be run."""

    def take_in_time(result: FrameResult) -> None:
        # What is decoded is finished even when a run is interrupted; a sink that fails ends it at once.
        if interrupt.is_set():
            raise LlamapipeError("the time is up")
        take(result)

    summary = run_held(request, video, take_in_time, interrupt=interrupt, clock=clock, env=env)
    if summary.outcome == "cancelled" or interrupt.is_set():
        return None
    if summary.outcome == "failed":
        raise LlamapipeError(summary.error or "the trial failed")
    return summary


def _is_missed_by_few(summary: RunSummary) -> bool:
    """Whether a longer look may find that a latency objective is met: most frames are in time.

    Of so few frames one is the 95th percentile, and the first ones of a run are late whatever it runs.
    """
    slo, latency = summary.slo, summary.latency_ms
    if slo is None or slo.met or slo.limit is None or latency is None:
        return False
    return latency.p50 <= slo.limit


def _deviation(stages: Sequence[StageSummary]) -> float:
    """How sure a cost is, relative: by how much invocations of a stage differ, over as many as there were."""
    variance = 0.0
    for stage in stages:
        if stage.latency_ms is not None:
            each_s = (stage.latency_ms.p95 - stage.latency_ms.p50) / 1000 / _Z_95
            variance += stage.invocations * each_s**2
    whole_s = sum(stage.busy_s for stage in stages)
    return float(np.clip(np.sqrt(variance) / whole_s, *_DEVIATIONS)) if whole_s > 0 else _DEVIATIONS[1]


class LoadedNetworks:
    """Keeps the networks of the last trials loaded: the next is likely to differ in a sampling rate alone."""

    def __init__(self, assets: AssetStore) -> None:
        self._assets = assets
        self._kept: dict[tuple[Variant, int], Any] = {}

    def keep_of(self, choice: Choice) -> None:
        """Load what a configuration runs, unless it is, and let go of what was not used for longest.

        What cannot be loaded is left to the run, which says why.
        """
        for key in _variants(choice):
            kept = self._kept.pop(key, None)
            with contextlib.suppress(LlamapipeError):
                self._kept[key] = kept or load_predictor(key[0], batch=key[1], assets=self._assets)
        while len(self._kept) > _MOST_NETWORKS:
            self._kept.pop(next(iter(self._kept))).close()

    def close(self) -> None:
        """Let go of all."""
        while self._kept:
            self._kept.popitem()[1].close()


def _variants(choice: Choice) -> Iterator[tuple[Variant, int]]:
    """(variant, batch) of every stage that a choice names the model of."""
    for key, model in choice.items():
        stage, _, knob = key.rpartition(".")
        if knob == "model":
            backend, device, precision = (str(choice[f"{stage}.{name}"]) for name in ("backend", "device", "precision"))
            height, width = choice[f"{stage}.input_size"]
            variant = Variant(str(model), backend, device, precision, (int(height), int(width)))
            yield variant, int(choice[f"{stage}.batch"])


def _without_pictures(result: FrameResult) -> FrameResult:
    """Boxes alone: pictures would fill the memory."""
    return replace(result, values={name: value for name, value in result.values.items() if isinstance(value, Boxes)})


def _cores(variant: str | None, prices: Prices) -> float:
    """What a second of an invocation counts as: threads of a name that ends in ``/t2``, by the price of its device.

    A stage without a model takes one core.
    """
    if variant is None:
        return 1.0
    device = variant.split("/")[2]
    return int(variant.rsplit("/t", 1)[1]) * prices.in_cores(device)
