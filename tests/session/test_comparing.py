"""Which boxes two runs are compared by: those of their own folders, wherever these are by now."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llamapipe.report import StreamSummary
from llamapipe.session.comparing import compare_runs
from tests.report.test_html import summary


def write_boxes(file: Path, *boxes: float) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    items = [{"box": [x, 0, x + 10, 10], "label": "car", "score": 0.9} for x in boxes]
    file.write_text(json.dumps({"stream": "s", "frame": 0, "pts_s": 0.0, "stage": "look", "items": items}) + "\n")
    return str(file)


def write_run(folder: Path, outputs: Sequence[str], named: str | None = None, **params: Any) -> Path:
    """``named``: the folder as the run was told it; empty for one of a release that did not say."""
    folder.mkdir(parents=True, exist_ok=True)
    made = summary()
    stream = StreamSummary("s", "s.mp4", 9, 9, 25.0, "done", None, made.frames, 1.0, list(outputs))
    stage = replace(made.stages[0], params=params)
    told = str(folder) if named is None else named
    made = replace(made, streams=[stream], stages=[stage], outputs=list(outputs), folder=told)
    (folder / "run.json").write_bytes(made.to_json())
    return folder


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A run with one box at 0."""
    return write_run(tmp_path / "one", [write_boxes(tmp_path / "one" / "d.jsonl", 0)])


@pytest.mark.parametrize("is_old", [False, True])
def test_boxes_of_a_moved_run_are_its_own_and_not_those_of_who_came_after_it(
    one: Path, tmp_path: Path, is_old: bool
) -> None:
    place, moved = tmp_path / "out", tmp_path / "kept" / "yesterday"
    write_run(place, [write_boxes(place / "sub" / "d.jsonl", 0)], "" if is_old else None)
    write_boxes(place / "d.jsonl", 500)  # of the same name, of another sink
    moved.parent.mkdir()
    place.rename(moved)
    write_run(place, [write_boxes(place / "sub" / "d.jsonl", 900)])
    found = compare_runs(one, moved)
    assert (found.agreement[0].f1, found.warnings) == (1.0, [])
    (moved / "sub" / "d.jsonl").unlink()
    if is_old:
        (moved / "d.jsonl").unlink()  # which of the two was meant its summary does not say
    found = compare_runs(one, moved)
    assert (found.agreement, found.warnings) == ([], [])


def test_relative_paths_are_found_wherever_one_is(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for named in ("", "runs/b"):
        write_boxes(tmp_path / "runs" / "b" / "sub" / "d.jsonl", 0)
        write_run(tmp_path / "runs" / "b", ["runs/b/sub/d.jsonl"], named)
        monkeypatch.chdir(one)
        assert compare_runs(one, tmp_path / "runs" / "b" / "run.json").agreement[0].f1 == 1.0


@pytest.mark.parametrize("is_old", [False, True])
def test_what_a_sink_wrote_elsewhere_is_read_with_a_word_of_warning(one: Path, tmp_path: Path, is_old: bool) -> None:
    elsewhere = tmp_path / "shared" / "d.jsonl"
    other = write_run(tmp_path / "other", [write_boxes(elsewhere, 0)], "" if is_old else None)
    found = compare_runs(one, other)
    assert found.agreement[0].f1 == 1.0
    told = f"the second run's boxes are those of {elsewhere}, outside of its folder: they may be another run's"
    assert found.warnings == [told]
    ended_s = (other / "run.json").stat().st_mtime
    os.utime(elsewhere, (ended_s + 60, ended_s + 60))
    found = compare_runs(one, other)
    assert found.agreement == []
    assert found.warnings == [
        f"the second run's boxes are not compared: {elsewhere}, outside of its folder, was written to after that run"
    ]


def test_knobs_that_differ_are_told_and_those_that_an_earlier_release_left_out_are_not(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", [], size=3, min_score=0.5, labels=["car"], sample_fps=None)
    for name, params, is_told in (
        ("same", {"size": 3, "min_score": 0.5, "labels": ["car"], "sample_fps": None}, False),
        ("score", {"size": 3, "min_score": 0.4, "labels": ["car"], "sample_fps": None}, True),
        ("rate", {"size": 3, "min_score": 0.5, "labels": ["car"], "sample_fps": 5.0}, True),
        ("old", {"size": 3}, False),
        ("older", {"size": 4}, True),
    ):
        found = compare_runs(first, write_run(tmp_path / name, [], **params))
        assert found.warnings == (["parameters differ of stages blur"] if is_told else [])
