"""What a simulated run comes to: attainment, latencies, accuracy, cost, utilisation, and how they went over time."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import msgspec
import numpy as np

from llamapipe.control import Candidate, Reservations, RunPlan
from llamapipe.control import actions as act
from llamapipe.sim.driver import SimResult, simulate
from llamapipe.sim.planners import items_of, plan_for, right_enough
from llamapipe.sim.scenario import Scenario
from llamapipe.sim.scenario_world import ScenarioWorld, run_plan_of

__all__ = ["Judgement", "StageUse", "bound_of", "judge"]

_BUCKETS = 100  # of the run's time
_RESOLUTION = 20  # looks a second


class StageUse(msgspec.Struct, frozen=True):
    """What one candidate of a stage did."""

    stage: str
    variant: str
    device: str
    items: int
    invocations: int
    busy_s: float


class Moment(msgspec.Struct, frozen=True):
    """One hundredth of the run: frames that left in it, and what was done."""

    at_s: float
    frames: int
    p95_s: float | None
    busy_s: float
    by_variant: dict[str, int]  # items


class Judgement(msgspec.Struct, frozen=True):
    """One policy on one scenario. Times in seconds of virtual time, money in the scenario's unit."""

    scenario: str
    policy: str
    outcome: str
    frames: int
    delivered: int
    dropped: int
    failed: int
    attainment: float  # share of all frames that left in time
    met: bool  # the objective (its quantile, or the deadline) and the accuracy
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    accuracy: float  # mean over stages of what served their items, by items
    cost_used: float  # of the time that invocations took
    cost_reserved: float  # of the time that workers were there
    wall_s: float
    utilisation: float
    invocations: int
    events: int
    stages: list[StageUse]
    moments: list[Moment]


@dataclass(slots=True)
class _Second:
    """What began in it."""

    busy_s: float = 0.0
    items: dict[tuple[str, int], int] = field(default_factory=dict)  # by stage and candidate


@dataclass(slots=True)
class _Meter:
    plan: RunPlan
    bound_s: float
    prices: dict[str, float]  # of a second of a worker
    latencies: array[float] = field(default_factory=lambda: array("d"))
    ended: array[float] = field(default_factory=lambda: array("d"))
    in_time: int = 0
    cost_used: float = 0.0
    busy_s: float = 0.0
    uses: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0.0]))
    seconds: dict[int, _Second] = field(default_factory=dict)  # of virtual time, at _RESOLUTION
    reservations: Reservations = field(default_factory=Reservations)  # every worker a device of its own

    def invocation(self, dispatch: act.Dispatch, start_s: float, busy_s: float) -> None:
        n = len(dispatch.items)
        self.cost_used += busy_s * self.prices[dispatch.worker]
        self.busy_s += busy_s
        use = self.uses[dispatch.stage, dispatch.choice]
        use[0] += n
        use[1] += 1
        use[2] += busy_s
        at = int(start_s * _RESOLUTION)
        second = self.seconds.get(at)
        if second is None:
            second = self.seconds[at] = _Second()
        second.busy_s += busy_s
        key = dispatch.stage, dispatch.choice
        second.items[key] = second.items.get(key, 0) + n

    def delivered(self, stream: str, seq: int, captured_at_s: float, now_s: float) -> None:
        latency_s = now_s - captured_at_s
        self.latencies.append(latency_s)
        self.ended.append(now_s)
        self.in_time += latency_s <= self.bound_s

    def worker(self, worker: str, now_s: float, *, up: bool) -> None:
        if up:
            self.reservations.hold(worker, worker, "workers", 1.0, now_s)
        else:
            self.reservations.release(worker, now_s)


def judge(scenario: Scenario, policy: str | None = None) -> Judgement:
    """Simulate the scenario under a policy, its own unless another is named, and judge what comes of it."""
    name = policy if policy is not None else scenario.policy
    candidates, policy_plan = plan_for(scenario, name)
    plan = run_plan_of(scenario, candidates, policy_plan)
    prices = {
        f"{machine.type}-{i}": machine.price_per_hour / 3600
        for machine in scenario.machines
        for i in range(machine.workers)
    }
    bound_s = inf if plan.latency_slo_s is None else plan.latency_slo_s
    meter = _Meter(plan, bound_s, prices)
    result = simulate(plan, ScenarioWorld(scenario, plan), meter=meter, keep_latencies=False)
    return _judgement(scenario, name, plan, result, meter)


