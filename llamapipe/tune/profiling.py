"""Which variants and batches to measure, and what the others must then take.

A grid of variants and batches is fixed beforehand and a small share of it measured. The rest follows from structure
that is known of networks: latency is about proportional to the batch and to the picture's area, a library has its pace,
a network its work, more threads their gain; and every two of these have a little to do with each other. How much, is
learned from all measured points together (see `llamapipe.tune.search`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

from llamapipe.catalog import Variant
from llamapipe.errors import UsageError
from llamapipe.tune.search import Goal, Observation, Search
from llamapipe.tune.space import Knob, Point, Scale, Space
from llamapipe.tune.surrogate import Surrogate

__all__ = ["BATCHES", "SHARE", "Figures", "GridPoint", "ProfileSearch"]

BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Of the grid."""

SHARE = 0.15
"""Of the grid that is measured at most."""

GridPoint = tuple[Variant, int]
"""A variant loaded for a batch."""

_NOISE = 0.02  # relative, of a median; the search finds out by how much more two measurements differ
_SURE, _SURE_AT_WORST = 0.02, 0.05  # median and 95th percentile of the deviations at which no more is measured
_SMALL = 40  # points of a grid, of which a share would be too few to learn from
_SIDE = 320.0  # pixels of the square that sizes are compared with


@dataclass(frozen=True, slots=True)
class Figures:
    """What one invocation of a grid point takes, and loading it."""

    median_s: float
    p95_s: float
    core_s: float
    load_s: float
    memory_bytes: int
    count: int = 0  # calls measured; 0: predicted
    deviation: float = 0.0  # relative, of the median; of a prediction


class ProfileSearch:
    """Ask what to measure, tell what came of it, predict the whole grid. Deterministic by seed.

    ``known`` are medians of grid points of other models on the same machine: they tell of the libraries' paces.
    Raises UsageError for an empty grid.
    """

    def __init__(
        self,
        grid: Sequence[GridPoint],
        *,
        known: Mapping[GridPoint, float] | None = None,
        share: float = SHARE,
        seed: int = 0,
    ) -> None:
        known = known if known is not None else {}
        if not grid:
            raise UsageError("there is no variant to measure")
        self._share = share
        # Two sizes of the same area are one point: what is measured of the first is said of both.
        self._of_point: dict[Point, list[GridPoint]] = {}
        for variant, batch in grid:
            self._of_point.setdefault(_point(variant, batch), []).append((variant, batch))
        every = [*self._of_point, *(_point(variant, batch) for variant, batch in known)]
        categories = ("model", "engine")
        knobs = [
            Knob(name, tuple(dict.fromkeys(point[at] for point in every)), Scale.CATEGORY)
            for at, name in enumerate(categories)
        ]
        knobs += [
            Knob(name, tuple(sorted({point[at] for point in every})), Scale.LOG)
            for at, name in enumerate(("side", "threads", "batch"), len(categories))
        ]
        self._space = Space(knobs, tuple(self._of_point))
        self._trend = _Trend(self._space)
        self._search = Search(self._space, goal=Goal.EXPLORE, trend=self._trend, seed=seed, initial=2)
        self._measured: dict[Point, Figures] = {}
        self._failed: dict[Point, None] = {}
        for (variant, batch), median_s in known.items():
            self._search.tell(Observation(_point(variant, batch), median_s, noise=2 * _NOISE, hint=True))

    @property
    def budget(self) -> int:
        """Points that may be measured: a share of those that can be.

        Of a small grid one a library and precision of each model at least: nothing else tells of its pace.
        """
        points = [point for point in self._of_point if point not in self._failed]
        share = int(self._share * len(points) + 1e-9)
        return max(share, len({(model, engine) for model, engine, *_ in points}) if len(points) < _SMALL else 1)

    @property
    def num_measured(self) -> int:
        """Points that were told so far."""
        return len(self._measured)

    @property
    def num_points(self) -> int:
        """Of the grid, without those that cannot be had."""
        return len(self._of_point) - len(self._failed)

    @property
    def measured(self) -> dict[GridPoint, Figures]:
        """What was told."""
        return {self._of_point[point][0]: figures for point, figures in self._measured.items()}

    def ask(self) -> GridPoint | None:
        """What to measure next; None when the budget is used up or the model sure enough."""
        if self.num_measured >= self.budget or self._is_sure():
            return None
        asked = self._search.ask()
        return self._of_point[asked[0]][0] if asked else None

    def tell(self, variant: Variant, batch: int, figures: Figures) -> None:
        """Take in what a point of the grid took."""
        point = _point(variant, batch)
        self._measured[point] = figures
        self._search.tell(Observation(point, figures.median_s, noise=_NOISE))

    def fail(self, unwanted: Callable[[Variant, int], bool]) -> None:
        """Points that cannot be had are not part of the grid."""
        for point, (first, *_) in self._of_point.items():
            if unwanted(*first):
                self._failed[point] = None
                self._search.fail(point)

    def predict(self) -> dict[GridPoint, Figures]:
        """All that can be had of the grid: measured where it was, else predicted. Raises UsageError before any."""
        if not self._measured:
            raise UsageError("nothing was measured yet, so nothing can be predicted")
        points = [point for point in self._of_point if point not in self._failed]
        prediction = self._search.predict(points)
        seen = list(self._measured)
        told = list(self._measured.values())
        tail = self._aside(seen, [max(0.0, log(f.p95_s / f.median_s)) for f in told], points, scale=0.1, noise=0.05)
        work = self._aside(seen, [log(max(f.core_s, 1e-9) / f.median_s) for f in told], points, scale=0.3, noise=0.03)
        load = self._aside(seen, [log(max(f.load_s, 1e-4)) for f in told], points, scale=1.0, noise=0.1)
        memory = self._aside(seen, [log(max(f.memory_bytes, 1e5)) for f in told], points, scale=0.7, noise=0.05)
        found: dict[GridPoint, Figures] = {}
        for at, point in enumerate(points):
            median_s = float(prediction.value[at])
            figures = self._measured.get(point) or Figures(
                median_s,
                median_s * float(np.exp(max(0.0, tail[at]))),
                median_s * float(np.exp(work[at])),
                float(np.exp(load[at])),
                int(np.exp(memory[at])),
                deviation=float(prediction.deviation[at]),
            )
            for grid_point in self._of_point[point]:
                found[grid_point] = figures if grid_point == self._of_point[point][0] else replace(figures, count=0)
        return found

    def _is_sure(self) -> bool:
        if len(self._measured) < 4:
            return False
        points = [point for point in self._of_point if point not in self._failed]
        deviation = self._search.predict(points).deviation
        return bool(np.median(deviation) <= _SURE and np.percentile(deviation, 95) <= _SURE_AT_WORST)

    def _aside(
        self, seen: Sequence[Point], values: Sequence[float], points: Sequence[Point], *, scale: float, noise: float
    ) -> NDArray[np.float64]:
        """Other figures go by the same structure, around their mean: ``scale`` is by how much they differ."""
        y = np.array(values)
        centre = float(np.mean(y))
        space, trend = self._space, self._trend
        model = Surrogate(
            space.encode(seen), y - centre, np.full(len(y), noise), scale * trend.features(seen, level=1.0)
        )
        return model.predict(space.encode(points), scale * trend.features(points, level=1.0))[0] + centre


