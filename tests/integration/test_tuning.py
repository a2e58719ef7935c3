"""``tune`` on real video: what is found is cheaper, runs from its file, and is known for like videos."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import msgspec
import pytest

from llamapipe.clock import SystemClock
from llamapipe.errors import SourceError, SpecError, UsageError
from llamapipe.report import RunSummary
from llamapipe.session import RunRequest, run
from llamapipe.session.likeness import unlike_the_first
from llamapipe.session.pinned import pin
from llamapipe.session.planning import explain_plan
from llamapipe.session.searching import BudgetTooShort, Step
from llamapipe.session.tune_request import TuneRequest
from llamapipe.session.tuning import tune, tune_for
from llamapipe.tune import LIKE, Tuning
from tests.integration.test_choices import FAST, GOOD, env, fill
from tests.media.sources.servers import TsServer

__all__ = ["env"]  # the fixture

PIPELINE = """
name: people-only
accuracy: {min: 0.7}
ops:
  - {name: detect, type: detect, inputs: $source.frames, task: person-detection, model: yolox-nano, min_score: 0.4}
sinks:
  - {type: jsonl, input: $ops.detect.boxes, path: detections.jsonl}
"""


# Where another size would show nothing else: the largest one, which is the reference, takes six times as long.
SMALL = {"detect.input_size": "256"}


@pytest.fixture
def asked(tmp_path: Path, assets: Path) -> TuneRequest:
    pipeline = tmp_path / "people.yaml"
    pipeline.write_text(PIPELINE)
    return TuneRequest(str(pipeline), str(assets / "TUD-Stadtmitte.mp4"), budget_s=900, budget_frames=260)


def later_half(video: Path, target: Path) -> Path:
    """The packets of a video from a keyframe in its middle on."""
    with av.open(str(video)) as source, av.open(str(target), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        first: int | None = None
        for packet in source.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            if first is None and packet.is_keyframe and packet.pts * packet.time_base > 2:
                first = packet.dts
            if first is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - first, packet.dts - first, copy
                out.mux(packet)
    return target


def test_a_tuning_is_cheaper_runs_from_its_file_and_is_known_for_a_like_video(
    asked: TuneRequest, env: dict[str, str], tmp_path: Path
) -> None:
    tuned = tune(asked, env=env)
    tuning = tuned.tuning
    assert tuned.cached_from is None
    assert tuning.predicted is not None
    assert tuning.predicted.accuracy_low is not None
    assert tuning.predicted.accuracy_low >= 0.7
    reference = tuning.tried[0].predicted
    assert reference is not None
    assert tuning.reference["detect.input_size"] == [640, 640]
    assert tuning.predicted.cost_core_ms < reference.cost_core_ms
    assert tuning.took_s <= 900

    config = tmp_path / "people.tuned.yaml"
    pin(tuning, config)
    again = RunRequest(asked.pipeline, [asked.source], output=tmp_path / "out", config=config, max_frames=20)
    summary = run(again, env=env, on_plan=lambda _: config.unlink())  # it is read once, before the run
    assert summary.outcome == "done"
    told_of(tuning, summary, (tmp_path / "out" / "report.html").read_text())
    height, width = tuning.values["detect.input_size"]
    assert summary.stages[0].variant is not None
    assert f"/{height}x{width}/" in summary.stages[0].variant

    half = later_half(Path(asked.source), tmp_path / "later.mp4")
    like = tune(replace(asked, source=str(half)), env=env)
    assert like.cached_from is not None
    assert like.cached_from[0] == "TUD-Stadtmitte.mp4"
    assert like.cached_from[1] <= LIKE
    assert like.tuning == tuning
    before = tune_for(RunRequest(asked.pipeline, [asked.source]), env=env)
    assert before is not None
    assert before.tuning == tuning

    pin(tuning, config)
    otherwise = replace(again, output=None, max_frames=2, sets={"detect.batch": "4"}, sinks=["jsonl=other.jsonl"])
    view = explain_plan(otherwise, env=env)
    assert (view.accuracy, view.accuracy_of) == (None, "")
    assert view.stages[0].why != "as tuned on TUD-Stadtmitte.mp4"

    with pytest.raises(UsageError, match="it is for pipeline people-only, this is vintage"):
        run(RunRequest("vintage", [asked.source], output=tmp_path / "other", config=config), env=env)
    assert not (tmp_path / "other").exists()


def test_videos_that_were_not_tuned_for_and_look_otherwise_are_named(
    asked: TuneRequest, env: dict[str, str], assets: Path
) -> None:
    other = str(assets / "car-detection.mp4")
    run_asked = RunRequest(asked.pipeline, [asked.source, other])
    tuned = tune_for(run_asked, env=env)
    assert tuned is not None
    assert "car-detection.mp4 (distance " in tuned.unlike
    assert "looks unlike TUD-Stadtmitte.mp4" in tuned.unlike
    alone = tune_for(replace(run_asked, sources=[asked.source]), env=env)
    assert alone is not None
    assert alone.unlike == ""


def told_of(tuning: Tuning, summary: RunSummary, page: str) -> None:
    """That a run tells of the search, and of how right and dear it promised to be."""
    told, plan, found = summary.tuning, summary.plan, tuning.predicted
    assert told is not None
    assert plan is not None
    assert found is not None
    assert found.accuracy is not None
    assert (told.metric, told.floor, told.video, told.overruled) == ("agreement", 0.7, "TUD-Stadtmitte.mp4", [])
    assert told.predicted is not None
    assert told.predicted.accuracy == pytest.approx(found.accuracy, rel=1e-4)  # a file has but five digits
    assert len(told.tried) == len(tuning.tried)
    [chosen] = [row for row in told.tried if row.chosen]
    assert chosen.cost_core_ms == pytest.approx(found.cost_core_ms, rel=1e-4)
    assert told.cost_core_ms is not None
    assert 0.1 * found.cost_core_ms < told.cost_core_ms < 10 * found.cost_core_ms
    label = "agreement at the sinks, as tuned on TUD-Stadtmitte.mp4"
    for accuracy, what in (
        (plan.accuracy, plan.accuracy_of),
        (summary.stages[0].accuracy, summary.stages[0].accuracy_of),
    ):
        assert accuracy == pytest.approx(found.accuracy, rel=1e-4)
        assert what == label
    assert plan.stages[0].why == "as tuned on TUD-Stadtmitte.mp4"
    assert plan.reason == "there is no objective: it runs as tuned on TUD-Stadtmitte.mp4"
    for words in ("The search", "cost by trial", "Predicted against actual", "chosen", label):
        assert words in page


def test_a_run_waits_for_tuning_no_longer_than_a_tenth_of_its_deadline(
    asked: TuneRequest, env: dict[str, str], assets: Path
) -> None:
    fill(env, {FAST: 1.0})
    tuned = tune_for(RunRequest(asked.pipeline, [asked.source], slo="deadline=90s", sets=SMALL), env=env)
    assert tuned is not None
    assert tuned.tuning.budget_s == 9.0  # not the 10 that a video of this length has otherwise
    with pytest.raises(BudgetTooShort, match=re.escape("the budget of 0.0001 s")):
        tune_for(RunRequest(asked.pipeline, [asked.source], slo="deadline=1ms"), env=env)
    denoise = RunRequest("denoise", [str(assets / "car-detection.mp4")], slo="deadline=1ms")
    assert tune_for(denoise, env=env) is None  # nothing to choose: it takes no time at all


def test_another_floor_or_another_video_is_searched_for(asked: TuneRequest, env: dict[str, str], assets: Path) -> None:
    quick = replace(asked, budget_frames=1)
    tune(quick, env=env)
    assert tune(quick, env=env).cached_from is not None
    assert tune(replace(quick, min_accuracy=0.6), env=env).cached_from is None
    assert tune(replace(quick, source=str(assets / "car-detection.mp4")), env=env).cached_from is None
    assert tune(replace(quick, again=True), env=env).cached_from is None
    fill(env, {GOOD: 1.0})  # now that something is known, there is other to choose from
    assert tune(quick, env=env).cached_from is None


@pytest.mark.parametrize(
    "more",
    [
        {"sets": {"detect.batch": "4", "accuracy.min": "0.6", **SMALL}},
        {"sets": SMALL, "knobs": ["detect.batch=2,4"]},
        {"knobs": ["detect.input_size=320,416", "detect.min_score=0.3,0.4"]},
    ],
)
def test_what_is_set_stays_and_what_is_named_is_tried(
    asked: TuneRequest, env: dict[str, str], more: dict[str, Any]
) -> None:
    fill(env, {GOOD: 1.0, FAST: 1.0})
    tuning = tune(replace(asked, min_accuracy=None, budget_frames=160, **more), env=env).tuning
    tried = [one.values for one in tuning.tried]
    if "knobs" not in more:
        assert tuning.floor == 0.6
        assert {values["detect.batch"] for values in tried} == {4}
    elif len(more["knobs"]) == 1:
        assert tuning.reference["detect.batch"] == 2
        assert {values["detect.batch"] for values in tried} <= {2, 4}
    else:
        assert tuning.reference["detect.input_size"] == [320, 320]
        assert {tuple(values["detect.input_size"]) for values in tried} <= {(320, 320), (416, 416)}
        assert {values["detect.min_score"] for values in tried} <= {0.3, 0.4}


def test_what_cannot_be_had_is_said_with_what_comes_closest(asked: TuneRequest, env: dict[str, str]) -> None:
    tuning = tune(replace(asked, slo="deadline=1ms", budget_frames=100, sets=SMALL), env=env).tuning
    assert not tuning.feasible
    assert tuning.nearest is not None
    with pytest.raises(UsageError, match="nothing that was tried"):
        pin(tuning, Path("nowhere.yaml"))


def test_labels_are_what_counts_where_they_are_given(asked: TuneRequest, env: dict[str, str], assets: Path) -> None:
    labels = replace(asked, labels=assets / "TUD-Stadtmitte_gt.txt", min_accuracy=0.3, budget_frames=200, sets=SMALL)
    tuning = tune(labels, env=env).tuning
    assert tuning.metric == "ap50"
    assert tuning.predicted is not None
    assert tuning.predicted.accuracy is not None
    assert 0.3 <= tuning.predicted.accuracy < 1.0


def test_a_pipeline_without_boxes_is_tuned_for_cost_alone(env: dict[str, str], assets: Path) -> None:
    request = TuneRequest("vintage", str(assets / "car-detection.mp4"), budget_s=60, budget_frames=100)
    tuning = tune(request, env=env).tuning
    assert tuning.feasible
    assert "cost alone" in tuning.notes[0]


def test_a_camera_is_tuned_for_on_what_it_shows(
    asked: TuneRequest, env: dict[str, str], assets: Path, tmp_path: Path
) -> None:
    clip = tmp_path / "cam.ts"
    with av.open(str(assets / "car-detection.mp4")) as source, av.open(str(clip), "w", format="mpegts") as out:
        copy = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    steps: list[Step] = []
    camera = TsServer(clip)
    try:
        live = replace(asked, source=camera.address, sets=SMALL, record_s=4.0)
        tuned = tune(live, env=env, on_step=steps.append)
        again = tune(live, env=env)
    finally:
        camera.stop()
    assert steps[0].what == f"recording 4 s of {camera.address}"
    assert tuned.tuning.feasible
    assert tuned.tuning.video == "cam"
    assert tuned.tuning.predicted is not None
    assert again.cached_from == ("cam", pytest.approx(0, abs=0.2))  # what it showed was like what it shows
    both = RunRequest(asked.pipeline, [camera.address, camera.address])
    assert "the first of 2 sources" in unlike_the_first(both, None, recorded=True, clock=SystemClock(), env=env)
    assert list(tmp_path.glob("*.mkv")) == []


def test_a_camera_that_is_not_there_is_named(env: dict[str, str]) -> None:
    with pytest.raises(SourceError, match=r"rtsp://127.0.0.1:9/none cannot be opened"):
        tune(TuneRequest("people", "rtsp://127.0.0.1:9/none"), env=env)
    with pytest.raises(UsageError, match="--record-s 0"):
        tune(TuneRequest("people", "rtsp://127.0.0.1:9/none", record_s=0.0), env=env)


def test_a_variant_that_is_not_here_is_named_with_what_to_do(
    asked: TuneRequest, env: dict[str, str], tmp_path: Path
) -> None:
    tuning = tune(replace(asked, budget_frames=1, sets=SMALL), env=env).tuning
    other = msgspec.structs.replace(tuning, values={**tuning.values, "detect.precision": "int8"})
    request = RunRequest(asked.pipeline, [asked.source], output=tmp_path / "out", config=other)
    with pytest.raises(SpecError, match=r"has int8 built for no input size.*as tuned on TUD-Stadtmitte\.mp4"):
        run(request, env=env)
