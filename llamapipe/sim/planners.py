"""What each policy decides before anything runs: which candidates stay, in which order, with which batch and budget.

The run-time half is `llamapipe.control.policies`'s. Planners see profiles and prices, never the future.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import inf

from msgspec.structs import replace

from llamapipe.control import Candidate, PolicyPlan
from llamapipe.errors import UsageError
from llamapipe.sim.scenario import Scenario
from llamapipe.sim.scenario_world import candidates_of
from llamapipe.slo import StageGraph

__all__ = ["PLANNERS", "Planned", "graph_of", "items_of", "plan_for", "right_enough"]

Planned = tuple[list[tuple[Candidate, ...]], PolicyPlan]
"""Candidates of every stage, and the policy that chooses among them."""

_FIRST_SHARE = 0.5  # of its budget that a stage's first candidate may take
_MOST_COMBINATIONS = 20_000


def graph_of(scenario: Scenario) -> StageGraph:
    """The pipeline's stages, as `llamapipe.control.dataflow.Topology` joins them."""
    names = [stage.name for stage in scenario.pipeline.stages]
    consumers: list[list[int]] = [[] for _ in names]
    for i, stage in enumerate(scenario.pipeline.stages):
        for name in {*stage.after, stage.crops, stage.when} - {None}:
            consumers[names.index(str(name))].append(i)
    return StageGraph([sorted(after) for after in consumers])


def items_of(scenario: Scenario) -> list[float]:
    """Items that every stage gets of a frame, on average."""
    found: dict[str, float] = {}
    means = {stage.name: _mean(stage.finds.mean, stage.finds.over) for stage in scenario.pipeline.stages if stage.finds}
    for stage in scenario.pipeline.stages:
        items = max((found[name] for name in stage.after), default=1.0)
        if stage.after and any(s.name in stage.after and s.crops is not None for s in scenario.pipeline.stages):
            crop = next(s for s in scenario.pipeline.stages if s.name in stage.after and s.crops is not None)
            items = means[str(crop.crops)]
        found[stage.name] = items
    return [found[stage.name] for stage in scenario.pipeline.stages]


def _mean(mean: float, over: Sequence[tuple[float, float]]) -> float:
    return sum(value for _, value in over) / len(over) if over else mean


def _slo_s(scenario: Scenario) -> float:
    slo = scenario.pipeline.slo
    return slo.latency[1] if slo is not None and slo.latency is not None else inf


def _floor(scenario: Scenario) -> float:
    return scenario.pipeline.accuracy.min if scenario.pipeline.accuracy is not None else 0.0


def right_enough(scenario: Scenario) -> list[list[Candidate]]:
    """Of every stage, the candidates at or above the floor; the most right ones where there are none."""
    found = []
    for stage in scenario.pipeline.stages:
        candidates = candidates_of(scenario, stage)
        best = max(candidate.accuracy for candidate in candidates)
        found.append([c for c in candidates if c.accuracy >= min(best, _floor(scenario))])
    return found


def _cost(candidate: Candidate) -> float:
    return candidate.full_batch_cost


def _with_batch(candidate: Candidate, batch: int) -> Candidate:
    points = tuple(point for point in candidate.points if point.batch <= batch)
    return replace(candidate, configuration=replace(candidate.configuration, batch=batch), points=points)


def _every_batch(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [_with_batch(candidate, point.batch) for candidate in candidates for point in candidate.points]


def _dynamic(scenario: Scenario, name: str) -> Planned:
    """All candidates that are right enough (or may become so under `degrade`), a cheap one that fits first."""
    pipeline = scenario.pipeline
    degrade = pipeline.on_overload == "degrade"
    kept = []
    right = right_enough(scenario)
    fast = [min(c.points[0].p95_s for c in candidates) for candidates in right]
    budgets = graph_of(scenario).budgets_s(_slo_s(scenario), fast)
    for stage, candidates, budget_s in zip(pipeline.stages, right, budgets, strict=True):
        in_time = [c for c in candidates if c.points[0].p95_s <= _FIRST_SHARE * budget_s]
        first = min(in_time, key=_cost) if in_time else min(candidates, key=lambda c: c.points[0].p95_s)
        lesser = [
            c
            for c in candidates_of(scenario, stage)
            if degrade and c not in candidates and c.accuracy >= pipeline.second_accuracy
        ]
        kept.append((first, *(c for c in [*candidates, *lesser] if c is not first)))
    latency = pipeline.slo.latency if pipeline.slo is not None else None
    policy = PolicyPlan(
        name=name,
        floor=_floor(scenario),
        second_floor=pipeline.second_accuracy,
        on_overload=pipeline.on_overload,
        quantile=0.95 if latency is None else latency[0],
    )
    return kept, policy


def _llamapipe(scenario: Scenario) -> Planned:
    return _dynamic(scenario, "llamapipe")


def _llama(scenario: Scenario) -> Planned:
    """Llama knows no accuracy; it is given those candidates only that reach the floor, so that costs compare."""
    kept, policy = _dynamic(scenario, "llama")
    floor = _floor(scenario)
    right = [tuple(c for c in each if c.accuracy >= floor) or each for each in kept]
    return right, replace(policy, on_overload="late")


def _infaas(scenario: Scenario) -> Planned:
    kept, policy = _dynamic(scenario, "infaas")
    return kept, replace(policy, on_overload="late", delayed_batching=False)


def _one_each(scenario: Scenario, latency_s: Callable[[Candidate], float]) -> list[Candidate]:
    """The cheapest combination of one candidate with one batch a stage whose longest way fits the objective.

    Where none does, the fastest one.
    """
    graph, slo_s, items = graph_of(scenario), _slo_s(scenario), items_of(scenario)
    options = [_front(_every_batch(candidates), latency_s) for candidates in right_enough(scenario)]
    while _size(options) > _MOST_COMBINATIONS:
        longest = max(options, key=len)
        del longest[1::2]
    best: tuple[float, list[Candidate]] | None = None
    fastest: tuple[float, list[Candidate]] | None = None
    for combination in product(*options):
        way_s = max(graph.ways_s([latency_s(candidate) for candidate in combination]))
        cost = sum(n * _cost(candidate) for n, candidate in zip(items, combination, strict=True))
        if way_s <= slo_s and (best is None or cost < best[0]):
            best = cost, list(combination)
        if fastest is None or way_s < fastest[0]:
            fastest = way_s, list(combination)
    assert fastest is not None
    return (best or fastest)[1]


def _size(options: Sequence[Sequence[Candidate]]) -> int:
    size = 1
    for each in options:
        size *= len(each)
    return size


def _front(candidates: Sequence[Candidate], latency_s: Callable[[Candidate], float]) -> list[Candidate]:
    """Those that no other one beats in cost and latency."""
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (_cost(c), latency_s(c))):
        if not front or latency_s(candidate) < latency_s(front[-1]):
            front.append(candidate)
    return front


