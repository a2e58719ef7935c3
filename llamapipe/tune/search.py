"""Where to measure next: Bayesian search over a space of few points that are dear to measure.

`ask` names points, whoever can measures them, `tell` hands back what was found. Two goals: the least value under
constraints, or a model that is sure of the whole space. Values are above zero and modelled by their natural logarithm:
what matters of a latency or a cost is its ratio to others.

Notation: f(x) the logarithm of the value, with posterior mean m and deviation s (see `Surrogate`); each constraint a
process of its own, from which P(x), the probability that x meets all. Acquisitions, after
- expected constrained improvement: E[max(0, f* - f(x))] P(x), f* the least posterior mean that is feasible (Gardner et
  al., "Bayesian Optimization with Inequality Constraints", 2014); P(x) alone while nothing is feasible;
- divided by the expected cost of measuring to a power that falls from 1 to 0 as the budget is spent (Lee et al.,
  "Cost-aware Bayesian Optimization", 2020);
- least sure: the largest fall of the summed posterior variance of all points (active learning after Cohn, 1996).

Nothing here reads a clock or keeps a random generator: what `ask` says follows from the seed and what it was told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf, log
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from llamapipe.errors import UsageError
from llamapipe.tune.space import Point, Space
from llamapipe.tune.surrogate import Surrogate

__all__ = ["Best", "Constraint", "Goal", "Interval", "Observation", "Prediction", "Search", "SearchState", "Trend"]


class Trend(Protocol):
    """Known structure of a landscape (the value's logarithm, or a constraint): the process models what it leaves."""

    def mean(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """What is expected before anything is measured, (points,)."""
        ...

    def features(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """(points, k): what is found deviates from the mean by a weighted sum of these.

        Each weight is normal around zero with a deviation of about one: scale a column by what it may matter.
        """
        ...


_INTERVAL_Z = 1.96  # of an interval that holds 95 %
_COST_NOISE = 0.05  # relative, of the cost of measuring
_LEAST_NOISE = 1e-4  # relative; two measurements are never equal to the last bit


class Goal(StrEnum):
    """What a search is for."""

    MINIMISE = "minimise"  # the least value that meets all constraints
    EXPLORE = "explore"  # be sure of the value everywhere


class Interval(msgspec.Struct, frozen=True, array_like=True):
    """A measured value with what holds it in 95 % of cases."""

    value: float
    low: float
    high: float


class Observation(msgspec.Struct, frozen=True):
    """What measuring a point gave."""

    point: tuple[int | float | str, ...]
    value: float  # above zero
    noise: float = 0.01  # relative standard deviation of the value
    cost: float = 1.0  # that measuring it took, in the budget's unit
    measured: Mapping[str, Interval] = {}  # by name of constraint
    hint: bool = False  # from elsewhere (another video, a profile): costs nothing, and the point may still be asked


class SearchState(msgspec.Struct, frozen=True):
    """All that a search has been told; with the same space and settings it goes on as if never interrupted."""

    observations: tuple[Observation, ...] = ()
    failed: tuple[tuple[int | float | str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Constraint:
    """Points count as feasible where the measured value of this name is within the bound."""

    name: str
    bound: float
    at_least: bool = False  # otherwise at most
    logarithmic: bool = False  # model the logarithm: for seconds, not for shares
    trend: Trend | None = None  # of what is modelled


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of some points, each array (points,)."""

    value: NDArray[np.float64]  # median
    deviation: NDArray[np.float64]  # relative: standard deviation of its natural logarithm
    feasible: NDArray[np.float64]  # probability that all constraints are met


@dataclass(frozen=True, slots=True)
class Best:
    """The best point that was measured."""

    observation: Observation
    feasible: float  # probability that it meets all constraints, by all that was measured


class Search:
    """Ask and tell over a `Space`. ``budget`` bounds the summed cost of what is told."""

    def __init__(
        self,
        space: Space,
        *,
        goal: Goal = Goal.MINIMISE,
        constraints: Sequence[Constraint] = (),
        seed: int = 0,
        initial: int | None = None,
        budget: float = inf,
        trend: Trend | None = None,
        state: SearchState | None = None,
    ) -> None:
        self.space = space
        self.goal = goal
        self.constraints = tuple(constraints)
        self.budget = budget
        self._seed = seed
        self._trend = trend
        columns = space.coordinates.shape[1]
        self._initial = max(2, min(8, columns + 1)) if initial is None else initial
        self._observations: list[Observation] = []
        self._failed: dict[Point, None] = {}
        self._pending: dict[Point, None] = {}
        # Fitted to what was told so far, by name of constraint ("" is the cost); emptied by the next word.
        self._fitted: dict[str, _Model | None] = {}
        self._value: tuple[list[Observation], _Model] | None = None
        if state is not None:
            for observation in state.observations:
                self.tell(observation)
            for point in state.failed:
                self.fail(point)

    @property
    def state(self) -> SearchState:
        """To be kept, and given to a new search. Points asked and not yet told are not part of it."""
        return SearchState(tuple(self._observations), tuple(self._failed))

    @property
    def observations(self) -> Sequence[Observation]:
        """All that was told, hints included."""
        return self._observations

    @property
    def spent(self) -> float:
        """Summed cost of what was measured."""
        return sum(o.cost for o in self._observations if not o.hint)

    def tell(self, observation: Observation) -> None:
        """Take in what a point gave, whether it was asked for or not. Raises UsageError for an unknown point."""
        point = tuple(observation.point)
        if point not in self.space.index and not observation.hint:
            raise UsageError(f"point {point} is not of this search space")
        if not 0 < observation.value < inf:
            raise UsageError(f"point {point}: expected a value above zero, got {observation.value}")
        self._pending.pop(point, None)
        self._observations.append(observation)
        self._fitted.clear()

    def fail(self, point: Point) -> None:
        """A point cannot be measured: it is asked no more."""
        self._pending.pop(tuple(point), None)
        self._failed[tuple(point)] = None

    def ask(self, count: int = 1) -> list[Point]:
        """The points to measure next, the most promising first; fewer or none when space or budget are used up.

        Points asked before and not told yet are taken to come out as predicted, and are not asked again.
        """
        asked: list[Point] = []
        while len(asked) < count:
            at = self._next()
            if at is None:
                break
            point = self.space.points[at]
            self._pending[point] = None
            asked.append(point)
        return asked

    def predict(self, points: Sequence[Point] | None = None) -> Prediction:
        """What is expected of points (None: all of the space). Raises UsageError before anything was told."""
        points = self.space.points if points is None else points
        if not self._observations:
            raise UsageError("nothing was measured yet, so nothing can be predicted")
        mean, deviation = self._value_model(self._observations).predict(points)
        return Prediction(np.exp(mean), deviation, self._feasibility(points))

    def best(self, confidence: float = 0.5) -> Best | None:
        """The least value among measured points that meet the constraints with at least this probability."""
        measured = [o for o in self._observations if not o.hint]
        if not measured:
            return None
        feasible = self._feasibility([tuple(o.point) for o in measured])
        fitting = [Best(o, float(p)) for o, p in zip(measured, feasible, strict=True) if p >= confidence]
        return min(fitting, key=lambda best: best.observation.value) if fitting else None

    def expected_gain(self) -> float:
        """The share by which the next point is expected to better the best: small means that the search is done.

        Infinite while nothing feasible is known.
        """
        at = self._candidates()
        if not self._observations or not len(at):
            return 0.0 if self._observations else inf
        gain, feasible, known = self._improvement(self._with_fantasies(), at)
        return float(np.max(gain * feasible)) if known else inf

    def _candidates(self) -> NDArray[np.intp]:
        """Indices of points that may still be asked, by what is left of the budget."""
        taken = {tuple(o.point) for o in self._observations if not o.hint} | self._failed.keys() | self._pending.keys()
        left = np.array([at for at, point in enumerate(self.space.points) if point not in taken], np.intp)
        if self.budget == inf or not len(left):
            return left
        cost = self._cost(left)
        pending = sum(self._cost(np.array([self.space.index[point]], np.intp))[0] for point in self._pending)
        affordable: NDArray[np.intp] = left[cost <= self.budget - self.spent - pending + 1e-9]
        return affordable

    def _next(self) -> int | None:
        at = self._candidates()
        if not len(at):
            return None
        told = len({tuple(o.point) for o in self._observations}) + len(self._pending)
        if not self._observations or told < self._initial:
            return int(at[self._farthest(at)])
        observations = self._with_fantasies()
        model = self._value_model(observations)
        if self.goal is Goal.EXPLORE:
            score = model.information(self.space.points)[at]
        else:
            gain, feasible, known = self._improvement(observations, at, model)
            score = gain * feasible if known else feasible
            if np.max(score) < 1e-12:  # nothing is expected to be better: the best of what is left
                mean, deviation = model.predict([self.space.points[i] for i in at])
                score = feasible * np.exp(np.min(mean) - mean + deviation)
        left = 1.0 if self.budget == inf else max(0.0, 1 - self.spent / self.budget)
        return int(at[int(np.argmax(score / self._cost(at) ** left))])

    def _farthest(self, at: NDArray[np.intp]) -> int:
        """Spread the first points: the one farthest from all taken; where several are, whichever the seed says."""
        random = np.random.default_rng([self._seed, len(self._observations), len(self._pending)])
        seen = [tuple(o.point) for o in self._observations] + list(self._pending)
        tie = random.random(len(at)) * 1e-6
        if not seen:
            return int(np.argmax(tie))
        x, taken = self.space.coordinates[at], self.space.encode(seen)
        nearest = np.min(np.linalg.norm(x[:, None, :] - taken[None, :, :], axis=2), axis=1)
        return int(np.argmax(nearest + tie))

    def _with_fantasies(self) -> list[Observation]:
        """What was told, and for what is still out the value that is expected."""
        observations = list(self._observations)
        pending = list(self._pending)
        if not pending or not observations:
            return observations
        prediction = self.predict(pending)
        expected: list[dict[str, Interval]] = [{} for _ in pending]
        for constraint in self.constraints:
            model = self._constraint_model(constraint)
            if model is None:
                continue
            mean, deviation = model.predict(pending)
            for known, m, s in zip(expected, mean, deviation, strict=True):
                ends = [float(m - _INTERVAL_Z * s), float(m), float(m + _INTERVAL_Z * s)]
                low, middle, high = np.exp(ends) if constraint.logarithmic else ends
                known[constraint.name] = Interval(float(middle), float(low), float(high))
        return observations + [
            Observation(point, float(value), measured=known)
            for point, value, known in zip(pending, prediction.value, expected, strict=True)
        ]

    def _improvement(
        self, observations: Sequence[Observation], at: NDArray[np.intp], model: _Model | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
        """(expected improvement, probability of being feasible, whether a feasible point is known), of candidates."""
        from scipy.special import ndtr

        model = self._value_model(observations) if model is None else model
        points = [self.space.points[i] for i in at]
        mean, deviation = model.predict(points)
        feasible = self._feasibility(points)
        seen = list(dict.fromkeys(tuple(o.point) for o in observations if tuple(o.point) in self.space.index))
        fitting = [p for p, likely in zip(seen, self._feasibility(seen), strict=True) if likely >= 0.5] if seen else []
        if not fitting:
            return np.ones(len(at)), feasible, False
        least = float(np.min(model.predict(fitting)[0]))
        z = (least - mean) / deviation
        gain = deviation * (z * ndtr(z) + np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))
        return np.maximum(gain, 0.0), feasible, True

    def _value_model(self, observations: Sequence[Observation]) -> _Model:
        """Of the value's logarithm, fitted to these; the last one is kept."""
        if self._value is None or self._value[0] != observations:
            seen = [tuple(o.point) for o in observations]
            logs = np.log([o.value for o in observations])
            noise = np.maximum([o.noise for o in observations], _LEAST_NOISE)
            self._value = (list(observations), _Model(self.space, seen, logs, noise, self._trend))
        return self._value[1]

    def _feasibility(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """The probability that each point meets all constraints, taken as independent of each other."""
        from scipy.special import ndtr

        found = np.ones(len(points))
        for constraint in self.constraints:
            model = self._constraint_model(constraint)
            if model is None:
                found *= 0.5
                continue
            mean, deviation = model.predict(points)
            bound = log(constraint.bound) if constraint.logarithmic else constraint.bound
            margin = mean - bound if constraint.at_least else bound - mean
            found *= ndtr(margin / deviation)
        return found

    def _constraint_model(self, constraint: Constraint) -> _Model | None:
        if constraint.name not in self._fitted:
            self._fitted[constraint.name] = self._fit_constraint(constraint)
        return self._fitted[constraint.name]

    def _fit_constraint(self, constraint: Constraint) -> _Model | None:
        known = [o for o in self._observations if constraint.name in o.measured]
        if not known:
            return None
        values = np.array([o.measured[constraint.name].value for o in known])
        width = np.array([o.measured[constraint.name].high - o.measured[constraint.name].low for o in known])
        s = width / (2 * _INTERVAL_Z)
        if constraint.logarithmic:
            s, values = s / values, np.log(values)
        least = _LEAST_NOISE * max(1.0, float(np.max(np.abs(values))))
        return _Model(self.space, [tuple(o.point) for o in known], values, np.maximum(s, least), constraint.trend)

    def _cost(self, at: NDArray[np.intp]) -> NDArray[np.float64]:
        """What measuring each point of these indices is expected to cost."""
        measured = [o for o in self._observations if not o.hint and o.cost > 0]
        if not measured:
            return np.ones(len(at))
        costs = np.log([o.cost for o in measured])
        if np.ptp(costs) < 1e-9:
            return np.full(len(at), float(np.exp(costs[0])))
        model = self._fitted.get("")
        if model is None:
            seen = [tuple(o.point) for o in measured]
            model = self._fitted[""] = _Model(self.space, seen, costs, np.full(len(costs), _COST_NOISE), None)
        return np.exp(model.predict([self.space.points[i] for i in at])[0])


class _Model:
    """A trend, and a process on what it leaves of values measured at points with these standard deviations."""

    def __init__(
        self,
        space: Space,
        points: Sequence[Point],
        values: NDArray[np.float64],
        noise: NDArray[np.float64],
        trend: Trend | None,
    ) -> None:
        self._space = space
        self._trend = trend
        self._noise = noise
        self._process = Surrogate(space.encode(points), values - self._mean(points), noise, self._features(points))

    def _mean(self, points: Sequence[Point]) -> NDArray[np.float64]:
        return np.zeros(len(points)) if self._trend is None else self._trend.mean(points)

    def _features(self, points: Sequence[Point]) -> NDArray[np.float64] | None:
        return None if self._trend is None else self._trend.features(points)

    def predict(self, points: Sequence[Point]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of what is modelled."""
        mean, deviation = self._process.predict(self._space.encode(points), self._features(points))
        return mean + self._mean(points), deviation

    def information(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """By how much the summed variance of all points would fall if each were measured."""
        covariance = self._process.covariance(self._space.encode(points), self._features(points))
        variance = np.maximum(np.diag(covariance), 0.0)
        noise = max(float(np.median(self._noise)), self._process.noise) ** 2
        found: NDArray[np.float64] = np.sum(covariance**2, axis=0) / (variance + noise)
        return found
