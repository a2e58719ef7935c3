"""What a search expects of configurations before it has tried them: cost by profiles, accuracy by what is usual.

Speed and latency follow from cost: beside what stages without a model take, a frame waits for its networks.

Each is given as a mean and as what may make all of it wrong at once, each a column of features whose weight is normal
around zero with a deviation of about one (see `llamapipe.tune.search.Trend`): one trial of a model then tells of all
that runs this model, at whatever size and rate. Taken for an error of every point by itself, the same guess would
look the surer the more points there are, and a model that is usually worse would never be given its one trial.

Cost: items x core-seconds an item, by the profile; without profiles by the pixels of a network's input. Accuracy: the
product over stages of what is usually kept by another model, a smaller input, a lower precision, and boxes that are
held for longer. The figures are rough ones of detectors on street scenes, and what is measured overrules them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import log, log2

import numpy as np
from numpy.typing import NDArray

from llamapipe.catalog import Precision, Variant
from llamapipe.session.trials import Trial
from llamapipe.session.tunable import StageChoices, Tunable
from llamapipe.tune import Point, Trend

__all__ = ["accuracy_trend", "cost_trend", "is_profiled", "latency_trend", "pace_trend"]

# Deviations of the logarithm of a cost.
_LEVEL = 0.3  # of profiles all together, as on a machine that has other work
_LIKE = 0.2  # of a model's, of an engine's, and of full batches' profiles
_OWN = 0.15  # of one profile by itself
_UNTOLD_MODEL = 1.0  # of a model that was not profiled, against the reference's of as many pixels
_UNTOLD_ENGINE = 0.5
_ANYHOW = 0.1  # of the reference's cost: what a frame takes whatever runs, beyond what the stages' shares tell

# Of an accuracy: what is usual, and the deviation of it.
_OTHER_MODEL = (0.6, 0.2)
_PER_HALVING = (0.12, 0.12)  # of the input's side
_PER_SECOND = (0.5, 0.5)  # that boxes are held for longer
_HELD = 0.05  # deviation of what is lost by holding boxes at all: much where the camera itself moves
_BY_PRECISION = {Precision.FP32: 1.0, Precision.FP16: 0.99, Precision.BF16: 0.99, Precision.INT8: 0.95}
_LOWER = 0.05  # deviation of what a lower precision keeps


def is_profiled(choices: Tunable) -> bool:
    """Whether the cost of every variant is known."""
    return bool(choices.stages) and all(
        stage.cost_s(variant, 1) is not None for stage in choices.stages for variant in stage.variants
    )


def cost_trend(choices: Tunable, reference: Trial, fps: float) -> Trend | None:
    """Of the logarithm of core-milliseconds a frame; None where no stage has a model."""
    return _Costs(choices, reference, fps) if choices.stages else None


def pace_trend(choices: Tunable, reference: Trial, fps: float) -> Trend | None:
    """Of the logarithm of seconds a frame, read as fast as it can be; None where no stage has a model."""
    return _Paces(_Costs(choices, reference, fps), reference) if choices.stages else None


def latency_trend(choices: Tunable, reference: Trial, fps: float, known_s: float | None) -> Trend | None:
    """Of the logarithm of a frame's latency, seconds; None where no stage has a model.

    ``known_s`` is the reference's, None where it was not measured.
    """
    return _Latencies(_Costs(choices, reference, fps), known_s) if choices.stages else None


def accuracy_trend(choices: Tunable, reference: Trial, fps: float) -> Trend | None:
    """Of accuracy; None where no stage has a model, or nothing can be compared.

    Knobs that the user names are not known to matter either way.
    """
    known = reference.predicted.accuracy
    return None if known is None or not choices.stages else _Accuracies(choices, known, fps)


class _Costs:
    """A `Trend`: what a point costs, given what the reference met in the video.

    Cost of a point = what stages without a model took + sum over the others of items a frame x share of frames looked
    at x core-seconds an item.
    """

    def __init__(self, choices: Tunable, reference: Trial, fps: float) -> None:
        self._choices = choices
        self._reference = reference
        self._fps = fps
        tuned = {stage.stage for stage in choices.stages}
        self._rest_s = sum(cost for name, cost in reference.by_stage.items() if name not in tuned)
        self._is_profiled = is_profiled(choices)
        self._reference_ms = self._core_ms(choices.reference)

    def mean(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """See `Trend`."""
        return np.array([log(self._core_ms(point)) for point in points])

    def features(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """See `Trend`."""
        model, engine = (_LIKE, _LIKE) if self._is_profiled else (_UNTOLD_MODEL, _UNTOLD_ENGINE)
        columns = [np.full(len(points), _LEVEL)]
        columns.append(np.array([_ANYHOW * self._reference_ms / self._core_ms(point) for point in points]))
        columns += _columns(self._choices, points, lambda v: v.model, model)
        columns += _columns(self._choices, points, lambda v: f"{v.backend}/{v.device}/{v.precision}", engine)
        columns += _columns(self._choices, points, lambda v: v.name, _OWN)
        for stage in self._choices.stages:
            columns.append(np.array([_LIKE * (self._choices.variant(point, stage)[1] > 1) for point in points]))
        return np.stack(columns, axis=1)

    def networks_s(self, point: Point) -> float:
        """That a frame waits for the networks of the stages, one after another."""
        waits_s = 0.0
        for stage in self._choices.stages:
            variant, batch = self._choices.variant(point, stage)
            calls = max(1.0, self._reference.items.get(stage.stage, 1.0) / batch)
            waits_s += calls * batch * self._item_s(stage, variant, batch) / variant.threads
        return waits_s

    @property
    def rest_s(self) -> float:
        """That stages without a model take of a frame."""
        return self._rest_s

    @property
    def reference(self) -> Point:
        """What others are compared with."""
        return self._choices.reference

    def _core_ms(self, point: Point) -> float:
        core_s = self._rest_s
        for stage in self._choices.stages:
            variant, batch = self._choices.variant(point, stage)
            items = self._reference.items.get(stage.stage, 1.0)
            rate = self._choices.looked_at(point, stage, self._fps)
            # A network takes as long for a batch that is not full, and of every nth frame alone 1/n as many meet.
            fill = max(1.0, rate * batch)
            core_s += items * rate * self._item_s(stage, variant, batch) * batch / fill
        return max(1e-3, 1000 * core_s)

    def _item_s(self, stage: StageChoices, variant: Variant, batch: int) -> float:
        cost_s = stage.cost_s(variant, batch)
        if self._is_profiled and cost_s is not None:
            return cost_s
        best, _ = self._choices.variant(self._choices.reference, stage)
        rate = self._choices.rate(self._choices.reference, stage, self._fps)
        items = rate * self._reference.items.get(stage.stage, 1.0)
        known_s = self._reference.by_stage.get(stage.stage, 0.0) / max(items, 1e-6)
        return known_s * _pixels(variant) / _pixels(best)


class _Paces:
    """A `Trend`: seconds a frame go with cost, whatever number of workers shares it."""

    def __init__(self, costs: _Costs, reference: Trial) -> None:
        self._costs = costs
        pace_s = 1 / max(reference.predicted.frames_per_s, 1e-6)
        self._shift = log(pace_s) - float(costs.mean([costs.reference])[0])

    def mean(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """See `Trend`."""
        return self._costs.mean(points) + self._shift

    def features(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """See `Trend`."""
        return self._costs.features(points)


class _Latencies:
    """A `Trend`: what a frame waits for its networks, and for all else as long as it does with the reference's."""

    def __init__(self, costs: _Costs, known_s: float | None) -> None:
        self._costs = costs
        networks_s = costs.networks_s(costs.reference)
        self._rest_s = costs.rest_s if known_s is None else max(costs.rest_s, known_s - networks_s)

    def mean(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """See `Trend`."""
        return np.array([log(max(1e-5, self._rest_s + self._costs.networks_s(point))) for point in points])

    def features(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """See `Trend`."""
        return self._costs.features(points)


class _Accuracies:
    """A `Trend`: what is usually kept of the reference's accuracy."""

    def __init__(self, choices: Tunable, reference: float, fps: float) -> None:
        self._choices = choices
        self._reference = reference
        self._fps = fps

    def mean(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """See `Trend`."""
        return np.array([self._reference * self._kept(point) for point in points])

    def features(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """See `Trend`."""
        choices = self._choices
        columns: list[NDArray[np.float64]] = []
        for stage in choices.stages:
            best, _ = choices.variant(choices.reference, stage)
            variants = [choices.variant(point, stage)[0] for point in points]
            held_s = np.array([self._held_s(point, stage) for point in points], np.float64)
            columns.append(_PER_HALVING[1] * np.array([_halvings(v, stage, best) for v in variants]))
            columns.append(_LOWER * np.array([v.precision != best.precision for v in variants]))
            columns += [_PER_SECOND[1] * held_s, np.where(held_s > 0, _HELD, 0.0)]
            # Boxes are held while nothing moves: nothing is usually lost, and more where it is asked for more.
            columns += [_HELD * np.array([choices.skipped(point, stage) >= s for point in points]) for s in stage.looks]
        columns += _columns(choices, points, lambda v: v.model, _OTHER_MODEL[1], but_reference=True)
        return np.stack(columns, axis=1)

    def _kept(self, point: Point) -> float:
        kept = 1.0
        for stage in self._choices.stages:
            variant, _ = self._choices.variant(point, stage)
            best, _ = self._choices.variant(self._choices.reference, stage)
            kept *= max(0.0, 1 - _PER_HALVING[0] * _halvings(variant, stage, best))
            kept *= min(1.0, _BY_PRECISION[Precision(variant.precision)] / _BY_PRECISION[Precision(best.precision)])
            kept *= max(0.0, 1 - _PER_SECOND[0] * self._held_s(point, stage))
            kept *= _OTHER_MODEL[0] if variant.model != best.model else 1.0
        return kept

    def _held_s(self, point: Point, stage: StageChoices) -> float:
        """How long boxes are held for at most."""
        return (1 / self._choices.rate(point, stage, self._fps) - 1) / self._fps


def _halvings(variant: Variant, stage: StageChoices, best: Variant) -> float:
    """Of the input's side, from the reference's, or from another model's own largest."""
    largest = _pixels(best)
    if variant.model != best.model:
        largest = max(_pixels(other) for other in stage.variants if other.model == variant.model)
    return max(0.0, 0.5 * log2(largest / _pixels(variant)))


def _pixels(variant: Variant) -> int:
    return variant.input_size[0] * variant.input_size[1]


def _columns(
    choices: Tunable,
    points: Sequence[Point],
    of: Callable[[Variant], str],
    deviation: float,
    *,
    but_reference: bool = False,
) -> Iterator[NDArray[np.float64]]:
    """A feature for each thing that a stage's variants may have, where there are several of them."""
    for stage in choices.stages:
        known = dict.fromkeys(map(of, stage.variants))
        has = [of(choices.variant(point, stage)[0]) for point in points]
        best = of(choices.variant(choices.reference, stage)[0])
        for one in known if len(known) > 1 else ():
            if not but_reference or one != best:
                yield deviation * np.array([other == one for other in has], np.float64)
