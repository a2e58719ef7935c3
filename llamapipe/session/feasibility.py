"""Whether an objective can be met, from profiles alone.

"No" is said only of what no run can do: it counts the fastest and the cheapest candidates that are right enough, of
stages that every frame goes through, and of nothing else. With m(s) and q(s) the least median and 95th percentile of
stage s, a latency bound L at a quantile of 0.95 or above cannot be met where, on some way from source to sink,

    max(sum over s of m(s), max over s of q(s)) > L

since times add up and none is below nothing; below 0.95 only the medians count. Stages without a model, decoding and
encoding come on top and have no profile: "yes" is said where the 95th percentiles of what is budgeted for, one after
another, leave them half of the bound, the share that candidates are budgeted by. Of what lies between nobody can say.

Where no stage has a model, what sampled frames took stands in for profiles, and of a job what runs like it took, less
sure: "no" is said where three quarters of that is too much.

A job of n frames cannot be done by a deadline D where its models' core-seconds on all cores, and what it took to get
ready for it here, exceed D. "Yes" is said where they leave a quarter of the time after loading to all the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from llamapipe.control import Candidate, RunPlan, StagePlan
from llamapipe.control.dataflow import Topology
from llamapipe.session.prepare import Prepared
from llamapipe.session.sampling import NOTHING_SEEN, Samples
from llamapipe.slo import StageGraph

__all__ = ["capacity_of", "feasible"]

_TAIL = 0.95  # quantile that profiles know
_SHARE = 0.5  # of a latency bound, that models may take for it to be met
_LOADING_S = 2.0  # until a run delivers its first frame
_SURELY = 0.75  # of what stages took on sampled frames, that they take in any run
_NEAR = 0.8  # of a latency bound, that the median frame may take for the others to be in time, too
_JOB_SHARE = 0.75  # of the time after that, that models may take for a deadline to be met


def capacity_of(prepared: Prepared) -> float:
    """Cores that stages can use at once: a worker calls one network at a time, with as many threads as that has."""
    threads = max((c.cores for stage in prepared.plan.stages for c in stage.candidates), default=1.0)
    return max(1.0, min(prepared.cores, len(prepared.plan.workers) * max(1.0, threads)))


def feasible(
    prepared: Prepared, p95_s: float, ready_s: float = 0.0, samples: Samples = NOTHING_SEEN
) -> tuple[bool | None, str]:
    """The verdict, None where nobody can say, and why.

    ``p95_s``: of all that is budgeted for, one after another; ``ready_s``: what it took to prepare the run, without
    loading anything; ``samples``: what was seen on sampled frames where there are no profiles.
    """
    plan, objective = prepared.plan, prepared.objective
    if objective.slo is None:
        return None, "there is no objective: the cheapest that is right enough is taken"
    if objective.unjudged:
        return None, objective.unjudged
    takes = _of_samples(plan, samples) if samples.stages else _of_profiles(plan)
    if takes is None:
        models = any(stage.configuration.variant is not None for stage in plan.stages)
        return None, (
            "no stage has a profile: measure with llamapipe models profile"
            if models
            else "no stage has a model, and no frames were looked at"
        )
    if plan.latency_slo_s is not None:
        quantile = objective.quantile[0] if objective.quantile is not None else _TAIL
        rate = sum(float(source.info.fps or 0) for source in prepared.sources.values())
        needed_rate = rate * (1 - objective.slo.max_drop_share)
        return _latency(plan, takes, plan.latency_slo_s, quantile, p95_s, needed_rate, capacity_of(prepared))
    if plan.job is not None:
        frames = sum(plan.job.num_frames.values())
        if not frames:
            return None, "nobody can say how many frames there are"
        needed_s = frames * takes.core_s / capacity_of(prepared)
        cores = ceil(frames * takes.core_s / plan.job.deadline_s)
        hint = "" if needed_s <= plan.job.deadline_s else f": {cores} cores would do"
        told = f"{frames} frames take {needed_s:.3g} s at least on {capacity_of(prepared):g} cores{hint}"
        known = prepared.memory.recall() if prepared.memory is not None and samples.stages else None
        if known is not None:
            usual_s = known.load_s + frames * known.core_s / capacity_of(prepared)
            if _SURELY * usual_s > plan.job.deadline_s:
                return False, f"by what runs like it took, loading and {frames} frames take {usual_s:.3g} s"
        if needed_s + ready_s > plan.job.deadline_s:
            return False, told if hint else f"{told}, after {ready_s:.2g} s of getting ready"
        if needed_s > _JOB_SHARE * (plan.job.deadline_s - _LOADING_S):
            return None, f"{told}: it is tight, and loading, {takes.besides} come on top"
        return True, told
    return None, ""


@dataclass(frozen=True, slots=True)
class _Takes:
    """What a frame takes at least. Seconds by stage, core-seconds in all."""

    medians_s: list[float]
    tails_s: list[float]  # of single stages; empty: nobody knows
    core_s: float
    of: str  # whose times these are
    besides: str  # what is not in them
    frame_s: float = 0.0  # median of frames that were seen, all included; 0: none were

    def least_s(self, plan: RunPlan, quantile: float) -> float:
        """That a frame takes on its longest way, or at all."""
        ways_s = StageGraph(Topology(plan).consumers).ways_s(self.medians_s)
        return max(_SURELY * self.frame_s, *ways_s, *(self.tails_s if quantile >= _TAIL else ()))


def _of_profiles(plan: RunPlan) -> _Takes | None:
    if not any(candidate.points for stage in plan.stages for candidate in stage.candidates):
        return None
    return _Takes(
        _least(plan, lambda c: c.points[0].median_s),
        _least(plan, lambda c: c.points[0].p95_s),
        sum(_least(plan, lambda c: c.cores * c.points[-1].median_s / c.points[-1].batch)),
        "the fastest candidates that are right enough",
        "decoding and stages without a model",
    )


def _of_samples(plan: RunPlan, samples: Samples) -> _Takes:
    """Of tails so few frames say nothing for sure: but a tail is no shorter than the median."""
    certain = [
        samples.stages.get(stage.name) if every else None
        for stage, every in zip(plan.stages, _certain(plan), strict=True)
    ]
    return _Takes(
        [0.0 if took is None else _SURELY * took.median_s for took in certain],
        [],
        sum(_SURELY * took.core_s for took in certain if took is not None),
        f"frames, by {_SURELY:.0%} of what sampled ones took,",
        "decoding and writing",
        samples.frame_s,
    )


def _latency(
    plan: RunPlan, takes: _Takes, bound_s: float, quantile: float, p95_s: float, rate: float, cores: float
) -> tuple[bool | None, str]:
    least_s = takes.least_s(plan, quantile)
    if least_s > bound_s:
        return False, f"{takes.of} take {1000 * least_s:.3g} ms, the objective is {1000 * bound_s:.3g} ms"
    needed = rate * takes.core_s
    if needed > cores:
        return False, f"{rate:g} frames a second want {needed:.1f} cores, there are {cores:g}"
    told = f"what is known takes {1000 * p95_s:.3g} ms of {1000 * bound_s:.3g} ms, one after another"
    if p95_s > _SHARE * bound_s:
        return None, f"{told}: it is tight, and {takes.besides} come on top"
    if takes.frame_s > _NEAR * bound_s:
        return None, f"sampled frames took {1000 * takes.frame_s:.3g} ms of {1000 * bound_s:.3g} ms: it is tight"
    return True, told


def _least(plan: RunPlan, of: Callable[[Candidate], float]) -> list[float]:
    """By stage, of its candidates that are right enough; 0 of stages without a profile, or that frames may pass by."""
    found: list[float] = []
    for stage, certain in zip(plan.stages, _certain(plan), strict=True):
        known = [of(c) for c in _right(stage, plan.policy.floor) if c.points] if certain else []
        found.append(min(known, default=0.0))
    return found


def _certain(plan: RunPlan) -> list[bool]:
    """By stage: whether every frame goes through it, once."""
    producers = Topology(plan).producers
    found: list[bool] = []
    for stage, above in zip(plan.stages, producers, strict=True):
        free = stage.when is None and not stage.level and stage.sample_fps is None and stage.hold_unless is None
        found.append(free and all(found[i] and not plan.stages[i].filters for i in above))
    return found


def _right(stage: StagePlan, floor: float) -> list[Candidate]:
    return [candidate for candidate in stage.candidates if candidate.accuracy >= floor] or list(stage.candidates)
