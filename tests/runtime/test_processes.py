"""Worker processes: real ones, that die, stop, hang and are too slow. Nothing is lost, and nothing comes twice."""

from __future__ import annotations

import json
import os
import re
import resource
import threading
from pathlib import Path
from typing import Any

import pytest
import zmq

import llamapipe
from llamapipe.report import RunSummary
from llamapipe.session.quarantine import reproduce
from llamapipe.spec import OpSpec, PipelineSpec, SinkSpec
from llamapipe.wire import Done, Ended, Hello, encode
from tests.processes import children, memory_of, wait_until

OPERATORS = '''
import os, signal, time
from pathlib import Path
from typing import Any, ClassVar

from llamapipe.data import Event, Events, Image
from llamapipe.operator import Inputs, Manifest, Operator, Outputs, Param, Port, PortKind, State, operator


def misbehave(how: str, times: int, marks: str) -> None:
    """Do it, so often; a file each remembers, since a process that dies cannot."""
    mark = Path(marks) / f"{how}-{len(list(Path(marks).iterdir()))}"
    if len(list(Path(marks).iterdir())) >= times:
        return
    mark.touch()
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how == "hang":
        while True:
            time.sleep(1)
    if how == "raise":
        raise ValueError("cannot stand this one")


@operator("test/level@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
def level(frames: Image, *, at: int = -1, how: str = "", times: int = 1, marks: str = "") -> Events:
    """How bright the picture is."""
    if frames.seq == at:
        misbehave(how, times, marks)
    return Events([Event("level", value=float(frames.bgr.mean()))])


@operator("test/chatty@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
def chatty(frames: Image, *, marks: str = "") -> Events:
    """How much is kept of what this process writes."""
    print("x" * 2_000_000, flush=True)
    time.sleep(0.3)
    return Events([Event("kept", value=float(os.fstat(1).st_size))])


@operator("test/negative@v1", inputs={"frames": "frames"}, outputs={"frames": "frames"})
def negative(frames: Image, *, at: int = -1, how: str = "", times: int = 1, marks: str = "") -> Image:
    """The picture's negative."""
    if frames.seq == at:
        misbehave(how, times, marks)
    return frames.replaced(255 - frames.bgr)


class Sum(Operator):
    """Adds up how bright the pictures were so far."""

    manifest: ClassVar[Manifest] = Manifest(
        type="test/sum@v1",
        doc="Adds up.",
        inputs={"frames": Port(PortKind.FRAMES)},
        outputs={"events": Port(PortKind.EVENTS)},
        params={
            "at": Param(int, -1), "how": Param(str, ""), "times": Param(int, 1), "marks": Param(str, ""),
            "forgetful": Param(bool, False), "slow": Param(float, 0.0),
        },
        state=State.PER_STREAM,
    )
    total = 0.0

    def process(self, inputs: Inputs) -> Outputs:
        image = inputs["frames"]
        if image.seq == self.params["at"]:
            misbehave(self.params["how"], self.params["times"], self.params["marks"])
        time.sleep(self.params["slow"])
        self.total += float(image.bgr.mean())
        return {"events": Events([Event("total", value=self.total)])}

    def snapshot(self) -> Any:
        return None if self.params["forgetful"] else {"total": self.total}

    def restore(self, state: Any) -> None:
        self.total = state["total"]
'''


@pytest.fixture
def operators(tmp_path: Path) -> Path:
    path = tmp_path / "operators.py"
    path.write_text(OPERATORS)
    return path


def run(
    clip: Path, operators: Path, folder: Path, stage: str, workers: str = "process:2", **params: Any
) -> tuple[RunSummary, list[Any]]:
    """Run one stage over the clip; its summary, and the events of every frame."""
    marks = folder / "marks"
    marks.mkdir(parents=True, exist_ok=True)
    ports = {"frames": ("$source.frames",)}
    op = OpSpec(name="stage", type=f"test/{stage}@v1", inputs=ports, params=params | {"marks": str(marks)})
    sink = SinkSpec(name="lines", type="llamapipe/jsonl@v1", inputs=("$ops.stage.events",))
    if stage == "negative":
        sink = SinkSpec(name="video", type="llamapipe/video@v1", inputs=("$ops.stage.frames",), path="out.mp4")
    spec = PipelineSpec(name="one", ops=(op,), sinks=(sink,))
    # Short only where something hangs: on a busy machine, a process that merely waits for its turn is no hang.
    timeout_s = 2.0 if params.get("how") == "hang" else 30.0
    summary = llamapipe.run(
        spec, clip, output=folder / "out", ops_files=[operators], workers=workers, invocation_timeout_s=timeout_s
    )
    lines = folder / "out" / "detections.jsonl"
    found = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    return summary, [(line["frame"], line.get("events")) for line in found]


