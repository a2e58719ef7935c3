"""``llamapipe plan``: what would be run, why, and what it would come to. Nothing is run.

An objective is split into one for each operation (`llamapipe.slo`), by what the candidates that are budgeted for take.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from llamapipe.clock import Clock, Env, SystemClock, system_env
from llamapipe.control import Candidate, StagePlan
from llamapipe.control.dataflow import Topology
from llamapipe.errors import UsageError
from llamapipe.report import Considered, PlanView, StageView
from llamapipe.session.prepare import Prepared, prepare
from llamapipe.session.request import RunRequest
from llamapipe.slo import StageGraph
from llamapipe.spec import Prices

__all__ = ["explain_plan", "view_of"]


@dataclass(frozen=True, slots=True)
class _Known:
    """What the budgeted candidate of a stage takes of a frame."""

    p50_s: float
    p95_s: float
    core_s: float
    cost: float


def explain_plan(request: RunRequest, *, clock: Clock | None = None, env: Env | None = None) -> PlanView:
    """Check everything, choose, and say why. Raises what `run` raises where the run could not begin."""
    clock = clock if clock is not None else SystemClock()
    prepared = prepare(request, clock=clock, env=env if env is not None else system_env(), dry=True, results=True)
    try:
        return view_of(prepared)
    finally:
        prepared.close()


def view_of(prepared: Prepared) -> PlanView:
    """What a run that can begin is planned to do."""
    plan = prepared.plan
    known = [_known(stage) for stage in plan.stages]
    efforts = [0.0 if k is None else k.p95_s for k in known]
    graph = StageGraph(Topology(plan).consumers)
    bound_s = plan.latency_slo_s
    budgets = graph.budgets_s(bound_s, efforts) if bound_s is not None and any(efforts) else None
    p95_s = max(graph.ways_s(efforts), default=0.0)
    p50_s = max(graph.ways_s([0.0 if k is None else k.p50_s for k in known]), default=0.0)
    core_s = sum(k.core_s for k in known if k is not None)
    feasible, reason = _feasible(prepared, p95_s, core_s, bool(any(known)))
    accuracies = [s.candidates[0].accuracy for s in plan.stages if s.candidates]
    return PlanView(
        pipeline=prepared.compiled.spec.name,
        objective=prepared.objective.text,
        feasible=feasible,
        reason=reason,
        policy=plan.policy.name,
        workers=len(plan.workers),
        predicted_p50_ms=1000 * p50_s if any(known) else None,
        predicted_p95_ms=1000 * p95_s if any(known) else None,
        predicted_core_s=1000 * core_s if any(known) else None,
        predicted_cost=1000 * sum(k.cost for k in known if k is not None) if any(known) else None,
        unit=prepared.prices.unit,
        accuracy=min(accuracies, default=None) if prepared.compiled.spec.accuracy is not None else None,
        stages=[
            StageView(
                name=stage.name,
                type=stage.type,
                budget_ms=1000 * budgets[i] if budgets is not None and known[i] is not None else None,
                takes_ms=1000 * k.p95_s if (k := known[i]) is not None else None,
                variant=stage.configuration.variant.name if stage.configuration.variant is not None else None,
                considered=_considered(prepared, stage),
                why=_why(prepared, stage),
            )
            for i, stage in enumerate(plan.stages)
        ],
    )


def _why(prepared: Prepared, stage: StagePlan) -> str:
    if stage.configuration.variant is None:
        return "has no model: one way to run it"
    chosen = [weighed.why for weighed in prepared.compiled.weighed.get(stage.name, ()) if weighed.chosen == 0]
    return chosen[0] if chosen else "nothing that fits was measured on this machine: the first that fits"


def _known(stage: StagePlan) -> _Known | None:
    if not stage.candidates or not stage.candidates[0].points:
        return None
    first = stage.candidates[0]
    one, last = first.points[0], first.points[-1]
    return _Known(one.median_s, one.p95_s, first.cores * last.median_s / last.batch, first.full_batch_cost)


def _feasible(prepared: Prepared, p95_s: float, core_s: float, profiled: bool) -> tuple[bool | None, str]:
    plan, objective = prepared.plan, prepared.objective
    if objective.slo is None:
        return None, "there is no objective: the cheapest that is right enough is taken"
    if objective.unjudged:
        return None, objective.unjudged
    if not profiled:
        return None, "no stage has a profile: measure with llamapipe models profile"
    if plan.latency_slo_s is not None:
        fastest_s = _fastest_s(prepared)
        if fastest_s > plan.latency_slo_s:
            return False, (
                f"the fastest candidates that are right enough take {1000 * fastest_s:.0f} ms one after another, "
                f"the objective is {1000 * plan.latency_slo_s:.0f} ms"
            )
        rate = sum(float(source.info.fps or 0) for source in prepared.sources.values())
        needed = rate * core_s
        if prepared.cores and needed > prepared.cores:
            return False, f"{rate:g} frames a second want {needed:.1f} cores, there are {prepared.cores:g}"
        return True, f"{1000 * p95_s:.0f} ms of {1000 * plan.latency_slo_s:.0f} ms, one after another"
    if plan.job is not None:
        frames = sum(plan.job.num_frames.values())
        if not frames:
            return None, "nobody can say how many frames there are"
        needed_s = frames * core_s / max(1.0, prepared.cores)
        verdict = needed_s <= plan.job.deadline_s
        cores = ceil(frames * core_s / plan.job.deadline_s)
        hint = "" if verdict else f": {cores} cores would do"
        return verdict, f"{frames} frames take {needed_s:.0f} s on {prepared.cores:g} cores{hint}"
    return None, ""


def _fastest_s(prepared: Prepared) -> float:
    plan = prepared.plan
    fastest = [
        min((c.points[0].p95_s for c in _right(stage, plan.policy.floor) if c.points), default=0.0)
        for stage in plan.stages
    ]
    return max(StageGraph(Topology(plan).consumers).ways_s(fastest), default=0.0)


def _right(stage: StagePlan, floor: float) -> list[Candidate]:
    return [candidate for candidate in stage.candidates if candidate.accuracy >= floor] or list(stage.candidates)


def _cost(prices: Prices, device: str, core_s: float | None) -> float | None:
    """Of a thousand items. None where the device has no price either: such a variant is never a candidate."""
    try:
        return None if core_s is None else 1000 * core_s * prices.of(device)
    except UsageError:
        return None


def _considered(prepared: Prepared, stage: StagePlan) -> list[Considered]:
    found: list[Considered] = []
    for weighed in prepared.compiled.weighed.get(stage.name, ()):
        profile, place = weighed.profile, weighed.chosen
        candidate = stage.candidates[place] if place is not None else None
        batch = candidate.max_batch if candidate is not None else None
        measured = bool(profile.points)
        core_s = profile.core_s_per_item(batch or 1) if measured else None
        found.append(
            Considered(
                variant=profile.variant.name,
                verdict="lost" if place is None else "candidate" if place else "first",
                why=weighed.why,
                batch=batch,
                p95_ms=1000 * profile.point(1).p95_s if measured else None,
                core_ms=None if core_s is None else 1000 * core_s,
                cost=_cost(prepared.prices, profile.variant.device, core_s),
                accuracy=weighed.accuracy,
            )
        )
    return found
