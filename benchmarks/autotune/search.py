"""The tuner's search against random search and a grid of equal budget, over a stored sweep: nothing is measured here.

Regret: by how much the true cost of what a method would pick after so many evaluations is above that of the cheapest
configuration that meets the floor. What a method is told is the stored cost with a noise of its own for every seed.
All begin with the reference, because accuracy is agreement with it. The floor is held against the lower end of the
interval, as the tuner does. The search is `llamapipe tune`'s own, with profiles and with all that it rules out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import cast

import msgspec
import numpy as np

from benchmarks.autotune.cases import Case, tunable_of
from benchmarks.autotune.drawing import Line, Panel, panels
from benchmarks.autotune.held import COST_DEVIATION, key_of
from benchmarks.autotune.tables import head
from benchmarks.store import Budget, Row, Store
from llamapipe.clock import Clock
from llamapipe.session.searching import search_configuration
from llamapipe.session.targets import Targets
from llamapipe.session.trials import Trial
from llamapipe.session.tunable import Choice, Tunable
from llamapipe.tune import Point, Predicted

FLOORS = (0.9, 0.8, 0.95)
SEEDS = 10
SHARE = 0.1  # of the space: the budget that is judged
NEAR = 0.05  # of the oracle's cost
SPREAD = 1.3  # a target at which costs differ less does not count
LONGEST = 0.15  # of the space that is looked at for the plots
ASKED = {"deviation": COST_DEVIATION, "share": SHARE, "longest": LONGEST}

Told = Callable[[Point], float]
"""The noisy cost that a method is told."""


@dataclass(frozen=True)
class Landscape:
    """A case as far as it was swept."""

    choices: Tunable
    rows: dict[Point, Row]
    fps: float

    @property
    def digest(self) -> str:
        """Of all that a search sees: one over another sweep is another question."""
        seen = [[list(map(str, point)), row["cpu_ms"], row["accuracy"]] for point, row in self.rows.items()]
        return hashlib.sha256(msgspec.json.encode(seen)).hexdigest()[:12]

    def cost(self, point: Point) -> float:
        """Core-milliseconds a frame."""
        return float(self.rows[point]["cpu_ms"])

    def fits(self, point: Point, floor: float) -> bool:
        """Whether the lower end of its accuracy is above the floor."""
        accuracy = self.rows[point]["accuracy"]
        return accuracy is None or accuracy[1] >= floor

    def oracle(self, floor: float) -> float:
        """The least cost that meets the floor."""
        return min(self.cost(point) for point in self.rows if self.fits(point, floor))

    def spread(self, floor: float) -> float:
        """The dearest of those that meet the floor over the cheapest."""
        costs = [self.cost(point) for point in self.rows if self.fits(point, floor)]
        return max(costs) / min(costs)


def landscape_of(case: Case, store: Store) -> Landscape | None:
    """None where the sweep is not over."""
    tunable = tunable_of(case)
    found = {point: store.get(key_of(case, point), **case.asked) for point in tunable.space.points}
    rows = {point: row for point, row in found.items() if row is not None}
    if len(rows) < len(found):
        print(f"{case.name}: {len(rows)} of {len(found)} configurations are swept; call `held` again", flush=True)
        return None
    return Landscape(tunable, rows, case.fps)


def random_search(land: Landscape, seed: int, budget: int, floor: float, told: Told) -> list[Point]:
    """The reference, and then any."""
    points = [point for point in land.rows if point != land.choices.reference]
    order = np.random.default_rng([seed, 1]).permutation(len(points))
    return [land.choices.reference, *(points[i] for i in order[: budget - 1])]


def grid_search(land: Landscape, seed: int, budget: int, floor: float, told: Told) -> list[Point]:
    """The reference, and then points an even distance apart in the order of all combinations, from some first one."""
    points = [point for point in land.rows if point != land.choices.reference]
    rng = np.random.default_rng([seed, 2])
    step = len(points) / max(1, budget - 1)
    at = (rng.random() * step + step * np.arange(budget - 1)).astype(int) % len(points)
    return [land.choices.reference, *(points[i] for i in rng.permutation(np.unique(at)))]


def tuner_search(land: Landscape, seed: int, budget: int, floor: float, told: Told) -> list[Point]:
    """`llamapipe tune`'s."""
    stored = _Stored(land, told)
    search_configuration(
        stored,
        land.choices,
        Targets(floor, fps=land.fps),
        budget_s=budget + 0.5,  # an evaluation takes a second here
        budget_frames=None,
        began_s=0.0,
        clock=cast(Clock, stored),
        seed=seed,
    )
    return stored.order[:budget]


