"""The engine on real sockets, driven through a whole run: every failure has its outcome, and nothing hangs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import llamapipe
from llamapipe import Pipeline
from llamapipe.errors import LlamapipeError, OutputError
from llamapipe.media.sinks.jsonl import JsonlSink
from llamapipe.runtime import ProcessWorker
from llamapipe.wire import ItemOutputs
from tests.processes import wait_until


def pipeline_of(type: str, **params: object) -> Pipeline:
    pipeline = Pipeline("test")
    pipeline.add(type, name="stage", inputs={"frames": pipeline.frames}, outputs={"events": "events"}, **params)
    return pipeline


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind():
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("llamapipe")] == []


def test_a_stage_that_cannot_be_loaded_fails_the_run_with_its_reason(
    clip: Path, operators: Path, tmp_path: Path
) -> None:
    summary = llamapipe.run(pipeline_of("test/unloadable@v1"), clip, output=tmp_path, ops_files=[operators], force=True)
    assert (summary.outcome, summary.exit_code) == ("failed", 1)
    assert summary.error == "stage stage: no room for it"
    assert summary.frames.delivered == 0


def test_a_loop_over_a_run_that_failed_ends_with_the_reason(clip: Path, operators: Path) -> None:
    with pytest.raises(LlamapipeError, match="no room for it"):
        list(pipeline_of("test/unloadable@v1").run(clip, ops_files=[operators]))


def test_a_sink_that_fails_midway_stops_the_run_and_leaves_no_half_file(
    clip: Path, operators: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = JsonlSink.write

    def full_disk(sink, item):
        if item.seq == 4:
            raise OutputError("no space left")
        written.append(item.seq)
        write(sink, item)

    monkeypatch.setattr(JsonlSink, "write", full_disk)
    summary = llamapipe.run(pipeline_of("test/level@v1"), clip, output=tmp_path, ops_files=[operators], force=True)
    assert (summary.outcome, summary.exit_code) == ("failed", 1)
    assert "no space left" in (summary.error or "")
    assert written == [0, 1, 2, 3]
    frames = summary.frames
    assert frames.decoded == frames.delivered + sum(frames.failed.values()) + frames.cancelled
    assert frames.delivered == 0
    assert not (tmp_path / "detections.jsonl").exists()


def _deadly(monkeypatch: pytest.MonkeyPatch, seq: int, times: int) -> list[int]:
    """Make worker threads die of one frame, so many times."""
    from llamapipe.runtime.host import StageHost

    run, deaths = StageHost.run, []

    def dies(host: StageHost, items: Sequence) -> list[ItemOutputs]:
        if any(item.seq == seq for item in items) and len(deaths) < times:
            deaths.append(seq)
            raise MemoryError
        return run(host, items)

    monkeypatch.setattr(StageHost, "run", dies)
    return deaths


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_dies_loses_no_frame(
    workers: int, clip: Path, operators: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = _deadly(monkeypatch, 5, 2)
    summary = llamapipe.run(
        pipeline_of("test/level@v1"), clip, output=tmp_path, ops_files=[operators], force=True, workers=workers
    )
    assert deaths == [5, 5]
    assert (summary.outcome, summary.frames.delivered) == ("done", summary.frames.decoded)


def test_a_frame_that_no_worker_survives_fails_alone(
    clip: Path, operators: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _deadly(monkeypatch, 5, 100)
    summary = llamapipe.run(
        pipeline_of("test/level@v1"), clip, output=tmp_path, ops_files=[operators], force=True, workers=2
    )
    [(reason, count)] = summary.frames.failed.items()
    assert (count, "worker lost: MemoryError" in reason) == (1, True)
    assert summary.frames.delivered == summary.frames.decoded - 1


_LOADS_LONG = """
import time
from pathlib import Path
from typing import ClassVar

from llamapipe.data import Events
from llamapipe.operator import Context, Inputs, Manifest, Operator, Outputs, Param, Port, PortKind


class LoadsLong(Operator):
    manifest: ClassVar[Manifest] = Manifest(
        type="test/loads-long@v1",
        doc="Takes its time.",
        inputs={"frames": Port(PortKind.FRAMES, "any")},
        outputs={"events": Port(PortKind.EVENTS, "none")},
        params={"marks": Param(str, "")},
    )

    def __init__(self, context: Context) -> None:
        marks = Path(context.params["marks"])
        (marks / "begun").touch()
        for _ in range(6000):
            if (marks / "enough").exists():
                return
            time.sleep(0.01)

    def process(self, inputs: Inputs) -> Outputs:
        return {"events": Events()}
