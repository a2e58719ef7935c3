"""Runs that are killed, engine and workers and all, and gone on with: what comes out is what comes out of one run.

Real processes and real kills. Each process is killed as soon as it has got a little further than the one before.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import llamapipe
from llamapipe.errors import UsageError
from llamapipe.report import RunSummary
from llamapipe.session import look_back
from tests.processes import wait_until

OPERATORS = '''
import os, time
from typing import Any, ClassVar

import numpy as np

from llamapipe.data import Boxes, Event, Events, Image
from llamapipe.operator import FILTERED, Inputs, Manifest, Operator, Outputs, Port, PortKind, State, operator


WAIT_S = float(os.environ.get("LOOK_WAIT_S", "0"))  # of the process: what it does is the same however long it takes


@operator("test/look@v1", inputs={"frames": "frames"}, outputs={"boxes": "boxes"})
def look(frames: Image) -> Boxes:
    """A box where it is bright, in two of three stretches of the clip; takes its time."""
    time.sleep(WAIT_S)
    if frames.seq == 33:
        raise ValueError("cannot stand this one")
    level = float(frames.bgr.mean())
    rows = [] if frames.seq // 15 % 3 == 2 else [[level / 8, 2.0, level / 8 + 9.0, 12.0]]
    score, label = np.full(len(rows), 0.9, np.float32), np.zeros(len(rows), np.int32)
    return Boxes(np.array(rows, np.float32).reshape(-1, 4), score, label, ("spot",))


class Sum(Operator):
    """Adds up how bright the pictures were so far, and how often it was asked."""

    manifest: ClassVar[Manifest] = Manifest(
        type="test/sum@v1",
        doc="Adds up.",
        inputs={"frames": Port(PortKind.FRAMES), "boxes": Port(PortKind.BOXES)},
        outputs={"events": Port(PortKind.EVENTS)},
        state=State.PER_STREAM,
    )

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.total, self.times = 0.0, 0

    def process(self, inputs: Inputs) -> Outputs:
        self.total += float(inputs["frames"].bgr.mean())
        self.times += 1
        return {"events": Events([Event("total", value=self.total), Event("times", value=self.times)])}

    def snapshot(self) -> Any:
        return [self.total, self.times]

    def restore(self, state: Any) -> None:
        self.total, self.times = state


class Forgetful(Sum):
    """The same, but gives no snapshot."""

    manifest: ClassVar[Manifest] = Manifest(
        type="test/forgetful@v1",
        doc="Adds up.",
        inputs={"frames": Port(PortKind.FRAMES)},
        outputs={"events": Port(PortKind.EVENTS)},
        state=State.PER_STREAM,
    )

    def snapshot(self) -> Any:
        return None


@operator("test/thin@v1", inputs={"frames": "frames"}, outputs={"frames": "frames"}, filters=True)
def thin(frames: Image, *, every: int = 7) -> Image:
    """Lets all but every so manieth picture through."""
    return FILTERED if frames.seq % every == 3 else frames.replaced(255 - frames.bgr)


@operator("test/bright@v1", inputs={"frames": "frames"}, outputs={"frames": "frames"})
def bright(frames: Image) -> Image:
    """A little brighter, but for one picture that it cannot stand; goes in a chain with the stage that draws."""
    if frames.seq == 41:
        raise ValueError("cannot stand this one")
    return frames.replaced(frames.bgr // 2 + 128)
'''

PIPELINE = """
version: 1
name: spots
ops:
  - {name: look, type: test/look@v1, inputs: $source.frames}
  - {name: follow, type: llamapipe/track@v1, inputs: $ops.look.boxes}
  - name: sum
    type: test/sum@v1
    inputs: {frames: $source.frames, boxes: $ops.look.boxes}
    when: count($ops.look.boxes) >= 1
  - {name: rarely, type: test/look@v1, inputs: $source.frames, sample_fps: 3}
  - {name: thinned, type: test/thin@v1, inputs: $source.frames}
  - {name: bright, type: test/bright@v1, inputs: $ops.thinned.frames}
  - {name: drawn, type: llamapipe/annotate@v1, inputs: {frames: $ops.bright.frames, boxes: $ops.follow.tracks}}
