"""Frames without motion, on real video: what is skipped, what comes out all the same, and whether a tuner finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamapipe.control import read_log
from llamapipe.report import RunSummary
from llamapipe.session import RunRequest, run
from llamapipe.session.comparing import compare_runs
from llamapipe.session.pinned import pin
from llamapipe.session.tune_request import TuneRequest
from llamapipe.session.tuning import tune
from tests.integration.test_choices import env

__all__ = ["env"]  # the fixture

# Somebody comes, stands for a while, and leaves: ten seconds at ten frames a second.
BEGIN_S, END_S = 12.0, 22.0

PIPELINE = """
name: people-only
ops:
  - name: detect
    type: detect
    inputs: $source.frames
    task: person-detection
    model: yolox-nano
    input_size: 256
    min_score: 0.3
  - {name: again, type: detect, inputs: $source.frames, task: person-detection, model: yolox-nano, input_size: 256}
sinks:
  - {type: jsonl, inputs: [$ops.detect.boxes, $ops.again.boxes], path: detections.jsonl}
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    path = tmp_path / "people.yaml"
    path.write_text(PIPELINE)
    return path


def ran(
    pipeline: Path, env: dict[str, str], assets: Path, output: Path, *, video: str = "one-by-one-person-detection.mp4"
) -> RunSummary:
    request = RunRequest(
        str(pipeline), [str(assets / video)], output=output, start_s=BEGIN_S, end_s=END_S, record_events=True
    )
    summary = run(request, env=env)
    assert summary.outcome == "done"
    assert summary.frames.delivered == summary.frames.decoded
    return summary


def test_still_frames_are_skipped_and_keep_their_boxes(
    pipeline: Path, env: dict[str, str], assets: Path, tmp_path: Path
) -> None:
    ran(pipeline, env, assets, tmp_path / "all")
    pipeline.write_text(PIPELINE.replace("min_score: 0.3", "min_score: 0.3\n    skip_still: 0.004"))
    summary = ran(pipeline, env, assets, tmp_path / "some")
    frames = summary.frames.decoded
    items = {stage.name: stage.items for stage in summary.stages}
    assert items["detect-motion"] == items["again"] == frames
    assert 0 < items["detect"] < 0.8 * frames
    found = {pair.stage: pair for pair in compare_runs(tmp_path / "all", tmp_path / "some").agreement}
    assert found["detect"].boxes_a > 20
    assert (found["detect"].f1 or 0.0) > 0.9
    assert found["again"].f1 == 1.0
    page = (tmp_path / "some" / "report.html").read_text()
    assert "detect-motion" in page
    assert "skip_still=0.004" in page
    plan, _ = read_log((tmp_path / "some" / "events.jsonl").read_bytes().splitlines())
    assert [stage.hold_unless for stage in plan.stages if stage.name == "detect"] == ["any($ops.detect-motion.events)"]


def test_stages_that_ask_the_same_share_what_tells_them(
    pipeline: Path, env: dict[str, str], assets: Path, tmp_path: Path
) -> None:
    pipeline.write_text(
        PIPELINE.replace("input_size: 256", "input_size: 256, skip_still: 0.01", 2).replace(
            "input_size: 256, skip_still: 0.01\n", "input_size: 256\n    skip_still: 0.01\n"
        )
    )
    summary = ran(pipeline, env, assets, tmp_path / "out")
    assert [stage.name for stage in summary.stages if "motion" in stage.name] == ["detect-motion"]
    items = {stage.name: stage.items for stage in summary.stages}
    assert items["detect"] == items["again"] < summary.frames.decoded


def test_a_tuner_skips_still_frames_where_there_are_some(
    pipeline: Path, env: dict[str, str], assets: Path, tmp_path: Path
) -> None:
    pipeline.write_text(
        PIPELINE.replace(", $ops.again.boxes", "").replace(
            next(line for line in PIPELINE.splitlines(True) if "name: again" in line), ""
        )
    )
    asked = TuneRequest(
        str(pipeline),
        str(assets / "one-by-one-person-detection.mp4"),
        sets={"detect.sample_fps": "10"},  # all: the only choice left is whether still frames are looked at
        min_accuracy=0.8,
        budget_s=900,
        budget_frames=1200,
    )
    tuning = tune(asked, env=env).tuning
    assert tuning.points == 3
    assert tuning.values["detect.skip_still"] in (0.004, 0.016)
    assert "detect.skip_still" not in tuning.reference
    assert tuning.predicted is not None
    assert tuning.predicted.accuracy_low is not None
    assert tuning.predicted.accuracy_low >= 0.8
    config = tmp_path / "people.tuned.yaml"
    pin(tuning, config)
    request = RunRequest(str(pipeline), [asked.source], output=tmp_path / "out", config=config, max_frames=40)
    summary = run(request, env=env)
    assert summary.outcome == "done"
    items = {stage.name: stage.items for stage in summary.stages}
    assert items["detect"] < items["detect-motion"] == 40
