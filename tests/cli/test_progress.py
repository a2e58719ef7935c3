"""Progress: plain lines where stderr is no terminal."""

from __future__ import annotations

import dataclasses

import pytest

from llamapipe.cli.progress import ProgressLine, duration
from llamapipe.cli.terminal import Terminal
from llamapipe.session import Progress

LOADING = Progress("loading", 0, 250, 0.0, None, None, "p95<=200ms", 0, 0, None, 0.1)
RUNNING = Progress("running", 100, 250, 50.0, 2.0, 80.0, "p95<=200ms", 3, 1, 3.0, 2.0)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (725, "12:05"), (3723, "1:02:03")])
def test_durations_are_clock_times(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line_is_written_for_each_state_and_every_five_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine(Terminal()) as line:
        line.show(LOADING)
        line.show(dataclasses.replace(LOADING, state="running", elapsed_s=1.0))  # nothing done: no news
        for elapsed_s in (2.0, 3.0, 6.9, 7.1):
            line.show(dataclasses.replace(RUNNING, elapsed_s=elapsed_s))
        line.show(dataclasses.replace(RUNNING, state="done", frames_done=250))  # the summary tells
    running = "running: 100/250 frames, 50.0 fps, 2.00 x realtime, p95 80 ms (SLO p95<=200ms), "
    running += "3 dropped, 1 failed, ETA 0:03"
    assert capsys.readouterr().err.splitlines() == [
        "loading: 250 frames, SLO p95<=200ms",
        running,
        running,
    ]


def test_a_run_that_began_and_has_nothing_done_says_none_of_how_many(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine(Terminal()) as line:
        line.show(dataclasses.replace(LOADING, state="running", elapsed_s=6.0))
    assert capsys.readouterr().err == "running: 0/250 frames, SLO p95<=200ms, 0 dropped, 0:06 elapsed\n"


def test_each_model_that_is_fetched_is_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    fetching = dataclasses.replace(LOADING, state="fetching", frames_total=None, slo=None)
    with ProgressLine(Terminal()) as line:
        line.show(dataclasses.replace(fetching, fetching="bikes.mp4"))
        line.show(dataclasses.replace(fetching, fetching="model.onnx"))
        line.show(LOADING)
    assert capsys.readouterr().err.splitlines() == [
        "fetching: bikes.mp4",
        "fetching: model.onnx",
        "loading: 250 frames, SLO p95<=200ms",
    ]


def test_one_frame_is_no_frames(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine(Terminal()) as line:
        line.show(dataclasses.replace(LOADING, frames_total=1, slo=None))
        line.show(dataclasses.replace(RUNNING, frames_done=1, frames_total=1, elapsed_s=9.0))
        line.show(dataclasses.replace(RUNNING, frames_done=1, frames_total=None, elapsed_s=19.0))
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "loading: 1 frame",
        "running: 1/1 frame",
        "running: 1 frame",
    ]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.quiet = True
    with ProgressLine(terminal) as line:
        line.show(RUNNING)
    assert capsys.readouterr().err == ""