def unaided_search(land: Landscape, seed: int, budget: int, floor: float, told: Told) -> list[Point]:
    """The same on a machine where nothing was profiled: what things cost is learned from the trials alone."""
    stages = tuple(replace(stage, profiles={}) for stage in land.choices.stages)
    return tuner_search(replace(land, choices=replace(land.choices, stages=stages)), seed, budget, floor, told)


METHODS = {
    "llamapipe": tuner_search,
    "without profiles": unaided_search,
    "random": random_search,
    "grid": grid_search,
}


class _Stored:
    """An `Evaluator` that looks everything up, and the clock by which an evaluation takes a second."""

    def __init__(self, land: Landscape, told: Told) -> None:
        self._land = land
        self._told = told
        self._points = {_frozen(choice): point for point, choice in land.choices.choices.items()}
        self.order: list[Point] = []

    def now_s(self) -> float:
        """One second an evaluation."""
        return float(len(self.order))

    def evaluate(self, choice: Choice, *, pace: Callable[[Predicted], bool]) -> Trial | None:
        """See `Evaluator`."""
        point = self._points[_frozen(choice)]
        row = self._land.rows[point]
        value, low, high = row["accuracy"] or (None, None, None)
        self.order.append(point)
        scale = self._told(point) / row["cpu_ms"]
        return Trial(
            Predicted(self._told(point), COST_DEVIATION, row["fps"], value, low, high),
            1.0,
            row["frames"],
            {stage: scale * cost_s for stage, cost_s in row["by_stage"].items()},
            row["items"],
        )


def _frozen(choice: Choice) -> bytes:
    return msgspec.json.encode(dict(choice), order="deterministic")


def regrets(land: Landscape, order: Sequence[Point], floor: float, told: Told) -> list[float]:
    """After each evaluation; infinite while nothing that fits was tried."""
    oracle, best, found = land.oracle(floor), (inf, inf), []
    for point in order:
        if land.fits(point, floor):
            best = min(best, (told(point), land.cost(point)))
        found.append(best[1] / oracle - 1)
    return found


def run(cases: Sequence[Case], store: Store, results: Store, budget: Budget) -> None:
    """All methods and seeds that are not there yet. Raises TimeUp."""
    for case in cases:
        land = landscape_of(case, store)
        if land is None or not any(row["accuracy"] for row in land.rows.values()):
            continue
        longest = max(8, ceil(LONGEST * len(land.rows)))
        asked = {**case.asked, "sweep": land.digest}
        for floor in FLOORS:
            if not any(land.fits(point, floor) for point in land.rows):
                print(f"{case.name} at {floor:g}: no configuration can prove it with so few boxes", flush=True)
                continue
            for name, method in METHODS.items():
                for seed in range(SEEDS):
                    key = ("search", case.name, f"{floor:g}", name, str(seed))
                    if results.has(key, **asked):
                        continue
                    budget.check()
                    told = _told(land, seed)
                    # A grid is made for its budget, so it is judged at that; the others can be cut anywhere.
                    most = max(4, round(SHARE * len(land.rows))) if name == "grid" else longest
                    order = method(land, seed, most, floor, told)
                    results.add(
                        key,
                        {
                            "points": len(land.rows),
                            "oracle": land.oracle(floor),
                            "spread": land.spread(floor),
                            "regrets": [min(r, 1e6) for r in regrets(land, order, floor, told)],
                        },
                        **asked,
                    )
            print(f"{case.name} at {floor:g}: done", flush=True)


