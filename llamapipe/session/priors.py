"""What a search expects of configurations before it has tried them: cost by profiles, accuracy by what is usual.

Usual: agreement with a reference = product over stages of what another model keeps, a smaller input, a lower precision,
and boxes that are held for longer. The figures are rough ones of detectors on street scenes; they only say in which
order to look, and what is measured overrules them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, log2, sqrt

import numpy as np
from numpy.typing import NDArray

from llamapipe.catalog import Precision, Variant
from llamapipe.session.trials import Trial
from llamapipe.session.tunable import Tunable
from llamapipe.tune import Interval, Observation, Point, Space, Trend

__all__ = ["trend_of", "usual_accuracies"]

_LEVEL = 0.3  # by how much costs differ from profiles all together
_HINTS = 24
_HINT_NOISE = 0.5  # relative, of a cost that only the profiles tell
_HINT_WIDTH = 0.2  # of an accuracy that is only usual, either side
_OTHER_MODEL = 0.6
_PER_HALVING = 0.12  # of the input's side
_PER_SECOND = 0.5  # that boxes are held for longer
_BY_PRECISION = {Precision.FP32: 1.0, Precision.FP16: 0.99, Precision.BF16: 0.99, Precision.INT8: 0.95}


def trend_of(choices: Tunable, reference: Trial, fps: float) -> Trend | None:
    """Costs by profiles; None where a variant has none."""
    return _Profiled(choices, reference, fps) if _all_profiled(choices) else None


def usual_accuracies(choices: Tunable, space: Space, reference: Trial, fps: float) -> list[Observation]:
    """Hints: the usual accuracy of some points, spread over the space by cost. None of a pipeline without models.

    Knobs that the user names are not known to matter either way.
    """
    if reference.predicted.accuracy is None or not _all_profiled(choices):
        return []
    trend = _Profiled(choices, reference, fps)
    costs = np.exp(trend.mean(space.points))
    order = np.argsort(costs, kind="stable")
    picked = order[np.unique(np.linspace(0, len(order) - 1, _HINTS).round().astype(int))]
    found: list[Observation] = []
    for at in picked:
        point = space.points[at]
        usual = reference.predicted.accuracy * _usual(choices, point, fps)
        interval = Interval(usual, usual - _HINT_WIDTH, usual + _HINT_WIDTH)
        found.append(
            Observation(point, float(costs[at]), noise=_HINT_NOISE, measured={"accuracy": interval}, hint=True)
        )
    return found


def _usual(choices: Tunable, point: Point, fps: float) -> float:
    kept = 1.0
    for stage in choices.stages:
        variant, _ = choices.variant(point, stage)
        best, _ = choices.variant(choices.reference, stage)
        rate = choices.rate(point, stage, fps)
        held_s = (1 / rate - 1) / fps
        kept *= _kept(variant, best) * max(0.0, 1 - _PER_SECOND * held_s)
    return kept


def _kept(variant: Variant, best: Variant) -> float:
    precision = min(1.0, _BY_PRECISION[Precision(variant.precision)] / _BY_PRECISION[Precision(best.precision)])
    if variant.model != best.model:
        return _OTHER_MODEL * precision
    halvings = log2(sqrt(best.input_size[0] * best.input_size[1]) / sqrt(variant.input_size[0] * variant.input_size[1]))
    return max(0.0, 1 - _PER_HALVING * max(0.0, halvings)) * precision


def _all_profiled(choices: Tunable) -> bool:
    return bool(choices.stages) and all(
        stage.cost_s(variant, 1) is not None for stage in choices.stages for variant in stage.variants
    )


class _Profiled:
    """A `llamapipe.tune.search.Trend`: what profiles say that a point costs, given what the reference met in the video.

    Cost of a point = what stages without a model took + sum over the others of items a frame x share of frames looked
    at x core-seconds an item.
    """

    def __init__(self, choices: Tunable, reference: Trial, fps: float) -> None:
        self._choices = choices
        self._reference = reference
        self._fps = fps
        tuned = {stage.stage for stage in choices.stages}
        self._rest_s = sum(cost for name, cost in reference.by_stage.items() if name not in tuned)

    def mean(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """See `Trend`."""
        return np.array([log(self._core_ms(point)) for point in points])

    def features(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """See `Trend`: all profiles may be off by one factor, as of a machine that has other work."""
        return np.full((len(points), 1), _LEVEL)

    def _core_ms(self, point: Point) -> float:
        core_s = self._rest_s
        for stage in self._choices.stages:
            variant, batch = self._choices.variant(point, stage)
            cost_s = stage.cost_s(variant, batch) or 0.0
            items = self._reference.items.get(stage.stage, 1.0)
            core_s += items * self._choices.rate(point, stage, self._fps) * cost_s
        return max(1e-3, 1000 * core_s)
