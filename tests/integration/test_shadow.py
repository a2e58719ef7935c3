"""``--shadow``: a configuration that does not hold any more is told from one that does, and replaced, while it runs."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import av
import pytest
from msgspec import structs

from llamapipe.control import replay
from llamapipe.errors import UsageError
from llamapipe.inference.hardware import fingerprint
from llamapipe.report import RunSummary
from llamapipe.session import RunRequest, load_pipeline, run
from llamapipe.session.pinned import digest_of_pipeline
from llamapipe.tune import Predicted, Tuning, VideoSignature
from tests.integration.test_choices import env

__all__ = ["env"]  # the fixture

PIPELINE = """
name: people-only
ops:
  - {name: detect, type: detect, inputs: $source.frames, task: person-detection, model: yolox-nano, min_score: 0.4}
sinks:
  - {type: jsonl, input: $ops.detect.boxes, path: detections.jsonl}
"""
_STILL = 24  # frames of the joined clip in which nothing moves
USUAL = {"detect.input_size": [416, 416], "detect.batch": 1}


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    path = tmp_path / "people.yaml"
    path.write_text(PIPELINE)
    return path


def tuning(pipeline: Path, **values: object) -> Tuning:
    """As if something had been found for another video."""
    digest = digest_of_pipeline(load_pipeline(pipeline, env={}).spec)
    signature = VideoSignature(640, 480, 25.0, (1.0,), 0.1, 0.1, (0.5,))
    found = {**USUAL, **{key.replace("__", "."): value for key, value in values.items()}}
    predicted = Predicted(10, 0.1, 50, 0.95, 0.92, 0.98)
    told = ("people-only", digest, "", "agreement", 0.9, fingerprint(), signature, "other.mp4")
    return Tuning(*told, found, predicted, USUAL, (), 1, 48, 3.0, 2.0)


def looked_at(pipeline: Path, config: Tuning, env: dict[str, str], video: Path, tmp_path: Path) -> RunSummary:
    request = RunRequest(
        str(pipeline),
        [str(video)],
        output=tmp_path / "out",
        config=config,
        shadow=0.5,
        retune=False,
        max_frames=_STILL + 100,
        realtime=True,  # or so short a clip would be over before a window was looked at again
    )
    summary = run(request, env=env)
    assert summary.outcome == "done"
    assert summary.workers == 1  # 10 core-ms a frame, 25 times a second, are half of what one can do
    assert summary.shadow is not None
    return summary


def drifts(summary: RunSummary) -> list[str]:
    return [note for note in summary.notes if "drift" in note]


def joined(video: Path, target: Path, times: int = 1) -> Path:
    """The video's first picture for a while, as of a street where all stand, and then the video itself."""
    with av.open(str(video)) as source, av.open(str(target), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        pictures = [
            frame.to_ndarray(format="yuv420p") for frame, _ in zip(source.decode(video=0), range(100), strict=False)
        ]
        for at, picture in enumerate([pictures[0]] * _STILL + pictures * times):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = at, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return target


def test_where_a_joined_clip_begins_to_move_a_configuration_that_looks_seldom_is_told(
    pipeline: Path, env: dict[str, str], assets: Path, tmp_path: Path
) -> None:
    video = joined(assets / "TUD-Stadtmitte.mp4", tmp_path / "joined.mp4")
    summary = looked_at(pipeline, tuning(pipeline, detect__sample_fps=2.0), env, video, tmp_path)
    told = drifts(summary)
    assert told
    assert "the floor is 0.9: tune for this part" in told[0]
    frames = [int(re.findall(r"up to frame (\d+)", note)[0]) for note in told]
    assert min(frames) > _STILL
    assert summary.shadow is not None
    below = [window for window in summary.shadow.windows if window.verdict == "below the floor"]
    assert [window.frame for window in below] == frames
    assert {window.ran for window in below} == {"detect.sample_fps=2.0"}
    assert all(window.agreement is not None and window.low is not None and window.low < 0.9 for window in below)
    assert not [note for note in summary.notes if note.startswith("shadow:")]


def test_one_that_holds_is_not(pipeline: Path, env: dict[str, str], assets: Path, tmp_path: Path) -> None:
    summary = looked_at(pipeline, tuning(pipeline), env, assets / "TUD-Stadtmitte.mp4", tmp_path)
    assert drifts(summary) == []
    shadow = summary.shadow
    assert shadow is not None
    assert shadow.judged >= 1
    assert shadow.least == 1.0  # it is its own reference
    assert {window.verdict for window in shadow.windows} <= {"fine", "too little to judge"}
    assert [note for note in summary.notes if note.startswith("shadow:")] == [str(shadow)]
    assert f"{shadow.judged} window" in str(shadow)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "agreement with the reference over the video" in page
    assert str(shadow) in page


def test_where_it_drifts_the_reference_runs_until_a_search_has_found_what_fits_now(
    pipeline: Path, env: dict[str, str], assets: Path, tmp_path: Path
) -> None:
    """Takes half a minute: the search needs frames to come while it gathers them, and a few seconds of its own."""
    video = joined(assets / "TUD-Stadtmitte.mp4", tmp_path / "joined.mp4", times=6)
    config = structs.replace(tuning(pipeline, detect__sample_fps=2.0, detect__batch=2), budget_s=5.0)
    out = tmp_path / "out"
    request = RunRequest(
        str(pipeline), [str(video)], output=out, config=config, shadow=0.5, realtime=True, record_events=True
    )
    summary = run(request, env=env)
    assert summary.outcome == "done"
    assert summary.frames.delivered == summary.frames.decoded == _STILL + 600
    if len(summary.changes) < 2 and any("the machine was too busy" in note for note in summary.notes):
        pytest.skip("others kept the machine too busy for frames to be looked at again")
    assert len(summary.changes) > 1, summary.notes
    fallback, found = summary.changes[:2]
    assert (fallback.why, fallback.error) == ("drift: the reference", "")
    [runs] = fallback.runs
    assert "/416x416/" in str(runs.variant)
    assert runs.sample_fps is None
    assert found.why.startswith("tuned on frames")
    [runs] = found.runs
    assert (runs.variant, runs.sample_fps) != (fallback.runs[0].variant, None)
    assert found.frame > fallback.frame > _STILL
    [stage] = summary.stages
    assert sum(served.items for served in stage.served_by) == stage.items
    assert len(stage.served_by) > 1
    replay((out / "events.jsonl").read_bytes().splitlines())
    page = (out / "report.html").read_text()
    assert "Configurations over time" in page
    assert found.why in page
    assert summary.shadow is not None
    verdicts = [window.verdict for window in summary.shadow.windows]
    at = verdicts.index("below the floor")
    assert verdicts[at + 1 : at + 3] == ["changed to the reference", "re-tuned"]
    [retuned] = [window for window in summary.shadow.windows[at : at + 3] if window.verdict == "re-tuned"]
    assert retuned.ran != "the reference"
    assert stage.accuracy is None  # of two configurations and the reference, each a while


def test_without_a_reference_there_is_nothing_to_compare_with(
    pipeline: Path, env: dict[str, str], assets: Path, tmp_path: Path
) -> None:
    source = str(assets / "TUD-Stadtmitte.mp4")
    with pytest.raises(UsageError, match="compares a configuration with its reference, there is none"):
        run(RunRequest(str(pipeline), [source], output=tmp_path / "out", shadow=0.02), env=env)