"""


@pytest.mark.parametrize("workers", ["thread:2", "process:2"])
def test_an_interrupt_while_models_load_waits_for_none_of_them(clip: Path, tmp_path: Path, workers: str) -> None:
    """Nothing was worked on, so that there is nothing to finish; threads end by themselves once they have loaded."""
    ops = tmp_path / "loads_long.py"
    ops.write_text(_LOADS_LONG)
    stop = threading.Event()

    def press() -> None:
        wait_until((tmp_path / "begun").exists)
        stop.set()

    pressing = threading.Thread(target=press)
    pressing.start()
    begun_s = time.monotonic()
    summary = llamapipe.run(
        pipeline_of("test/loads-long@v1", marks=str(tmp_path)),
        clip,
        output=tmp_path / "out",
        ops_files=[ops],
        workers=workers,
        interrupt=stop,
    )
    took_s = time.monotonic() - begun_s
    (tmp_path / "enough").touch()
    pressing.join()
    assert took_s < 30  # of the 60 that loading takes as long as nobody says that it is enough
    assert (summary.outcome, summary.exit_code) == ("cancelled", 130)
    assert (summary.frames.delivered, summary.frames.cancelled) == (0, summary.frames.decoded)
    for thread in threading.enumerate():
        if thread.name.startswith("llamapipe"):
            thread.join(10.0)


HANGING = """
import threading, time
from pathlib import Path

from llamapipe.data import Event, Events, Image
from llamapipe.operator import operator

once = threading.Lock()