sinks:
  - {type: llamapipe/jsonl@v1, inputs: [$ops.follow.tracks, $ops.sum.events, $ops.rarely.boxes]}
  - {type: llamapipe/video@v1, inputs: $ops.drawn.frames}
  - {type: llamapipe/coco@v1, inputs: $ops.follow.tracks}
  - {type: llamapipe/csv@v1, inputs: $ops.follow.tracks}
  - {type: llamapipe/frames@v1, inputs: $ops.drawn.frames, every: 10}
"""

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell tells its background to ignore it
def dies(event, args):
    if event == "os.rename" and os.path.basename(os.fsdecode(args[1])) == os.environ["DIES_BEFORE_NAMING"]:
        os.killpg(0, signal.SIGKILL)
if "DIES_BEFORE_NAMING" in os.environ:
    sys.addaudithook(dies)
from llamapipe.session import RunRequest, run
if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    options["ops_files"] = [Path(file) for file in options["ops_files"]]
    summary = run(RunRequest(output=Path(options.pop("output")), **options))
    sys.exit(summary.exit_code)
"""

FRAMES = 100
SLOW_S = 0.06  # a frame, of runs that are to be killed: they would last for 3 s, and are looked at each few ms
SEGMENT_S = 0.4  # ten frames


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Operators, pipeline, script, and clips with uneven times, B-frames and sound."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "operators.py").write_text(OPERATORS)
    (folder / "spots.yaml").write_text(PIPELINE)
    (folder / "script.py").write_text(SCRIPT)
    make(folder / "clip.mp4", FRAMES)
    make(folder / "short.mp4", 25)
    return folder


def make(path: Path, frames: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "2", "g": "30"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=48000)
        sound.layout = "mono"
        for i in range(frames):
            level = np.full((64, 96, 3), 20 + 2 * (i % 90), np.uint8)
            level[:, i % 80 : i % 80 + 16] = 200
            frame = av.VideoFrame.from_ndarray(level, format="bgr24")
            frame.pts, frame.time_base = 40 * i + 11 * (i % 3), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        for start in range(0, frames * 1920, 1024):
            wave = np.sin(np.arange(start, start + 1024) / 20).astype(np.float32)[None]
            beep = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            beep.sample_rate, beep.pts, beep.time_base = 48000, start, Fraction(1, 48000)
            container.mux(sound.encode(beep))
        container.mux(sound.encode())


def options(work: Path, output: Path, **changes: Any) -> dict[str, Any]:
    return {
        "pipeline": str(work / "spots.yaml"),
        "sources": [str(work / "clip.mp4")],
        "output": str(output),
        "ops_files": [str(work / "operators.py")],
        "segment_s": SEGMENT_S,
        "workers": "thread:2",
    } | changes


def start(work: Path, asked: dict[str, Any], **env: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(work / "script.py"), json.dumps(asked)]
    more = {name: str(value) for name, value in env.items()}
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, env={**os.environ, **more})


def frames_kept(output: Path) -> int:
    checkpoint = look_back(output).checkpoint if (output / ".llamapipe").exists() else None
    return sum(point.seq for point in checkpoint.streams.values()) if checkpoint is not None else 0


def killed(work: Path, asked: dict[str, Any], output: Path) -> int:
    """Start, kill the whole process group once it has got further; how far it got."""
    before = frames_kept(output)
    kill_once(lambda: frames_kept(output) > before, start(work, asked, LOOK_WAIT_S=SLOW_S))
    return frames_kept(output)


