"""Runs that are told to stop, by whom, and what is left of them."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

import llamapipe
from llamapipe import Pipeline
from llamapipe.report import RunSummary
from llamapipe.session import Progress


def pipeline() -> Pipeline:
    made = Pipeline("test")
    made.add("test/level@v1", name="stage", inputs={"frames": made.frames}, outputs={"events": "events"})
    return made


def test_an_event_that_stops_several_runs_is_not_set_by_one_of_them(clip: Path, operators: Path) -> None:
    stop = threading.Event()
    for _ in range(2):
        assert list(llamapipe.run(pipeline(), clip, ops_files=[operators], interrupt=stop))
    for _ in llamapipe.run(pipeline(), clip, ops_files=[operators], interrupt=stop):
        break
    assert not stop.is_set()


def test_what_is_done_stays_when_a_callback_of_the_caller_fails(clip: Path, operators: Path, tmp_path: Path) -> None:
    def fails(progress: Progress) -> None:
        if progress.frames_done:
            raise ValueError("my own mistake")

    with pytest.raises(ValueError, match="my own mistake"):
        llamapipe.run(pipeline(), clip, output=tmp_path, ops_files=[operators], realtime=True, on_progress=fails)
    summary = RunSummary.from_json((tmp_path / "run.json").read_bytes())
    assert summary.outcome == "cancelled"
    lines = (tmp_path / "detections.jsonl").read_text().splitlines()
    assert len(lines) == summary.frames.delivered > 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_ctrl_c_in_a_script_finishes_the_files_and_then_ends_it(clip: Path, operators: Path, tmp_path: Path) -> None:
    seen = threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored

    def begun(progress: Progress) -> None:
        if progress.frames_done and not seen.is_set():
            seen.set()
            os.kill(os.getpid(), signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            llamapipe.run(pipeline(), clip, output=tmp_path, ops_files=[operators], realtime=True, on_progress=begun)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert RunSummary.from_json((tmp_path / "run.json").read_bytes()).outcome == "cancelled"