@pytest.mark.parametrize("stage", ["level", "sum"])
@pytest.mark.parametrize("how", ["die", "stop", "hang"])
def test_a_process_that_dies_stops_or_hangs_changes_nothing(
    stage: str, how: str, clip: Path, operators: Path, tmp_path: Path
) -> None:
    _, expected = run(clip, operators, tmp_path / "a", stage, workers="thread")
    summary, found = run(clip, operators, tmp_path / "b", stage, at=7, how=how)
    assert list((tmp_path / "b" / "marks").iterdir())
    assert summary.frames.delivered == summary.frames.decoded == len(expected)
    assert found == expected


def test_a_run_with_processes_may_have_as_many_files_open_as_the_system_lets_it(
    clip: Path, operators: Path, tmp_path: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 16 if before[1] == resource.RLIM_INFINITY else min(before[1], 1 << 16)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most // 2, before[1]))
    try:
        run(clip, operators, tmp_path / "a", "level", workers="thread")
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most // 2
        run(clip, operators, tmp_path / "b", "level", workers="process:1")
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_an_operator_that_prints_does_not_fill_the_disk(clip: Path, operators: Path, tmp_path: Path) -> None:
    _, found = run(clip, operators, tmp_path, "chatty", workers="process:1")
    assert len(found) > 10
    assert max(events[0]["value"] for _, events in found) < len(found) * 2_000_000 / 2


def test_pictures_that_a_dying_process_was_making_come_from_another(
    clip: Path, operators: Path, tmp_path: Path
) -> None:
    summary, _ = run(clip, operators, tmp_path, "negative", at=3, how="die")
    assert summary.frames.delivered == summary.frames.decoded
    assert (tmp_path / "out" / "out.mp4").exists()


def test_an_item_that_raises_once_comes_out_right(clip: Path, operators: Path, tmp_path: Path) -> None:
    summary, _ = run(clip, operators, tmp_path, "level", at=4, how="raise", times=2)
    assert summary.frames.delivered == summary.frames.decoded


def test_an_item_that_kills_every_process_fails_alone_and_is_kept_for_a_look(
    clip: Path, operators: Path, tmp_path: Path
) -> None:
    # More often than it is tried: a worker that was given the item besides a slow one dies of it too, without blame.
    summary, found = run(clip, operators, tmp_path, "level", at=4, how="die", times=12)
    for number in range(12):
        (tmp_path / "marks" / f"enough-{number}").touch()
    [(reason, count)] = summary.frames.failed.items()
    assert (count, "SIGKILL" in reason) == (1, True)
    assert summary.frames.delivered == summary.frames.decoded - 1
    assert 4 not in [frame for frame, events in found if events]
    [kept] = (tmp_path / "out" / "quarantine").iterdir()
    assert kept.name == "uneven-4-stage-0.zip"
    item, outputs = reproduce(kept, env={})
    assert "SIGKILL" in item.reason
    assert outputs.count == 1  # the operator has killed often enough


def test_a_stage_without_snapshots_goes_on_anew_and_the_run_says_so(
    clip: Path, operators: Path, tmp_path: Path
) -> None:
    summary, _ = run(clip, operators, tmp_path, "sum", at=9, how="die", forgetful=True)
    assert summary.frames.delivered == summary.frames.decoded
    assert any("stage" in note and "anew" in note for note in summary.notes)


def test_nothing_is_left_behind(clip: Path, operators: Path, tmp_path: Path) -> None:
    before = memory_of(os.getpid())
    held: list[list[str]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            held.append(memory_of(os.getpid()))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        run(clip, operators, tmp_path, "negative", at=3, how="die")
    finally:
        over.set()
        watching.join()
    assert max(map(len, held)) > len(before)  # or there would be nothing to leave behind
    assert memory_of(os.getpid()) == before
    assert children(os.getpid()) == []
    assert not [p for p in (tmp_path / "out").rglob("*") if "partial" in p.name or "lock" in p.name]


def test_strangers_on_the_socket_are_not_listened_to(clip: Path, operators: Path, tmp_path: Path) -> None:
    found: list[RunSummary] = []
    args = (clip, operators, tmp_path, "sum")
    running = threading.Thread(target=lambda: found.append(run(*args, workers="process:1", slow=0.05)[0]))
    running.start()
    pattern = rf"@(llamapipe-{os.getpid()}-[0-9a-f]+)"
    wait_until(lambda: re.search(pattern, Path("/proc/net/unix").read_text()), alive=running.is_alive)
    name = re.search(pattern, Path("/proc/net/unix").read_text())
    assert name is not None
    context = zmq.Context()
    with context, context.socket(zmq.DEALER) as stranger, context.socket(zmq.DEALER) as named:
        named.setsockopt(zmq.IDENTITY, b"sink:nobody")
        for socket in (stranger, named):
            socket.connect(f"ipc://@{name[1]}")
            socket.send(b"x")
            socket.send_multipart([b"", b"x", b"y"])
            socket.send(encode(Hello("sink:nobody", "sink")))
            socket.send(encode(Ended("clip", 1, None)))
            socket.send(encode(Done(0, [], 0.0, 0.0)))
        running.join(60)
    assert found
    assert (found[0].outcome, found[0].frames.delivered) == ("done", found[0].frames.decoded)
    assert found[0].frames.decoded > 1