def kill_once(happened: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """The whole process group. A run that has ended by then was not killed, and proves nothing."""
    try:
        wait_until(happened, "it got further", alive=lambda: process.poll() is None)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        said = process.communicate()[1].decode()
    assert process.returncode == -signal.SIGKILL, said


def ended(work: Path, asked: dict[str, Any]) -> RunSummary:
    process = start(work, asked)
    _, said = process.communicate(timeout=120)
    assert (Path(asked["output"]) / "run.json").exists(), said.decode()
    return RunSummary.from_json((Path(asked["output"]) / "run.json").read_bytes())


Whole = Callable[..., tuple[RunSummary, dict[str, bytes]]]


@pytest.fixture(scope="module")
def whole(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What a run gives that nobody disturbs: ``whole(loop=2)``."""
    known: dict[str, tuple[RunSummary, dict[str, bytes]]] = {}

    def one(**changes: Any) -> tuple[RunSummary, dict[str, bytes]]:
        key = json.dumps(changes, sort_keys=True)
        if key not in known:
            folder = tmp_path_factory.mktemp("whole") / "out"
            summary = ended(work, options(work, folder, **changes))
            known[key] = summary, dict(outputs(folder))
        return known[key]

    return one


def outputs(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("run.json", "report.html") and path.suffix != ".zip":
            yield str(path.relative_to(folder)), path.read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="threads"),
        pytest.param({"workers": "process:2"}, id="processes"),
        pytest.param({"loop": 2, "max_frames": 150}, id="loop"),
        pytest.param({"start_s": 0.5, "end_s": 3.3}, id="cut"),
    ],
)
def test_a_run_that_was_killed_several_times_gives_what_one_run_gives(
    changes: dict[str, Any], work: Path, whole: Whole, tmp_path: Path
) -> None:
    undisturbed, expected = whole(**{name: value for name, value in changes.items() if name != "workers"})
    asked = options(work, tmp_path / "again", **changes)
    reached = [killed(work, asked | {"resume": bool(i)}, tmp_path / "again") for i in range(3)]
    assert reached == sorted(set(reached))
    again = ended(work, asked | {"resume": True})
    assert dict(outputs(tmp_path / "again")) == expected
    assert again.frames == undisturbed.frames
    assert [stream.frames for stream in again.streams] == [stream.frames for stream in undisturbed.streams]
    items = [{stage.name: stage.items for stage in summary.stages} for summary in (undisturbed, again)]
    for remembers in ("follow", "sum"):  # nobody takes an item of theirs twice
        assert items[0][remembers] == items[1][remembers]
    assert any(f"frame {reached[-1]}" in note for note in again.notes)
    assert not list((tmp_path / "again").rglob(".*"))


def test_a_source_that_had_ended_is_not_read_again(work: Path, whole: Whole, tmp_path: Path) -> None:
    sources = [str(work / "short.mp4"), str(work / "clip.mp4")]
    asked = options(work, tmp_path / "again", sources=sources)
    kill_once(lambda: short_has_ended(tmp_path / "again"), start(work, asked, LOOK_WAIT_S=SLOW_S))
    before = (tmp_path / "again" / "short" / "annotated.mp4").stat().st_mtime_ns
    summary = ended(work, asked | {"resume": True})
    assert (tmp_path / "again" / "short" / "annotated.mp4").stat().st_mtime_ns == before
    assert dict(outputs(tmp_path / "again")) == whole(sources=sources)[1]
    assert [len(stream.outputs) for stream in summary.streams] == [5, 5]


@pytest.mark.parametrize("last", ["annotated.mp4", "run.json"])
def test_a_run_that_is_killed_while_it_finishes_loses_nothing(
    last: str, work: Path, whole: Whole, tmp_path: Path
) -> None:
    """Whatever has its final name by then: lists get theirs before the video is put together."""
    output = tmp_path / "again"
    asked = options(work, output)
    process = start(work, asked, DIES_BEFORE_NAMING=last)
    said = process.communicate()[1].decode()
    assert process.returncode == -signal.SIGKILL, said
    assert (output / "detections.jsonl").exists()
    assert not (output / last).exists()
    ended(work, asked | {"resume": True})
    assert dict(outputs(output)) == whole()[1]
    assert not list(output.rglob(".*"))


def test_going_on_can_be_given_up_and_tried_again(work: Path, whole: Whole, tmp_path: Path) -> None:
    """Ctrl-C twice, before it got any further and after: what the killed run had written is there for the next."""
    output = tmp_path / "again"
    asked = options(work, output)
    killed(work, asked, output)
    for further in (0, 1):
        before = frames_kept(output)
        process = start(work, asked | {"resume": True}, LOOK_WAIT_S=SLOW_S)
        wait_until(
            lambda least=before + further, times=further: resumed(output) > times and frames_kept(output) >= least,
            "it went on",
            alive=lambda process=process: process.poll() is None,
        )
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        assert "KeyboardInterrupt" in process.communicate()[1].decode()
        assert frames_kept(output) >= before
    ended(work, asked | {"resume": True})
    assert dict(outputs(output)) == whole()[1]
    assert not list(output.rglob(".*"))


def resumed(output: Path) -> int:
    checkpoint = look_back(output).checkpoint
    return 0 if checkpoint is None else checkpoint.resumed


def short_has_ended(output: Path) -> bool:
    checkpoint = look_back(output).checkpoint
    point = None if checkpoint is None else checkpoint.streams.get("short")
    return point is not None and point.ended


def test_another_run_is_not_gone_on_with(work: Path, tmp_path: Path) -> None:
    asked = options(work, tmp_path / "out")
    killed(work, asked, tmp_path / "out")
    before = dict(outputs(tmp_path / "out"))
    for changes, named in (
        ({"end_s": 3.0}, "--end was None and is 3.0"),
        ({"sources": [str(work / "short.mp4")]}, "source clip is gone; source short is new"),
        ({"sets": {"rarely.sample_fps": "5"}}, "stage rarely has changed"),
    ):
        with pytest.raises(UsageError, match=named):
            llamapipe.run(**as_call(asked | changes), resume=True)
    assert dict(outputs(tmp_path / "out")) == before


def as_call(asked: dict[str, Any]) -> dict[str, Any]:
    return asked | {"ops_files": [Path(file) for file in asked["ops_files"]]}


def test_without_resume_a_killed_run_is_not_in_the_way(work: Path, tmp_path: Path) -> None:
    asked = options(work, tmp_path / "out")
    killed(work, asked, tmp_path / "out")
    summary = llamapipe.run(**as_call(asked))
    assert summary.frames.decoded == FRAMES
    assert not list((tmp_path / "out").rglob(".*"))


def test_nothing_to_go_on_with_is_a_run_from_the_beginning_and_a_complete_one_is_left_alone(
    work: Path, tmp_path: Path
) -> None:
    asked = as_call(options(work, tmp_path / "out"))
    first = llamapipe.run(**asked, resume=True)
    assert first.frames.decoded == FRAMES
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name, _ in outputs(tmp_path / "out")}
    assert llamapipe.run(**asked, resume=True).started_at == first.started_at
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before} == before


def test_a_complete_run_is_no_answer_to_who_asks_for_another(work: Path, tmp_path: Path) -> None:
    asked = as_call(options(work, tmp_path / "out"))
    llamapipe.run(**asked)
    with pytest.raises(
        UsageError, match=r"the run that is complete was another: --end was None and is 3\.0"
    ) as refused:
        llamapipe.run(**asked, end_s=3.0, resume=True)
    assert refused.value.hint is not None
    assert "--force" in refused.value.hint


def test_a_stage_without_snapshots_means_a_run_from_the_beginning(work: Path, tmp_path: Path) -> None:
    text = PIPELINE.replace("test/sum@v1", "test/forgetful@v1")
    text = text.replace(
        "inputs: {frames: $source.frames, boxes: $ops.look.boxes}\n    when", "inputs: $source.frames\n    when"
    )
    (tmp_path / "forgetful.yaml").write_text(text)
    asked = options(work, tmp_path / "out", pipeline=str(tmp_path / "forgetful.yaml"))
    summary = llamapipe.run(**as_call(asked))
    assert any("stage sum gives no snapshot" in note for note in summary.notes)
