"""Runs that begin before every camera is there. In real time: what is asked is who waits for whom, and how long."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import pytest

from llamapipe.control import read_log, replay
from llamapipe.report import RunSummary, StreamSummary
from llamapipe.session import Progress, RunRequest, run
from llamapipe.sim import profile_of_log, simulate
from tests.media.sinks.clips import make_clip
from tests.media.sources.servers import Camera, RtspServer, TsServer
from tests.processes import wait_until

OPERATORS = '''
import os
from pathlib import Path
from typing import Any, ClassVar

from llamapipe.data import Event, Events
from llamapipe.operator import Inputs, Manifest, Operator, Outputs, Param, Port, PortKind, State


class Told(Operator):
    """What it was told of its stream, and how many pictures it has seen of it. Once, its process dies."""

    manifest: ClassVar[Manifest] = Manifest(
        type="test/told@v1",
        doc="Counts.",
        inputs={"frames": Port(PortKind.FRAMES)},
        outputs={"events": Port(PortKind.EVENTS)},
        params={
            "dies": Param(str, "", "a file that does not exist: it is made, and the process ends"),
            "marks": Param(str, "", "a folder, in which a file is made for a stream that 20 pictures of were seen"),
        },
        state=State.PER_STREAM,
    )
    seen = 0

    def process(self, inputs: Inputs) -> Outputs:
        mark = self.context.params["dies"]
        if mark and self.context.stream == "cam-2" and self.seen == 20 and not Path(mark).exists():
            Path(mark).touch()
            os._exit(9)
        self.seen += 1
        if self.seen == 20 and self.context.params["marks"]:
            (Path(self.context.params["marks"]) / self.context.stream).touch()
        told = self.context
        facts = {"seen": self.seen, "width": told.width, "height": told.height, "fps": told.fps}
        return {"events": Events([Event(name, value=float(value)) for name, value in facts.items()])}

    def snapshot(self) -> Any:
        return self.seen

    def restore(self, state: Any) -> None:
        self.seen = state
'''
PIPELINE = """
version: 1
name: late
params: {dies: "", marks: ""}
ops:
  - {name: told, type: test/told@v1, inputs: $source.frames, dies: "${params.dies}", marks: "${params.marks}"}
  - {name: small, type: resize, inputs: $source.frames, width: 32}
sinks:
  - {type: llamapipe/jsonl@v1, inputs: $ops.told.events, path: lines.jsonl}
  - {type: llamapipe/video@v1, input: $ops.small.frames, path: small.mp4}
"""
WIDE, LARGE = (64, 48), (480, 360)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Path]:
    """A minute of small pictures and 15 s of large ones, 20 a second, a keyframe each 10."""
    folder = tmp_path_factory.mktemp("filmed")
    return {
        size: make_clip(folder / f"{size[0]}.ts", times=range(count), size=size, keyframe_each=10)
        for size, count in ((WIDE, 1200), (LARGE, 300))
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "operators.py").write_text(OPERATORS)
    (tmp_path / "late.yaml").write_text(PIPELINE)
    return tmp_path


@pytest.fixture
def cameras(filmed: dict[tuple[int, int], Path]) -> Iterator[Callable[..., Camera]]:
    with ExitStack() as stack:

        def make(protocol: type[Camera], size: tuple[int, int] = WIDE, *, on: bool = True) -> Camera:
            camera = protocol(filmed[size])
            stack.callback(camera.stop)
            if not on:
                camera.stop()
            return camera

        yield make


def told(place: Path, sources: list[str], **more: Any) -> tuple[RunSummary, dict[str, StreamSummary]]:
    """A run that keeps its event log, whose log replays, and its streams by name."""
    request = RunRequest(
        place / "late.yaml",
        sources,
        output=place / "out",
        ops_files=[place / "operators.py"],
        record_events=True,
        **{"drop_policy": "block", **more.pop("request", {})},
    )
    summary = run(request, **more)
    log = (place / "out" / "events.jsonl").read_bytes().splitlines()
    control = replay(log)
    control.check_invariants()
    decoded = {s.name: s.frames.decoded for s in summary.streams}
    # One that was given up before the run began, as where that takes long, the control has never heard of.
    assert {name: decoded[name] for name in control.ledger.decoded} == control.ledger.decoded
    assert not any(count for name, count in decoded.items() if name not in control.ledger.decoded)
    return summary, {stream.name: stream for stream in summary.streams}


class WhenItRuns:
    """Does something as soon as the first frames of a run are delivered."""

    def __init__(self, what: Callable[[], object]) -> None:
        self._what: Callable[[], object] | None = what

    def __call__(self, progress: Progress) -> None:
        if progress.frames_done and self._what is not None:
            self._what()
            self._what = None


def events(place: Path, stream: str) -> list[dict[str, float]]:
    """What `Told` said of each frame of the stream."""
    lines = (place / "out" / stream / "lines.jsonl").read_text().splitlines()
    return [{event["kind"]: event["value"] for event in json.loads(line)["events"]} for line in lines]


def length(place: Path, stream: str) -> int:
    with av.open(str(place / "out" / stream / "small.mp4")) as video:
        return sum(1 for _ in video.decode(video=0))


@pytest.mark.parametrize("workers", ["thread:2", "process:1"])
def test_a_camera_that_is_switched_on_while_the_other_runs_joins_it(
    workers: str, cameras: Callable[..., Camera], place: Path
) -> None:
    """Workers learn its size, which nobody knew when they were started, also one that takes a lost one's place."""
    here, late = cameras(TsServer), cameras(RtspServer, LARGE, on=False)
    dies = str(place / "died") if workers.startswith("process") else ""
    summary, streams = told(
        place,
        [here.address, late.address],
        request={"workers": workers, "max_frames": 50, "reconnect_for_s": 300.0, "params": {"dies": dies}},
        on_progress=WhenItRuns(late.start),
    )
    assert (summary.outcome, summary.exit_code) == ("done", 0)
    assert summary.first_frame_s is not None
    assert streams["cam-2"].joined_s > summary.first_frame_s
    assert streams["cam"].joined_s == 0
    for name, (width, height) in (("cam", WIDE), ("cam-2", LARGE)):
        assert (streams[name].outcome, streams[name].width, streams[name].frames.delivered) == ("done", width, 50)
        expected = [{"seen": n + 1, "width": width, "height": height, "fps": 20} for n in range(50)]
        assert events(place, name) == expected
        assert length(place, name) == 50
    if dies:
        assert "1 worker was lost and replaced" in summary.notes[0]
        return
    plan, entries = read_log((place / "out" / "events.jsonl").read_bytes().splitlines())
    again = simulate(plan, profile_of_log(plan, entries, moments=True))
    assert {name: again.ledger.decoded[name] for name in streams} == {"cam": 50, "cam-2": 50}