def _told(land: Landscape, seed: int) -> Told:
    rng = np.random.default_rng([seed, 3])
    factors = np.exp(COST_DEVIATION * rng.standard_normal(len(land.rows)))
    noisy = {point: land.cost(point) * float(factor) for point, factor in zip(land.rows, factors, strict=True)}
    return noisy.__getitem__


def report(cases: Sequence[Case], results: Store) -> Iterator[str]:
    """The table, in Markdown."""
    yield from head(
        "case",
        ">floor",
        ">points",
        ">oracle",
        ">spread",
        "method",
        ">within 5 % after",
        ">seeds within 5 % at 10 %",
        ">regret at 10 % (p10 to p90)",
    )
    totals: dict[str, list[tuple[bool, float]]] = {}
    for case in cases:
        for floor in FLOORS:
            for name in METHODS:
                rows = _rows(results, case, floor, name)
                if len(rows) < SEEDS:
                    continue
                points, counts = rows[0]["points"], rows[0]["spread"] >= SPREAD
                at = max(4, round(SHARE * points))
                ends = [_at(row["regrets"], at) for row in rows]
                if counts:
                    totals.setdefault(name, []).extend((end <= NEAR, end) for end in ends)
                reached = sorted(_reached(row["regrets"]) for row in rows)
                middle = reached[len(reached) // 2]
                low, mid, high = np.quantile(ends, [0.1, 0.5, 0.9])
                yield (
                    f"| {case.name} | {floor:g} | {points} | {rows[0]['oracle']:.2f} ms | {rows[0]['spread']:.1f} x"
                    f"{'' if counts else ' (does not count)'} | {name} "
                    f"| {'not' if middle == inf else f'{middle:.0f} ({middle / points:.1%})'} "
                    f"| {sum(end <= NEAR for end in ends)} of {len(ends)} | {mid:.1%} ({low:.1%} to {high:.1%}) |"
                )
    yield ""
    yield from head("method", ">runs within 5 % of the oracle with at most 10 % of the space", ">mean regret")
    for name, pairs in totals.items():
        near = sum(near for near, _ in pairs)
        yield f"| {name} | {near} of {len(pairs)} ({near / len(pairs):.0%}) | {np.mean([r for _, r in pairs]):.1%} |"


def _rows(results: Store, case: Case, floor: float, name: str) -> list[Row]:
    """Over the sweep that was searched last."""
    rows = results.rows("search", case.name, f"{floor:g}", name, **case.asked)
    return [row for row in rows if row["asked"]["sweep"] == rows[-1]["asked"]["sweep"]]


def _at(found: Sequence[float], evaluations: int) -> float:
    """A search that ended early stays where it was."""
    return found[min(evaluations, len(found)) - 1]


def _reached(found: Sequence[float]) -> float:
    """Evaluations until within NEAR for good."""
    last = max((i for i, regret in enumerate(found) if regret > NEAR), default=-1)
    return last + 2 if last + 1 < len(found) else inf


def plot(cases: Sequence[Case], results: Store, floor: float = 0.9) -> str:
    """Regret over the share of the space that was evaluated: median and the band from p10 to p90, a panel a case."""
    drawn: list[Panel] = []
    for case in cases:
        lines = []
        for name in METHODS:
            rows = _rows(results, case, floor, name)
            if not rows or name == "grid":
                continue
            points = rows[0]["points"]
            longest = max(len(row["regrets"]) for row in rows)
            x = [100 * (n + 1) / points for n in range(longest)]
            y = np.array([[min(2.0, _at(row["regrets"], n + 1)) for row in rows] for n in range(longest)]) * 100
            low, mid, high = np.quantile(y, [0.1, 0.5, 0.9], axis=1)
            lines.append(Line(name, x, list(mid), list(low), list(high)))
        if lines:
            drawn.append(Panel(case.name, lines, "% of the space evaluated", "regret, %"))
    return panels(drawn) if drawn else ""
