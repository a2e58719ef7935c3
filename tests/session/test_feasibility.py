"""No is said only of what no run can do, and yes only where there is room for what has no profile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llamapipe.catalog import BatchPoint, Configuration, Variant
from llamapipe.control import Candidate, EdgePlan, JobPlan, PolicyPlan, RunPlan, StagePlan, WorkerPlan
from llamapipe.session.allotment import Needed
from llamapipe.session.feasibility import feasible
from llamapipe.session.objective import objective_of
from llamapipe.session.sampling import NOTHING_SEEN, Samples


def candidate(median_s: float, p95_s: float, *, accuracy: float = 1.0) -> Candidate:
    point = BatchPoint(1, median_s, p95_s, median_s, 10)
    return Candidate(Configuration(Variant("net", "onnxruntime")), (point,), accuracy)


def stage(name: str, *candidates: Candidate, after: str = "", **more: Any) -> StagePlan:
    edges = (EdgePlan("in", after, "out", "boxes"),) if after else ()
    return StagePlan(name, name, edges, {"out": "boxes"}, Configuration(), candidates=candidates, **more)


def verdict(
    slo: str,
    *stages: StagePlan,
    fps: float = 10.0,
    cores: float = 2.0,
    workers: int = 3,
    floor: float = 0.0,
    samples: Samples = NOTHING_SEEN,
    known: Needed | None = None,
) -> tuple[bool | None, str]:
    objective = objective_of(slo, None, unpaced=[], live=[])
    bound_s = objective.quantile[1] if objective.quantile is not None else None
    seats = tuple(WorkerPlan(f"w{i}") for i in range(workers))
    assert objective.slo is not None
    job = JobPlan(0.0, objective.slo.deadline_s, {"s": 100}) if objective.slo.deadline_s is not None else None
    plan = RunPlan(
        "p", stages, (), (), seats, latency_slo_s=bound_s, job=job, policy=PolicyPlan("llamapipe", floor=floor)
    )
    source = SimpleNamespace(info=SimpleNamespace(fps=fps))
    memory = SimpleNamespace(recall=lambda: known)
    prepared: Any = SimpleNamespace(plan=plan, objective=objective, sources={"s": source}, cores=cores, memory=memory)
    p95_s = sum(s.candidates[0].points[0].p95_s for s in stages if s.candidates)
    return feasible(prepared, p95_s, samples=samples)


@pytest.mark.parametrize(
    ("slo", "expected"), [("p95=25ms", False), ("p95=35ms", None), ("p95=59ms", None), ("p95=61ms", True)]
)
def test_between_no_and_yes_nobody_can_say(slo: str, expected: bool | None) -> None:
    assert verdict(slo, stage("a", candidate(0.02, 0.03)))[0] is expected


def test_a_median_is_held_against_medians() -> None:
    assert verdict("p50=25ms", stage("a", candidate(0.02, 0.03)))[0] is None
    assert verdict("p50=15ms", stage("a", candidate(0.02, 0.03)))[0] is False


def test_tails_of_several_stages_do_not_add_up_for_a_no_and_medians_do() -> None:
    two = stage("a", candidate(0.01, 0.03)), stage("b", candidate(0.01, 0.03), after="a")
    assert verdict("p95=50ms", *two)[0] is None
    assert verdict("p95=29ms", *two)[0] is False
    assert verdict("p95=19ms", *two)[1].startswith("the fastest candidates that are right enough take")


def test_a_stage_that_frames_may_pass_by_makes_nothing_infeasible() -> None:
    first = stage("a", candidate(0.001, 0.001))
    slow = candidate(5.0, 5.0)
    assert verdict("p95=1s", first, stage("b", slow, after="a", when="any($ops.a.out)"))[0] is None
    assert verdict("p95=1s", first, stage("b", slow, after="a", sample_fps=1.0))[0] is None
    gate = stage("a", filters=True)
    assert verdict("p95=1s", gate, stage("b", slow, after="a"))[0] is None
    assert verdict("p95=1s", first, stage("b", slow, after="a"))[0] is False


def test_what_is_not_right_enough_does_not_count() -> None:
    both = stage("a", candidate(0.08, 0.09), candidate(0.001, 0.001, accuracy=0.5))
    assert verdict("p95=50ms", both, floor=0.9)[0] is False
    assert verdict("p95=50ms", both, floor=0.4)[0] is None


def test_more_frames_than_cores_or_workers_can_do_are_infeasible_unless_they_may_be_dropped() -> None:
    busy = stage("a", candidate(0.15, 0.15))
    assert verdict("p95=10s", busy)[0] is True
    assert verdict("p95=10s", busy, fps=20.0) == (False, "20 frames a second want 3.0 cores, there are 2")
    assert verdict("p95=10s", busy, workers=1)[0] is False
    assert verdict("p95=10s,drops=50%", busy, fps=20.0)[0] is True


def test_a_job_has_as_long_as_its_frames_take_at_least() -> None:
    assert verdict("deadline=10s", stage("a", candidate(0.1, 0.2)))[0] is True
    tight, why = verdict("deadline=10s", stage("a", candidate(0.15, 0.2)))
    assert tight is None
    assert why.endswith("it is tight, and loading, decoding and stages without a model come on top")
    late, why = verdict("deadline=10s", stage("a", candidate(0.3, 0.3)))
    assert late is False
    assert why == "100 frames take 15 s at least on 2 cores: 3 cores would do"


def test_without_profiles_nobody_can_say() -> None:
    assert verdict("p95=1ms", stage("a"))[0] is None


@pytest.mark.parametrize(
    ("slo", "expected"),
    [
        *[("p95=14ms", False), ("p50=14ms", False), ("p95=24ms", None), ("p95=26ms", True)],
        *[("deadline=0.7s", None), ("deadline=0.3s", False)],
    ],
)
def test_sampled_frames_stand_in_for_profiles_where_no_stage_has_a_model(slo: str, expected: bool | None) -> None:
    """The stage takes 10 of the frame's 20 ms; the job has 100 frames for two cores."""
    samples = Samples({"a": BatchPoint(1, 0.01, 0.01, 0.01)}, frame_s=0.02)
    assert verdict(slo, stage("a"), samples=samples)[0] is expected


def test_what_runs_like_it_took_to_load_and_to_work_off_bounds_a_job_too() -> None:
    samples, known = Samples({"a": BatchPoint(1, 0.001, 0.001, 0.001)}), Needed(core_s=0.01, load_s=0.5)
    assert verdict("deadline=0.8s", stage("a"), samples=samples, known=known)[0] is None
    said = verdict("deadline=0.7s", stage("a"), samples=samples, known=known)
    assert said == (False, "by what runs like it took, loading and 100 frames take 1 s")


def test_without_a_model_and_without_a_look_at_frames_nobody_can_say() -> None:
    assert verdict("p95=25ms", stage("a")) == (None, "no stage has a model, and no frames were looked at")


def test_a_network_with_several_threads_is_faster_than_its_workers_are_many() -> None:
    wide = Candidate(
        Configuration(Variant("net", "onnxruntime", threads=4)), (BatchPoint(1, 0.02, 0.02, 0.08, 10),), 1.0
    )
    assert verdict("deadline=3s", stage("a", wide), cores=4.0, workers=1)[0] is not False
    assert verdict("deadline=1.9s", stage("a", wide), cores=4.0, workers=1)[0] is False
