"""The cheapest fleet that holds the objective, found by asking the simulator.

A fleet is a number of workers of every machine type. First every type alone, and all together, is grown until the
objective holds; then the best of these is thinned out, the dearest workers first, as long as it still holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from llamapipe.errors import UsageError
from llamapipe.sim.judge import Judgement, judge
from llamapipe.sim.scenario import Scenario

__all__ = ["Capacity", "Trial", "plan_capacity", "with_fleet"]

_MOST_WORKERS = 1 << 14


class Trial(msgspec.Struct, frozen=True):
    """One fleet that was simulated. Money an hour in the scenario's unit."""

    fleet: dict[str, int]
    price_per_hour: float
    met: bool
    attainment: float
    p95_s: float | None


class Capacity(msgspec.Struct, frozen=True):
    """What was found, and all that was tried on the way."""

    best: Trial | None
    judgement: Judgement | None  # of the best
    trials: list[Trial]
    reason: str = ""  # why there is none


def with_fleet(scenario: Scenario, fleet: dict[str, int]) -> Scenario:
    """The scenario on other numbers of workers; types without any are left out."""
    machines = tuple(
        machine.model_copy(update={"workers": fleet[machine.type]})
        for machine in scenario.machines
        if fleet.get(machine.type, 0) > 0
    )
    return scenario.model_copy(update={"machines": machines})


class _Search:
    def __init__(self, scenario: Scenario, policy: str | None, on_trial: Callable[[Trial], None] | None) -> None:
        self._scenario = scenario
        self._policy = policy
        self._on_trial = on_trial
        self._prices = {machine.type: machine.price_per_hour for machine in scenario.machines}
        self.known: dict[tuple[tuple[str, int], ...], tuple[Trial, Judgement | None]] = {}

    def price(self, fleet: dict[str, int]) -> float:
        return sum(self._prices[kind] * number for kind, number in fleet.items())

    def serves(self, fleet: dict[str, int]) -> bool:
        """Whether every stage has a candidate there."""
        devices = {machine.device for machine in self._scenario.machines if fleet.get(machine.type, 0) > 0}
        return bool(devices) and all(
            not stage.candidates or any(candidate.device in devices for candidate in stage.candidates)
            for stage in self._scenario.pipeline.stages
        )

    def holds(self, fleet: dict[str, int]) -> bool:
        key = tuple(sorted(fleet.items()))
        if key not in self.known:
            judgement = judge(with_fleet(self._scenario, fleet), self._policy) if self.serves(fleet) else None
            met = judgement is not None and judgement.met
            trial = Trial(
                {kind: number for kind, number in fleet.items() if number},
                self.price(fleet),
                met,
                judgement.attainment if judgement is not None else 0.0,
                judgement.p95_s if judgement is not None else None,
            )
            self.known[key] = trial, judgement
            if self._on_trial is not None and judgement is not None:
                self._on_trial(trial)
        return self.known[key][0].met

    def grown(self, kinds: list[str], ceiling: float) -> dict[str, int] | None:
        """The smallest doubling of one of each kind that holds, then halved towards the smallest that does."""
        number = 1
        while not self.holds(dict.fromkeys(kinds, number)):
            number *= 2
            if number > _MOST_WORKERS or self.price(dict.fromkeys(kinds, number // 2)) > ceiling:
                return None
            if not self.serves(dict.fromkeys(kinds, 1)):
                return None
        low, high = number // 2, number
        while high - low > max(1, high // 50):
            middle = (low + high) // 2
            if self.holds(dict.fromkeys(kinds, middle)):
                high = middle
            else:
                low = middle
        return dict.fromkeys(kinds, high)

    def thinned(self, fleet: dict[str, int]) -> dict[str, int]:
        """As few of every kind as still hold, the dearest kind first."""
        for kind in sorted(fleet, key=lambda k: -self._prices[k]):
            low, high = -1, fleet[kind]
            while high - low > max(1, high // 50):
                middle = (low + high) // 2
                if self.holds({**fleet, kind: middle}):
                    high = middle
                else:
                    low = middle
            fleet = {**fleet, kind: high}
        return fleet


def plan_capacity(
    scenario: Scenario, *, policy: str | None = None, on_trial: Callable[[Trial], None] | None = None
) -> Capacity:
    """Search. Raises UsageError for a scenario without an objective: any fleet would do."""
    if scenario.pipeline.slo is None:
        raise UsageError(
            f"scenario {scenario.name} has no objective: any fleet would do", hint="give its pipeline an `slo`"
        )
    search = _Search(scenario, policy, on_trial)
    best: dict[str, int] | None = None
    for kinds in _mixes([machine.type for machine in scenario.machines]):
        ceiling = float("inf") if best is None else search.price(best)
        fleet = search.grown(kinds, ceiling)
        if fleet is None:
            continue
        fleet = search.thinned(fleet) if len(kinds) > 1 else fleet
        if best is None or search.price(fleet) < search.price(best):
            best = fleet
    trials = [trial for trial, judgement in search.known.values() if judgement is not None]
    if best is None:
        return Capacity(
            None, None, trials, f"no fleet of up to {_MOST_WORKERS} workers of each kind holds the objective"
        )
    trial, judgement = search.known[tuple(sorted(best.items()))]
    return Capacity(trial, judgement, trials)


def _mixes(kinds: list[str]) -> Iterator[list[str]]:
    for kind in kinds:
        yield [kind]
    if len(kinds) > 1:
        yield kinds