def test_a_camera_that_never_comes_is_told_of_when_the_others_have_ended(
    cameras: Callable[..., Camera], place: Path
) -> None:
    clip = make_clip(place / "clip.mp4", times=range(20))
    never = cameras(RtspServer, on=False)
    summary, streams = told(place, [str(clip), never.address])
    assert (summary.outcome, summary.exit_code) == ("done", 1)
    assert (streams["clip"].outcome, streams["clip"].frames.delivered) == ("done", 20)
    assert streams["cam"].outcome == "failed"
    assert "connection refused; it was called until the run ended" in (streams["cam"].error or "")


def test_a_limit_holds_for_a_camera_that_never_comes(cameras: Callable[..., Camera], place: Path) -> None:
    """The run goes on for so long, and no longer."""
    clip = make_clip(place / "clip.mp4", times=range(20))
    never = cameras(TsServer, on=False)
    began_s = time.monotonic()
    summary, streams = told(place, [str(clip), never.address], request={"reconnect_for_s": 5.0})
    assert (summary.outcome, summary.exit_code, streams["clip"].outcome) == ("done", 1, "done")
    assert time.monotonic() - began_s > 5
    assert "connection refused" in (streams["cam"].error or "")


class Sender:
    """MPEG-TS over UDP, in real time: nobody can tell whether anyone listens."""

    def __init__(self, clip: Path) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"udp://127.0.0.1:{self._port}"
        self._data = clip.read_bytes()
        self._over = threading.Event()

    def send(self, seconds: float) -> None:
        """The whole clip, evenly over so many seconds."""
        datagrams = [self._data[i : i + 7 * 188] for i in range(0, len(self._data), 7 * 188)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to:
            for datagram in datagrams:
                to.sendto(datagram, ("127.0.0.1", self._port))
                if self._over.wait(seconds / len(datagrams)):
                    return

    def stop(self) -> None:
        self._over.set()


def test_ctrl_c_finishes_the_files_of_one_that_has_joined_and_waits_for_no_other(
    filmed: dict[tuple[int, int], Path], cameras: Callable[..., Camera], place: Path
) -> None:
    here, never = cameras(TsServer), cameras(TsServer, on=False)
    sender = Sender(filmed[LARGE])
    stop = threading.Event()
    pressed: list[float] = []
    marks = place / "marks"
    marks.mkdir()

    def press() -> None:
        try:
            wait_until(lambda: any(mark.name not in ("cam", "cam-2") for mark in marks.iterdir()))
        finally:
            pressed.append(time.monotonic())
            stop.set()

    def begin() -> None:
        threading.Timer(0, sender.send, [15.0]).start()
        threading.Timer(0, press).start()

    sources = [here.address, sender.address, never.address]
    more = {"params": {"marks": str(marks)}}
    summary, streams = told(place, sources, request=more, interrupt=stop, on_progress=WhenItRuns(begin))
    sender.stop()
    assert time.monotonic() - pressed[0] < 20  # the camera that never came is called for as long as others go on
    assert (summary.outcome, summary.exit_code) == ("cancelled", 130)
    of_udp = next(stream for stream in summary.streams if stream.source.startswith("udp"))
    assert of_udp.joined_s > 0
    assert of_udp.frames.delivered == length(place, of_udp.name) > 0
    assert "it was called until the run ended" in (streams["cam-2"].error or "")
    assert streams["cam"].frames.delivered > of_udp.frames.delivered