def _static(scenario: Scenario) -> Planned:
    """The best fixed configuration a stage, by profile: batches form of what waits, so only their latency counts."""
    return [(c,) for c in _one_each(scenario, lambda c: c.points[-1].p95_s)], PolicyPlan()


def _inferline(scenario: Scenario) -> Planned:
    """InferLine (Crankshaw et al., SoCC 2020), its planner.

    Kept: one model, hardware and batch a stage, found by cost under a bound on the end-to-end 99th percentile, a
    batch's wait for its turn counted once. Its tuner adds replicas; the fleet is fixed here.
    """
    return [(c,) for c in _one_each(scenario, lambda c: 2 * c.points[-1].p95_s)], PolicyPlan()


def _nexus(scenario: Scenario) -> Planned:
    """The latency split: a batch waits for as long as it takes (Nexus, section 4), so it costs its latency twice."""
    chosen = _one_each(scenario, lambda c: 2 * c.points[-1].p95_s)
    budgets = graph_of(scenario).budgets_s(_slo_s(scenario), [2 * c.points[-1].p95_s for c in chosen])
    policy = PolicyPlan(name="nexus", on_overload="drop", budgets_s=tuple(budgets) if _slo_s(scenario) < inf else ())
    return [(c,) for c in chosen], policy


def _grandslam(scenario: Scenario) -> Planned:
    """One candidate a stage, the cheapest in single items whose sum fits; batches at run time."""
    kept: list[tuple[Candidate, ...]] = []
    alone = _one_each_alone(scenario)
    for candidates, chosen in zip(right_enough(scenario), alone, strict=True):
        kept.append((next(c for c in candidates if c.configuration.variant == chosen.configuration.variant),))
    return kept, PolicyPlan(name="grandslam", delayed_batching=False)


def _one_each_alone(scenario: Scenario) -> list[Candidate]:
    graph, slo_s = graph_of(scenario), _slo_s(scenario)
    options = [_front([_with_batch(c, c.points[0].batch) for c in each], _p95) for each in right_enough(scenario)]
    combinations = sorted(product(*options), key=lambda each: sum(_cost(c) for c in each))
    for combination in combinations:
        if max(graph.ways_s([_p95(c) for c in combination])) <= slo_s:
            return list(combination)
    return list(min(combinations, key=lambda each: max(graph.ways_s([_p95(c) for c in each]))))


def _p95(candidate: Candidate) -> float:
    return candidate.points[-1].p95_s


def _gg(scenario: Scenario) -> Planned:
    """gg (Fouladi et al., ATC 2019) as Llama's authors compare with it.

    Kept: one configuration an operation, single items, as many workers as there are, first in first out, no
    objective. It runs on what serverless platforms give: the cheapest device by the hour.
    """
    there_are = [machine for machine in scenario.machines if machine.workers]
    cheapest = min(there_are, key=lambda machine: machine.price_per_hour).device
    kept: list[tuple[Candidate, ...]] = []
    for candidates in right_enough(scenario):
        there = [c for c in candidates if c.device in ("", cheapest)] or candidates
        first = min(there, key=lambda c: _with_batch(c, c.points[0].batch).full_batch_cost)
        kept.append((_with_batch(first, first.points[0].batch),))
    return kept, PolicyPlan(deep_first=False)


def _fixed(scenario: Scenario) -> Planned:
    """Every stage's first candidate as the file has it."""
    return [(candidates_of(scenario, stage)[0],) for stage in scenario.pipeline.stages], PolicyPlan()


PLANNERS: dict[str, Callable[[Scenario], Planned]] = {
    "fixed": _fixed,
    "static": _static,
    "grandslam": _grandslam,
    "nexus": _nexus,
    "inferline": _inferline,
    "infaas": _infaas,
    "gg": _gg,
    "llama": _llama,
    "llamapipe": _llamapipe,
}


def plan_for(scenario: Scenario, policy: str) -> Planned:
    """What the policy decides beforehand. Raises UsageError for one that nobody knows."""
    if policy not in PLANNERS:
        raise UsageError(f"unknown policy {policy!r}: expected one of {', '.join(PLANNERS)}")
    return PLANNERS[policy](scenario)