@operator("test/once@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
def once_in_a_while(frames: Image, *, until: str = "") -> Events:
    \"\"\"Hangs once, until a file is there.\"\"\"
    if frames.seq == 60 and once.acquire(blocking=False):
        while not Path(until).exists():
            time.sleep(0.01)
    time.sleep(0.005)
    return Events([Event("x", value=1.0)])
"""


def test_a_run_ends_beside_a_thread_that_hangs_once_another_has_done_its_work(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(HANGING)
    pipeline = Pipeline("test")
    until = tmp_path / "until"
    ports = {"frames": pipeline.frames}
    pipeline.add("test/once@v1", name="stage", inputs=ports, outputs={"events": "events"}, until=str(until))
    found = []
    options = {"output": tmp_path / "out", "ops_files": [tmp_path / "hanging.py"], "workers": 2, "loop": 10}
    running = threading.Thread(target=lambda: found.append(llamapipe.run(pipeline, clip, **options)))
    running.start()
    running.join(60)
    alive = running.is_alive()
    until.touch()
    running.join()
    assert not alive
    assert (found[0].outcome, found[0].frames.delivered) == ("done", found[0].frames.decoded)
    wait_until(lambda: not any(thread.name.startswith("llamapipe") for thread in threading.enumerate()))


LEAVING = """
import sys
from typing import ClassVar

import numpy as np

from llamapipe.data import Event, Events, Image
from llamapipe.operator import Context, Inputs, Manifest, Operator, Outputs, Port, PortKind, operator


@operator("test/leaves@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
def leaves(frames: Image) -> Events:
    \"\"\"Calls what ends a program, as libraries do that were made to be programs.\"\"\"
    if frames.seq == 5:
        sys.exit(3)
    return Events([Event("x", value=1.0)])


class LeavesAtOnce(Operator):
    manifest: ClassVar[Manifest] = Manifest(
        type="test/leaves-at-once@v1",
        doc="Cannot be made.",
        inputs={"frames": Port(PortKind.FRAMES, "any")},
        outputs={"events": Port(PortKind.EVENTS, "none")},
    )

    def __init__(self, context: Context) -> None:
        sys.exit("no licence")

    def process(self, inputs: Inputs) -> Outputs:
        return {"events": Events()}


@operator("test/nothing-left@v1", inputs={"frames": "frames"}, outputs={"frames": "frames"})
def nothing_left(frames: Image) -> Image:
    \"\"\"Of one frame a region without a pixel.\"\"\"
    return Image.from_bgr(frames.bgr[:0] if frames.seq == 5 else frames.bgr)


@operator("test/looks@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
def looks(frames: Image) -> Events:
    \"\"\"Cannot stand a picture without pixels.\"\"\"
    return Events([Event("x", value=float(np.asarray(frames.bgr).max()))])
"""


@pytest.fixture
def leaving(tmp_path: Path) -> Path:
    path = tmp_path / "leaving.py"
    path.write_text(LEAVING)
    return path


@pytest.mark.parametrize("workers", ["thread:2", "process:2"])
def test_what_ends_a_program_ends_an_item(clip: Path, leaving: Path, tmp_path: Path, workers: str) -> None:
    pipeline = pipeline_of("test/leaves@v1")
    summary = llamapipe.run(pipeline, clip, output=tmp_path / "out", ops_files=[leaving], workers=workers)
    assert summary.frames.failed == {"stage: SystemExit: 3": 1}
    assert summary.frames.delivered == summary.frames.decoded - 1


def test_what_ends_a_program_while_a_stage_is_made_fails_the_run_with_its_reason(
    clip: Path, leaving: Path, tmp_path: Path
) -> None:
    pipeline = pipeline_of("test/leaves-at-once@v1")
    summary = llamapipe.run(pipeline, clip, output=tmp_path / "out", ops_files=[leaving])
    assert summary.outcome == "failed"
    assert "no licence" in (summary.error or "")


def test_an_item_that_cannot_even_be_kept_ends_no_run(clip: Path, leaving: Path, tmp_path: Path) -> None:
    pipeline = Pipeline("test")
    less = pipeline.add(
        "test/nothing-left@v1", name="less", inputs={"frames": pipeline.frames}, outputs={"frames": "frames"}
    )
    pipeline.add("test/looks@v1", name="stage", inputs={"frames": less.frames}, outputs={"events": "events"})
    summary = llamapipe.run(pipeline, clip, output=tmp_path / "out", ops_files=[leaving])
    assert (summary.outcome, sum(summary.frames.failed.values())) == ("done", 1)
    assert summary.frames.delivered == summary.frames.decoded - 1


@pytest.mark.parametrize("workers", ["thread:2", "process:2"])
def test_a_worker_that_cannot_be_started_is_tried_again(
    clip: Path, operators: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    """There are no more processes or threads to be had for a moment: no reason to give up what is done."""
    refused: list[str] = []
    if workers.startswith("process"):
        start = ProcessWorker.start

        def begin(worker: ProcessWorker, address: str) -> int:
            if len(refused) < 2:
                refused.append(worker.identity)
                raise LlamapipeError("no more processes")
            return start(worker, address)

        monkeypatch.setattr(ProcessWorker, "start", begin)
    else:
        launch = threading.Thread.start

        def begin_thread(thread: threading.Thread) -> None:
            if thread.name.startswith("llamapipe worker-") and len(refused) < 2:
                refused.append(thread.name)
                raise RuntimeError("can't start new thread")
            launch(thread)

        monkeypatch.setattr(threading.Thread, "start", begin_thread)
    summary = llamapipe.run(
        pipeline_of("test/level@v1"), clip, output=tmp_path / "out", ops_files=[operators], workers=workers
    )
    assert len(refused) == 2
    assert (summary.outcome, summary.frames.delivered) == ("done", summary.frames.decoded)


STOPPED = """
import json, sys
import llamapipe
from pathlib import Path

if __name__ == "__main__":
    pipeline = llamapipe.Pipeline("test")
    ports = {"frames": pipeline.frames}
    pipeline.add("test/slow@v1", name="stage", inputs=ports, outputs={"events": "events"})
    options = json.loads(sys.argv[1])
    summary = llamapipe.run(
        pipeline, options["clip"], output=Path(options["out"]), ops_files=[Path(options["ops"])], workers="process:2",
        invocation_timeout_s=1.0, loop=4,
    )
    print(json.dumps([summary.outcome, summary.frames.decoded, summary.frames.delivered, summary.notes]))
"""

SLOW = """
import time
from pathlib import Path

from llamapipe.data import Event, Events, Image
from llamapipe.operator import operator


@operator("test/slow@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
def slow(frames: Image, *, told: str = "TOLD") -> Events:
    \"\"\"Says that it is there.\"\"\"
    Path(told).touch()
    time.sleep(0.02)
    return Events([Event("x", value=1.0)])
"""


def test_a_run_that_was_stopped_for_a_while_takes_nobody_for_hung(clip: Path, tmp_path: Path) -> None:
    """Ctrl-Z, a container that is paused: answers came meanwhile, and nobody was there to read them."""
    told = tmp_path / "told"
    (tmp_path / "slow.py").write_text(SLOW.replace("TOLD", str(told)))
    (tmp_path / "script.py").write_text(STOPPED)
    asked = {"clip": str(clip), "out": str(tmp_path / "out"), "ops": str(tmp_path / "slow.py")}
    command = [sys.executable, str(tmp_path / "script.py"), json.dumps(asked)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    until = time.monotonic() + 60
    while not told.exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=60)
    outcome, decoded, delivered, notes = json.loads(said)
    assert (outcome, decoded) == ("done", delivered)
    assert not [note for note in notes if "lost" in note]
