"""``llamapipe plan``: budgets that add up, candidates and losers with their reasons, and what cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from llamapipe.catalog import Variant
from llamapipe.errors import UsageError
from llamapipe.inference import open_catalogue
from llamapipe.report import PlanView
from llamapipe.session import RunRequest, load_pipeline
from llamapipe.session.pinned import digest_of_pipeline
from llamapipe.session.planning import explain_plan
from llamapipe.tune import Tuning, VideoSignature
from tests.integration.test_choices import FAST, GOOD, PIPELINE, ROUGH, env, fill, told

__all__ = ["env"]  # the fixture

WORSE = Variant("yolox-nano", "onnxruntime", "cpu", "fp32", (416, 416), 1)


def plan(tmp_path: Path, env: dict[str, str], assets: Path, **more: object) -> PlanView:
    pipeline = tmp_path / "people.yaml"
    pipeline.write_text(PIPELINE)
    given = {"agreed": told(env)} | more
    return explain_plan(RunRequest(str(pipeline), (str(assets / "TUD-Stadtmitte.mp4"),), **given), env=env)


def test_a_plan_says_what_is_chosen_and_why_each_other_lost(tmp_path: Path, env: dict[str, str], assets: Path) -> None:
    fill(env, {GOOD: 1.0, FAST: 0.9, ROUGH: 0.5, WORSE: 0.3})
    view = plan(tmp_path, env, assets, realtime=True, slo="p95=2s")
    (stage,) = view.stages
    verdicts = {considered.variant: considered for considered in stage.considered}
    assert verdicts[FAST.name].verdict == "first"
    assert verdicts[GOOD.name].verdict == "lost"
    assert verdicts[ROUGH.name].verdict == "candidate"  # for the day that it all gets too much
    assert verdicts[WORSE.name].why == "agreement 0.300 is below 0.4"
    assert view.feasible
    assert stage.budget_ms == pytest.approx(2000)
    assert view.accuracy == pytest.approx(0.9)


def test_a_floor_that_the_run_is_given_goes_before_the_pipelines(
    tmp_path: Path, env: dict[str, str], assets: Path
) -> None:
    fill(env, {GOOD: 1.0, FAST: 0.9, ROUGH: 0.5})
    view = plan(tmp_path, env, assets, realtime=True, slo="p95=2s", min_accuracy=0.95)
    assert view.stages[0].variant == GOOD.name
    view = plan(tmp_path, env, assets, realtime=True, slo="p95=2s", min_accuracy=0.45)
    assert view.stages[0].variant in (FAST.name, ROUGH.name)
    assert view.accuracy is not None
    assert view.accuracy < 0.95


def test_a_tuned_configuration_has_its_budget_and_verdict(tmp_path: Path, env: dict[str, str], assets: Path) -> None:
    fill(env, {GOOD: 1.0, FAST: 0.9})
    (tmp_path / "people.yaml").write_text(PIPELINE)
    loaded = load_pipeline(tmp_path / "people.yaml", env=env)
    knobs = {"model": FAST.model, "backend": FAST.backend, "precision": FAST.precision, "input_size": [256, 256]}
    tuning = Tuning(
        pipeline="people-only",
        digest=digest_of_pipeline(loaded.spec),
        objective="p95<=2000ms",
        metric="agreement",
        floor=0.8,
        hardware="",
        signature=VideoSignature(640, 480, 25.0, (1.0,), 0.0, 0.0, (0.0,)),
        video="street.mp4",
        values={f"detect.{knob}": value for knob, value in knobs.items()},
        predicted=None,
        reference={},
        tried=(),
        points=1,
        frames=40,
        budget_s=10.0,
        took_s=5.0,
    )
    view = plan(tmp_path, env, assets, realtime=True, config=tuning)
    (stage,) = view.stages
    assert (stage.variant, stage.budget_ms) == (FAST.name, pytest.approx(2000))
    assert view.feasible
    assert view.notes[0].startswith("on_overload: degrade does nothing: a tuned configuration")
    assert plan(tmp_path, env, assets, realtime=True, config=tuning, slo="p95=1ms").feasible is False


def test_a_deadline_is_shared_among_operations_as_time_of_workers_for_a_frame(
    tmp_path: Path, env: dict[str, str], assets: Path
) -> None:
    fill(env, {GOOD: 1.0})
    with open_catalogue(env) as catalogue:
        profile = catalogue.profile(GOOD.name)
        assert profile is not None
        light = tuple(
            msgspec.structs.replace(point, median_s=1e-4, p95_s=1e-4, core_s=1e-4) for point in profile.points
        )
        catalogue.put(msgspec.structs.replace(profile, points=light))
    one, two = (plan(tmp_path, env, assets, slo="deadline=100s", workers=n).stages[0] for n in (1, 2))
    assert one.budget_ms is not None
    assert two.budget_ms is not None
    frames = 179  # of the clip; getting ready takes a part of the 100 s
    assert 80_000 / frames < one.budget_ms < 100_000 / frames
    cores = len(os.sched_getaffinity(0))
    assert two.budget_ms == pytest.approx(min(2, cores) * one.budget_ms, rel=0.1)


def test_what_no_variant_can_do_is_called_infeasible(tmp_path: Path, env: dict[str, str], assets: Path) -> None:
    fill(env, {GOOD: 1.0})
    view = plan(tmp_path, env, assets, realtime=True, slo="p95=1ms")
    assert view.feasible is False
    assert "the objective is 1 ms" in view.reason
    job = plan(tmp_path, env, assets, slo="deadline=0.1s")
    assert job.feasible is False
    assert "cores would do" in job.reason


def test_more_frames_than_the_machine_has_cores_for_is_infeasible(
    tmp_path: Path, env: dict[str, str], assets: Path
) -> None:
    fill(env, {GOOD: 1.0})
    with open_catalogue(env) as catalogue:
        profile = catalogue.profile(GOOD.name)
        assert profile is not None
        slow = tuple(msgspec.structs.replace(point, median_s=3.0, p95_s=3.1) for point in profile.points)
        catalogue.put(msgspec.structs.replace(profile, points=slow))
    view = plan(tmp_path, env, assets, realtime=True, slo="p95=5s")
    assert view.feasible is False
    assert "frames a second want" in view.reason


def test_without_profiles_nobody_can_say(tmp_path: Path, env: dict[str, str], assets: Path) -> None:
    view = plan(tmp_path, env, assets, realtime=True, slo="p95=200ms")
    assert view.feasible is None
    assert "models profile" in view.reason
    assert view.stages[0].considered == []


def test_an_accuracy_that_is_not_there_is_refused_before_anything_runs(
    tmp_path: Path, env: dict[str, str], assets: Path
) -> None:
    fill(env, {ROUGH: 0.3})
    with pytest.raises(UsageError, match="cannot be had"):
        plan(tmp_path, env, assets)