def _point(variant: Variant, batch: int) -> Point:
    height, width = variant.input_size
    engine = f"{variant.backend}/{variant.device}/{variant.precision}"
    return (variant.model, engine, round(sqrt(height * width), 2), variant.threads, batch)


class _Trend:
    """See `llamapipe.tune.search.Trend`. The scales say by how much latencies on CPUs were seen to differ."""

    def __init__(self, space: Space) -> None:
        self._models = space.knobs[0].values
        self._engines = space.knobs[1].values

    def mean(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """By batch and area: 100 nanoseconds a pixel, which the level then corrects."""
        _, _, sides, _, batches = _columns(points)
        expected: NDArray[np.float64] = np.log(batches) + 2 * np.log(sides) - 16.0
        return expected

    def features(self, points: Sequence[Point], *, level: float = 2.0) -> NDArray[np.float64]:
        """See the module."""
        models, engines, sides, threads, batches = _columns(points)
        model = _one_hot(models, self._models)
        engine = _one_hot(engines, self._engines)
        pair = (model[:, :, None] * engine[:, None, :]).reshape(len(points), -1)
        size = np.log(sides / _SIDE)[:, None]
        gain = np.log2(threads)[:, None]
        alone = (1 / batches)[:, None]  # what is done once, however many pictures
        many = np.log2(batches)[:, None] / 5
        return np.concatenate(
            [
                np.full((len(points), 1), level),
                1.0 * model,
                0.7 * engine,
                0.3 * pair,
                *(0.3 * size, 0.15 * size * engine, 0.15 * size * model),
                *(0.4 * gain, 0.2 * gain * engine, 0.15 * gain * model, 0.1 * gain * size, 0.15 * gain * alone),
                *(0.3 * alone, 0.2 * alone * engine, 0.2 * alone * model, 0.2 * alone * size),
                *(0.2 * many, 0.15 * many * engine, 0.15 * many * model, 0.1 * many * size, 0.1 * many * gain),
            ],
            axis=1,
        )


def _columns(
    points: Sequence[Point],
) -> tuple[list[str], list[str], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    models, engines, sides, threads, batches = zip(*points, strict=True)
    return (
        list(models),
        list(engines),
        np.array(sides, np.float64),
        np.array(threads, np.float64),
        np.array(batches, np.float64),
    )


def _one_hot(values: Sequence[str], known: Sequence[object]) -> NDArray[np.float64]:
    return np.array([[value == one for one in known] for value in values], np.float64)
