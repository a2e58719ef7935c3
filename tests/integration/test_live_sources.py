"""Runs on cameras that go away: what the user is told, what is written, how it is stopped."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import av
import pytest

from llamapipe.report import RunSummary
from llamapipe.session import Progress, RunRequest, run
from tests.cli.conftest import PLAIN
from tests.media.sinks.clips import make_clip
from tests.media.sources.servers import Silent, TsServer
from tests.processes import LONG_S, wait_until


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 s at 20 pictures a second, a keyframe each 10."""
    path = tmp_path_factory.mktemp("filmed") / "cam.ts"
    return make_clip(path, times=range(1200), size=(64, 48), keyframe_each=10)


@pytest.fixture
def camera(filmed: Path) -> Iterator[TsServer]:
    server = TsServer(filmed)
    yield server
    server.stop()


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A pipeline of one resize."""
    path = tmp_path / "small.yaml"
    path.write_text(PLAIN, encoding="utf-8")
    return path


class Command:
    """``llamapipe run`` in a process of its own, with its output read along."""

    def __init__(self, *args: object) -> None:
        command = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        command += "from llamapipe.cli.app import call; sys.exit(call(sys.argv[1:]))"
        self._process = subprocess.Popen(
            [sys.executable, "-c", command, "run", *map(str, args)],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.said = ""
        stderr = self._process.stderr
        assert stderr is not None
        self._reader = threading.Thread(target=self._read, args=(stderr,), daemon=True)
        self._reader.start()

    def _read(self, stderr: IO[str]) -> None:
        for line in stderr:
            self.said += line

    def wait_until(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, lambda: self.said, alive=lambda: self._process.poll() is None)

    def interrupt(self) -> float:
        """Ctrl-C. Returns the seconds until the process was gone."""
        began_s = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        self.end()
        return time.monotonic() - began_s

    def end(self) -> int:
        code = self._process.wait(LONG_S)
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
        return code


def test_a_camera_that_comes_back_goes_on_in_the_same_run(camera: TsServer, plain: Path, tmp_path: Path) -> None:
    """One output, the gap in its times, told in the summary, the report and on the terminal."""
    out = tmp_path / "out"
    camera.sends_at_first = 55  # however long it takes until the run begins, so many pictures are there, and no more
    command = Command(plain, "-i", camera.address, "-o", out, "--max-frames", "70", "--drop-policy", "block")
    command.wait_until(lambda: "running" in command.said)
    command.wait_until(lambda: camera.num_sent >= 55)
    camera.stop()
    command.wait_until(lambda: "calling back for 60 s" in command.said)
    time.sleep(0.5)
    camera.start()
    assert command.end() == 0
    summary = RunSummary.from_json((out / "run.json").read_bytes())
    (stream,) = summary.streams
    assert (stream.outcome, stream.reconnects, stream.frames.delivered) == ("done", 1, 70)
    assert "cam: came back once, " in command.said
    assert "came back 1 time" in (out / "report.html").read_text()
    with av.open(str(out / "small.mp4")) as video:
        times_s = [frame.time for frame in video.decode(video=0)]
    gaps_s = [after - before for before, after in itertools.pairwise(times_s)]
    assert len(times_s) == 70
    assert min(gaps_s) > 0
    assert abs(max(gaps_s) - stream.offline_s) < 0.7  # offline_s counts from capture: probing was over before


def test_one_camera_that_dies_stops_no_other(camera: TsServer, filmed: Path, plain: Path, tmp_path: Path) -> None:
    """Exit code 4 and an error for its stream; everybody else's output is complete."""
    mortal = TsServer(filmed)
    clip = make_clip(tmp_path / "clip.mp4", times=range(20))
    request = RunRequest(
        plain,
        [camera.address, mortal.address, str(clip), "http://127.0.0.1:9/never.ts"],
        output=tmp_path / "out",
        max_frames=120,
        drop_policy="block",
        reconnect_for_s=3.0,  # also for the first connection, which takes a second of stream
    )

    def kill(progress: Progress) -> None:
        if progress.frames_done >= 40:
            mortal.stop()

    summary = run(request, on_progress=kill)
    mortal.stop()
    assert summary.exit_code == 4
    assert {stream.name: stream.outcome for stream in summary.streams} == {
        "cam": "done",
        "cam-2": "lost",
        "clip": "done",
        "never": "failed",
    }
    by_name = {stream.name: stream for stream in summary.streams}
    assert by_name["cam"].frames.delivered == 120
    assert by_name["clip"].frames.delivered == 20
    assert 0 < by_name["cam-2"].frames.delivered < 120
    assert "did not come back within 3 s" in (by_name["cam-2"].error or "")
    for name in ("cam", "cam-2", "clip"):
        assert (tmp_path / "out" / name / "small.mp4").is_file()


def test_ctrl_c_ends_a_run_that_is_connecting(plain: Path, tmp_path: Path) -> None:
    silent = Silent()
    command = Command(plain, "-i", silent.address, "-o", tmp_path / "out", "--reconnect-for", "60")
    silent.accept()
    assert command.interrupt() < 15  # of 60
    assert command.end() == 130
    assert command.said.strip() == "error: interrupted"
    assert not (tmp_path / "out").exists()
    silent.stop()


def test_ctrl_c_ends_a_run_whose_camera_is_away(camera: TsServer, plain: Path, tmp_path: Path) -> None:
    """At once, and what came until then is finished."""
    out = tmp_path / "out"
    command = Command(plain, "-i", camera.address, "-o", out)
    command.wait_until(lambda: "running" in command.said)
    camera.stop()
    command.wait_until(lambda: "calling back" in command.said)
    time.sleep(0.5)
    assert command.interrupt() < 15  # of 60
    assert command.end() == 130
    summary = RunSummary.from_json((out / "run.json").read_bytes())
    assert summary.outcome == "cancelled"
    assert summary.frames.decoded > 0
    assert (out / "small.mp4").is_file()