def _judgement(scenario: Scenario, name: str, plan: RunPlan, result: SimResult, meter: _Meter) -> Judgement:
    accounts = [result.ledger.accounts[stream.stream, "out"] for stream in plan.streams]
    frames = sum(result.ledger.decoded.values())
    delivered = sum(account.delivered for account in accounts)
    p50_s, p95_s, p99_s = _quantiles(meter.latencies)
    slo = scenario.pipeline.slo
    if slo is not None and slo.deadline_s is not None:
        met = result.outcome == "done" and result.wall_s <= slo.deadline_s
        attainment = sum(t <= slo.deadline_s for t in meter.ended) / max(1, frames)
        met = met and frames - delivered <= slo.max_drop_share * frames
    else:
        attainment = meter.in_time / max(1, frames)
        # As a run is judged: the quantile is that of what was delivered, and drops have a bound of their own.
        most = 0.0 if slo is None else slo.max_drop_share
        met = meter.in_time >= _quantile_of(scenario) * delivered and frames - delivered <= most * frames
    floor = scenario.pipeline.accuracy
    least = 0.0 if floor is None else floor.min
    if scenario.pipeline.on_overload == "degrade":
        least = min(least, scenario.pipeline.second_accuracy)
    accuracy = _accuracy(plan, meter)
    lived = {worker: there_s for (worker, _), there_s in meter.reservations.device_s(result.wall_s).items()}
    lived_s = sum(lived.values())
    stages = [
        StageUse(stage, *_named(plan, stage, choice), int(use[0]), int(use[1]), use[2])
        for (stage, choice), use in sorted(meter.uses.items())
    ]
    return Judgement(
        scenario=scenario.name,
        policy=name,
        outcome=result.outcome,
        frames=frames,
        delivered=delivered,
        dropped=sum(sum(account.dropped.values()) for account in accounts),
        failed=sum(sum(account.failed.values()) for account in accounts),
        attainment=attainment,
        met=met and accuracy >= least - 1e-9,
        p50_s=p50_s,
        p95_s=p95_s,
        p99_s=p99_s,
        accuracy=accuracy,
        cost_used=meter.cost_used,
        cost_reserved=sum(meter.prices[worker] * there_s for worker, there_s in lived.items()),
        wall_s=result.wall_s,
        utilisation=meter.busy_s / lived_s if lived_s else 0.0,
        invocations=result.num_invocations,
        events=result.num_events,
        stages=stages,
        moments=_moments(plan, result.wall_s, meter),
    )


def _quantile_of(scenario: Scenario) -> float:
    slo = scenario.pipeline.slo
    return slo.latency[0] if slo is not None and slo.latency is not None else 0.0


def _quantiles(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    if not values:
        return None, None, None
    p50, p95, p99 = np.quantile(np.asarray(values), [0.5, 0.95, 0.99])
    return float(p50), float(p95), float(p99)


def _named(plan: RunPlan, stage: str, choice: int) -> tuple[str, str]:
    variant = next(s for s in plan.stages if s.name == stage).choice(choice).variant
    return ("", "") if variant is None else (variant.model, variant.device)


def _accuracy(plan: RunPlan, meter: _Meter) -> float:
    """Of stages with a choice or a figure: the mean accuracy of what served, by items, then over stages."""
    found = []
    for stage in plan.stages:
        served = [
            (use[0], stage.candidates[choice].accuracy) for (s, choice), use in meter.uses.items() if s == stage.name
        ]
        if stage.configuration.variant is not None and served:
            found.append(sum(n * a for n, a in served) / sum(n for n, _ in served))
    return sum(found) / len(found) if found else 1.0


def _moments(plan: RunPlan, wall_s: float, meter: _Meter) -> list[Moment]:
    width_s = max(wall_s, 1e-9) / _BUCKETS
    frames: list[list[float]] = [[] for _ in range(_BUCKETS)]
    for at_s, latency_s in zip(meter.ended, meter.latencies, strict=True):
        frames[min(_BUCKETS - 1, int(at_s / width_s))].append(latency_s)
    busy = [0.0] * _BUCKETS
    items: list[dict[str, int]] = [{} for _ in range(_BUCKETS)]
    for tick, second in sorted(meter.seconds.items()):
        at = min(_BUCKETS - 1, int(tick / _RESOLUTION / width_s))
        busy[at] += second.busy_s
        for (stage, choice), n in second.items.items():
            variant, device = _named(plan, stage, choice)
            if variant:
                key = f"{stage}: {variant} on {device}"
                items[at][key] = items[at].get(key, 0) + n
    return [
        Moment((i + 0.5) * width_s, len(frames[i]), _quantiles(frames[i])[1], busy[i], items[i])
        for i in range(_BUCKETS)
    ]


def bound_of(scenario: Scenario, frames: int) -> float:
    """What no policy can go below: every item in full batches on its cheapest candidate that is right enough.

    An offline oracle without queues, waits or failures; money in the scenario's unit.
    """
    each = zip(items_of(scenario), right_enough(scenario), strict=True)
    return frames * sum(items * min(_least(candidate) for candidate in right) for items, right in each)


def _least(candidate: Candidate) -> float:
    return min(candidate.price * candidate.cores * point.median_s / point.batch for point in candidate.points)
