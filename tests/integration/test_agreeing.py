"""A floor of agreement where the catalogue has no such figure: it is measured on the video that is run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from llamapipe.clock import SystemClock
from llamapipe.inference import open_catalogue
from llamapipe.session import RunRequest, run
from llamapipe.session.agreeing import with_agreements
from llamapipe.session.planning import explain_plan
from tests.integration.test_choices import FAST, GOOD, env, fill
from tests.integration.test_tuning import PIPELINE

__all__ = ["env"]  # the fixture


@pytest.fixture
def asked(tmp_path: Path, assets: Path) -> RunRequest:
    pipeline = tmp_path / "people.yaml"
    pipeline.write_text(PIPELINE)
    return RunRequest(str(pipeline), (str(assets / "TUD-Stadtmitte.mp4"),))


def profiled(env: dict[str, str]) -> None:
    """Two variants are measured, and nobody knows how right they are."""
    fill(env, {GOOD: 1.0, FAST: 1.0})
    with open_catalogue(env) as catalogue:
        catalogue.put(*(msgspec.structs.replace(profile, accuracy=()) for profile in catalogue.profiles()))


def test_a_plan_measures_agreement_once_and_a_run_keeps_the_floor_by_it(
    asked: RunRequest, env: dict[str, str], tmp_path: Path
) -> None:
    profiled(env)
    steps: list[object] = []
    view = explain_plan(replace(asked, realtime=True, slo="p95=2s"), env=env, on_step=steps.append)
    assert steps
    assert view.feasible
    figures = {considered.variant: considered.accuracy for considered in view.stages[0].considered}
    assert figures[GOOD.name] is not None
    assert view.accuracy is not None
    assert view.accuracy >= 0.7

    known = with_agreements(asked, clock=SystemClock(), env=env, on_step=lambda _: pytest.fail("tried again")).agreed
    assert known is not None
    assert "tried earlier" in known.note
    assert known.by_stage["detect"][GOOD] >= 0.7

    summary = run(replace(asked, output=tmp_path / "out", max_frames=10), env=env)
    assert summary.outcome == "done"
    assert summary.stages[0].variant == view.stages[0].variant
    assert summary.notes == []

    assert explain_plan(replace(asked, realtime=True, slo="p95=0.1ms"), env=env).feasible is False


def test_figures_that_a_variant_was_built_with_do_not_stand_for_this_video(
    asked: RunRequest, env: dict[str, str]
) -> None:
    fill(env, {GOOD: 1.0, FAST: 0.9})  # on the frames that it was built with
    agreed = with_agreements(asked, clock=SystemClock(), env=env).agreed
    assert agreed is not None
    assert not agreed.warns
    assert "configurations agree with the reference" in agreed.note
    assert agreed.by_stage["detect"].get(FAST) != 0.9


def test_where_nothing_can_be_tried_figures_of_other_frames_are_gone_by(asked: RunRequest, env: dict[str, str]) -> None:
    fill(env, {GOOD: 1.0, FAST: 0.8})
    for request, untried in (
        (replace(asked, sources=("rtsp://127.0.0.1:9/none",)), ""),
        (asked, "there is no time for it"),
    ):
        agreed = with_agreements(request, clock=SystemClock(), env=env, untried=untried).agreed
        assert agreed is not None
        assert agreed.warns
        assert "built with" in agreed.note
        assert agreed.by_stage["detect"][FAST] == 0.8
        assert agreed.by_stage["detect"][GOOD] == 1.0


def test_without_profiles_the_reference_runs_and_the_summary_says_what_to_do(
    asked: RunRequest, env: dict[str, str], tmp_path: Path
) -> None:
    summary = run(replace(asked, output=tmp_path / "out", max_frames=5), env=env)
    assert summary.outcome == "done"
    assert any("llamapipe models profile --task person-detection" in note for note in summary.notes)


def test_what_cannot_be_sampled_is_run_by_the_reference(asked: RunRequest, env: dict[str, str]) -> None:
    profiled(env)
    live = replace(asked, sources=("rtsp://127.0.0.1:9/none",))
    known = with_agreements(live, clock=SystemClock(), env=env).agreed
    assert known is not None
    assert known.warns
    assert set(known.by_stage["detect"].values()) <= {1.0}
    assert FAST not in known.by_stage["detect"]


def test_videos_that_were_not_sampled_and_look_otherwise_are_named(
    asked: RunRequest, env: dict[str, str], assets: Path, tmp_path: Path
) -> None:
    profiled(env)
    both = replace(asked, sources=[*asked.sources, str(assets / "car-detection.mp4")], max_frames=5)
    summary = run(replace(both, output=tmp_path / "out"), env=env)
    assert summary.outcome == "done"
    (note,) = [note for note in summary.notes if "unlike" in note]
    assert "car-detection.mp4 (distance " in note
    assert not with_agreements(asked, clock=SystemClock(), env=env).remarks
