"""``llamapipe plan``: what would be run, why, and what it would come to.

Nothing is run, but for sampled frames: where the floor of accuracy needs to know how far variants agree on the video,
and where no stage has a model, and so none a profile.

An objective is split into one for each operation (`llamapipe.slo`), by what the candidates that are budgeted for take.
Of a latency each has its share along the way of a frame. A job has no such way, it has workers: what a frame may take
of their time, so that the last one is done by the deadline, is shared among all operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llamapipe.catalog import BatchPoint
from llamapipe.clock import Clock, Env, SystemClock, system_env
from llamapipe.control import StagePlan
from llamapipe.control.dataflow import Topology
from llamapipe.errors import UsageError
from llamapipe.report import Considered, PlanView, StageView
from llamapipe.session.costs import CostMeter
from llamapipe.session.feasibility import capacity_of, feasible
from llamapipe.session.prepare import Prepared, prepare
from llamapipe.session.remarks import remarks_of
from llamapipe.session.request import RunRequest
from llamapipe.session.sampling import NOTHING_SEEN, Samples, sampled
from llamapipe.session.tuned import AsTuned
from llamapipe.slo import StageGraph
from llamapipe.spec import Prices

if TYPE_CHECKING:
    from llamapipe.session.searching import Step

__all__ = ["Went", "explain_plan", "view_of"]


@dataclass(frozen=True, slots=True)
class _Known:
    """What the budgeted candidate of a stage takes of a frame."""

    p50_s: float
    p95_s: float
    core_s: float
    cost: float


@dataclass(frozen=True, slots=True)
class Went:
    """What is known of a run when it is over, and was not before."""

    begins_s: float  # when the first frame was worked on, since the user asked
    frames: int  # of all sources; 0: not all of them came
    took_s: Sequence[float]  # of workers, by stage: a deadline is shared by that where nothing was known of any stage


def explain_plan(
    request: RunRequest,
    *,
    on_step: Callable[[Step], None] = lambda _: None,
    clock: Clock | None = None,
    env: Env | None = None,
) -> PlanView:
    """Check everything, choose, and say why; ``on_step`` is told of what is tried on sampled frames.

    Raises what `run` raises where the run could not begin.
    """
    clock = clock if clock is not None else SystemClock()
    env = env if env is not None else system_env()
    from llamapipe.session.agreeing import with_agreements

    request = with_agreements(request, clock=clock, env=env, on_step=on_step)
    began_s = clock.now_s()
    prepared = prepare(request, clock=clock, env=env, dry=True, results=True)
    try:
        ready_s = clock.now_s() - began_s
        return view_of(prepared, ready_s, sampled(prepared, request, clock, env))
    finally:
        prepared.close()


def view_of(
    prepared: Prepared,
    ready_s: float = 0.0,
    samples: Samples = NOTHING_SEEN,
    went: Went | None = None,
) -> PlanView:
    """What a run that can begin, and took ``ready_s`` to prepare, is planned to do.

    ``samples``: what was seen on sampled frames where there are no profiles. ``went``: of a run that is over.
    """
    plan, tuned = prepared.plan, AsTuned.of(prepared.request)
    known = [_known(stage, samples.stages.get(stage.name), prepared.prices) for stage in plan.stages]
    efforts = [0.0 if k is None else k.p95_s for k in known]
    graph = StageGraph(Topology(plan).consumers)
    bound_s = plan.latency_slo_s
    budgets = None
    if bound_s is not None and any(efforts):
        budgets = graph.budgets_s(bound_s, efforts)
    elif plan.job is not None:
        shares = [0.0 if k is None else k.core_s for k in known]
        budgets = _job_budgets_s(prepared, shares, ready_s, went)
    p95_s = max(graph.ways_s(efforts), default=0.0)
    p50_s = max(graph.ways_s([0.0 if k is None else k.p50_s for k in known]), default=0.0)
    items = _items(prepared)
    core_s = sum(n * k.core_s for n, k in zip(items, known, strict=True) if k is not None)
    verdict, reason = feasible(prepared, p95_s, ready_s, samples)
    if tuned is not None and prepared.objective.slo is None:
        reason = f"there is no objective: it runs {tuned.why}"
    fps = _fps(prepared, core_s)
    accuracy = None
    if tuned is not None:
        accuracy = tuned.accuracy
    elif prepared.compiled.spec.accuracy is not None:
        accuracy = min((s.candidates[0].accuracy for s in plan.stages if s.candidates), default=None)
    return PlanView(
        pipeline=prepared.compiled.spec.name,
        objective=prepared.objective.text,
        feasible=verdict,
        reason=reason,
        policy=plan.policy.name,
        workers=len(plan.workers),
        cores=prepared.allotment.cores,
        why_cores=prepared.allotment.why,
        predicted_p50_ms=1000 * p50_s if any(known) else None,
        predicted_p95_ms=1000 * p95_s if any(known) else None,
        predicted_core_s=1000 * core_s if any(known) else None,
        predicted_cost=1000 * sum(n * k.cost for n, k in zip(items, known, strict=True) if k is not None)
        if any(known)
        else None,
        predicted_fps=fps,
        predicted_reserved=1000 * _meter(prepared).cost_per_s / fps if fps else None,
        unit=prepared.prices.unit,
        accuracy=accuracy,
        accuracy_of=tuned.accuracy_of if tuned is not None else "",
        stages=[
            StageView(
                name=stage.name,
                type=stage.type,
                budget_ms=1000 * budgets[i] if budgets is not None and (not any(known) or known[i]) else None,
                takes_ms=1000 * k.p95_s if (k := known[i]) is not None else None,
                variant=stage.configuration.variant.name if stage.configuration.variant is not None else None,
                considered=_considered(prepared, stage, tuned),
                why=_why(prepared, stage, tuned),
                items=items[i],
            )
            for i, stage in enumerate(plan.stages)
        ],
        notes=remarks_of(prepared),
    )


def _items(prepared: Prepared) -> list[float]:
    """By stage, that it works on for a frame: as runs like it did; else one, or fewer where it leaves frames out."""
    needed = prepared.memory.recall() if prepared.memory is not None else None
    seen = {} if needed is None else needed.items
    rates = [float(source.info.fps) for source in prepared.sources.values() if source.info.fps]
    shares = [
        1.0 if stage.sample_fps is None or not rates else min(1.0, stage.sample_fps * len(rates) / sum(rates))
        for stage in prepared.plan.stages
    ]
    return [seen.get(stage.name, share) for stage, share in zip(prepared.plan.stages, shares, strict=True)]


def _job_budgets_s(
    prepared: Prepared, efforts_s: Sequence[float], ready_s: float, went: Went | None
) -> list[float] | None:
    """Of every operation: how much of its workers' time a frame may take, so that all are done by the deadline.

    That of a frame is (D - begins) / N for each worker that it begins with and has a core, N frames and the seconds
    until the first of them as it went, else as expected. None where nobody can say.
    """
    job = prepared.plan.job
    assert job is not None
    frames = sum(job.num_frames.values()) if len(job.num_frames) == len(prepared.plan.streams) else 0
    if went is not None:
        frames, begins_s = went.frames or frames, went.begins_s
        efforts_s = efforts_s if any(efforts_s) else went.took_s
    else:
        like = prepared.memory.recall() if prepared.memory is not None else None
        begins_s = prepared.request.waited_s + ready_s + (like.load_s if like is not None else 0.0)
    whole_s = sum(efforts_s)
    if not whole_s or not frames:
        return None
    workers = max(1.0, min(prepared.plan.allotted or len(prepared.plan.workers), prepared.cores_held))
    frame_s = workers * max(0.0, job.deadline_s - begins_s) / frames
    return [frame_s * (own_s / whole_s) for own_s in efforts_s]


def _meter(prepared: Prepared) -> CostMeter:
    return CostMeter(prepared.plan, prepared.prices, cores=prepared.cores_held, decoders=prepared.decoders)


def _fps(prepared: Prepared, core_s: float) -> float | None:
    """Frames a second that models allow, all sources together; of what comes at its own rate no more than that."""
    if not core_s:
        return None
    most = capacity_of(prepared) / core_s
    paced = all(stream.paced for stream in prepared.plan.streams)
    rate = sum(float(source.info.fps or 0) for source in prepared.sources.values())
    return min(most, rate) if paced and rate else most


def _why(prepared: Prepared, stage: StagePlan, tuned: AsTuned | None) -> str:
    if tuned is not None and tuned.decides(stage.name):
        return tuned.why
    if stage.configuration.variant is None:
        return "has no model: one way to run it"
    chosen = [weighed.why for weighed in prepared.compiled.weighed.get(stage.name, ()) if weighed.chosen == 0]
    return chosen[0] if chosen else "nothing that fits was measured on this machine: the first that fits"


def _known(stage: StagePlan, seen: BatchPoint | None, prices: Prices) -> _Known | None:
    if seen is not None:
        return _Known(seen.median_s, seen.p95_s, seen.core_s, seen.core_s * prices.of("cpu"))
    if not stage.candidates or not stage.candidates[0].points:
        return None
    first = stage.candidates[0]
    one, last = first.points[0], first.points[-1]
    return _Known(one.median_s, one.p95_s, first.cores * last.median_s / last.batch, first.full_batch_cost)


def _cost(prices: Prices, device: str, core_s: float | None) -> float | None:
    """Of a thousand items. None where the device has no price either: such a variant is never a candidate."""
    try:
        return None if core_s is None else 1000 * core_s * prices.of(device)
    except UsageError:
        return None


def _considered(prepared: Prepared, stage: StagePlan, tuned: AsTuned | None) -> list[Considered]:
    found: list[Considered] = []
    as_tuned = tuned.why if tuned is not None and tuned.decides(stage.name) else ""
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
                why=as_tuned if as_tuned and place == 0 else weighed.why,
                batch=batch,
                p95_ms=1000 * profile.point(1).p95_s if measured else None,
                core_ms=None if core_s is None else 1000 * core_s,
                cost=_cost(prepared.prices, profile.variant.device, core_s),
                accuracy=weighed.accuracy,
            )
        )
    return found
