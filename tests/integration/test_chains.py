"""Chains in real runs: what comes out is what single stages give, whatever goes wrong in the middle of one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from llamapipe.control import replay
from llamapipe.control.actions import Dispatch
from llamapipe.control.log import read_log
from llamapipe.report import RunSummary
from llamapipe.session import RunRequest, run
from llamapipe.spec import OpSpec, PipelineSpec, SinkSpec
from tests.session.conftest import clip

__all__ = ["clip"]

OPERATORS = '''
import os, signal, time
from pathlib import Path

from llamapipe.data import Event, Events, Image
from llamapipe.operator import operator


def misbehave(how: str, times: int, marks: str) -> None:
    """Do it, so often; a file each remembers, since a process that dies cannot."""
    done = len(list(Path(marks).iterdir()))
    if done >= times:
        return
    (Path(marks) / str(done)).touch()
    if how == "die":
        time.sleep(0.05)  # answers that are still on their way would die with it, and others be blamed
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError("cannot stand this one")


@operator("test/negative@v1", inputs={"frames": "frames"}, outputs={"frames": "frames"})
def negative(frames: Image, *, at: int = -1, how: str = "", times: int = 1, marks: str = "") -> Image:
    """The picture's negative."""
    if frames.seq == at:
        misbehave(how, times, marks)
    return frames.replaced(255 - frames.bgr)


@operator("test/cover@v1", inputs={"frames": "frames"}, outputs={"frames": "frames"}, hides=True)
def cover(frames: Image, *, at: int = -1, how: str = "", times: int = 1, marks: str = "") -> Image:
    """Covers a corner."""
    if frames.seq == at:
        misbehave(how, times, marks)
    pixels = frames.bgr.copy()
    pixels[:32, :16], pixels[:32, 16:32] = 0, 255
    return frames.replaced(pixels)


@operator("test/level@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
def level(frames: Image, *, at: int = -1, how: str = "", times: int = 1, marks: str = "") -> Events:
    """How bright the picture is."""
    if frames.seq == at:
        misbehave(how, times, marks)
    return Events([Event("level", value=float(frames.bgr.mean()))])
'''
TYPES = {"a": "negative", "b": "negative", "c": "level"}


Ran = tuple[RunSummary, dict[str, bytes], int]


def chained(request: RunRequest) -> Ran:
    """Run it; the summary, the files that came out, and how many invocations were chains. The log replays."""
    assert request.output is not None
    summary = run(request)
    lines = (request.output / "events.jsonl").read_bytes().splitlines()
    replay(lines).check_invariants()
    _, entries = read_log(lines)
    sent = [action for entry in entries for action in entry.actions if isinstance(action, Dispatch)]
    files = {p.name: p.read_bytes() for p in request.output.iterdir() if p.suffix in (".mp4", ".jsonl")}
    del files["events.jsonl"]
    return summary, files, sum(bool(dispatch.chain) for dispatch in sent)


def into(kind: str, port: str) -> SinkSpec:
    return SinkSpec(name="out", type=f"llamapipe/{kind}@v1", inputs=(port,))


def looks() -> PipelineSpec:
    """Pictures made small, old and clean; what cleans them remembers, and is no part of the chain."""
    ops = [("small", "resize", {"width": 384}), ("old", "vintage", {}), ("clean", "denoise", {"method": "median"})]
    before, made = "$source.frames", []
    for name, kind, params in ops:
        made.append(OpSpec(name=name, type=f"llamapipe/{kind}@v1", inputs={"frames": (before,)}, params=params))
        before = f"$ops.{name}.frames"
    return PipelineSpec(name="looks", ops=tuple(made), sinks=(into("video", before),))


def drawn() -> PipelineSpec:
    """Boxes that are drawn into a video, and written as lines as well: the head of the chain has a sink of its own."""
    detect = OpSpec(
        name="detect",
        type="llamapipe/detect@v1",
        inputs={"frames": ("$source.frames",)},
        params={"task": "object-detection", "model": "yolox-nano", "precision": "fp32"},
    )
    inputs = {"frames": ("$source.frames",), "boxes": ("$ops.detect.boxes",)}
    draw = OpSpec(name="draw", type="llamapipe/annotate@v1", inputs=inputs)
    lines = SinkSpec(name="lines", type="llamapipe/jsonl@v1", inputs=("$ops.detect.boxes",))
    return PipelineSpec(name="drawn", ops=(detect, draw), sinks=(lines, into("video", "$ops.draw.frames")))


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Callable[[RunRequest], Ran]:
    """What single stages give, found out once for each pipeline: it is the same whoever works on them."""
    known: dict[str, Ran] = {}

    def one(request: RunRequest) -> Ran:
        name = request.pipeline if isinstance(request.pipeline, str) else request.pipeline.name
        if name not in known:
            known[name] = chained(replace(request, output=tmp_path_factory.mktemp("single"), without=["fusing"]))
        return known[name]

    return one


@pytest.mark.assets
@pytest.mark.parametrize("workers", ["thread:2", "process:2"])
@pytest.mark.parametrize(
    ("pipeline", "source"),
    [("blur-faces", "TUD-Stadtmitte.mp4"), (looks(), "car-detection.mp4"), (drawn(), "car-detection.mp4")],
    ids=["faces", "looks", "drawn"],
)
def test_every_byte_is_what_single_stages_give(
    pipeline: Any,
    source: str,
    workers: str,
    single: Callable[[RunRequest], Ran],
    assets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLAMAPIPE_ASSET_MIRROR", str(assets))
    request = RunRequest(
        pipeline, [str(assets / source)], output=tmp_path, max_frames=8, workers=workers, record_events=True
    )
    summary, files, chains = chained(request)
    alone, files_alone, no_chains = single(replace(request, workers="thread:2"))
    assert (chains > 0, no_chains) == (True, 0)
    assert files == files_alone
    assert summary.frames == alone.frames
    assert [(s.name, s.failed) for s in summary.stages] == [(s.name, s.failed) for s in alone.stages]
    assert all(stage.busy_s > 0 and stage.items >= 8 for stage in summary.stages)


@pytest.fixture
def operators(tmp_path: Path) -> Path:
    path = tmp_path / "operators.py"
    path.write_text(OPERATORS)
    return path


def in_a_row(
    clip: Path, operators: Path, folder: Path, bad: str = "", *, workers: str = "thread:2", **params: Any
) -> Ran:
    """a, b and c one after the other, the ``bad`` one of which misbehaves."""
    marks = folder / "marks"
    marks.mkdir(parents=True)
    before, ops = "$source.frames", []
    for name, kind in TYPES.items():
        given = params | {"marks": str(marks)} if name == bad else {}
        ops.append(OpSpec(name=name, type=f"test/{kind}@v1", inputs={"frames": (before,)}, params=given))
        before = f"$ops.{name}.frames"
    spec = PipelineSpec(name="row", ops=tuple(ops), sinks=(into("jsonl", "$ops.c.events"),))
    return chained(
        RunRequest(spec, [str(clip)], output=folder / "out", ops_files=[operators], workers=workers, record_events=True)
    )


@pytest.fixture(scope="module")
def expected(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a, b and c give where none of them misbehaves."""
    folder = tmp_path_factory.mktemp("well")
    (folder / "operators.py").write_text(OPERATORS)
    _, files, _ = in_a_row(clip, folder / "operators.py", folder)
    return files


@pytest.mark.parametrize("bad", ["a", "b", "c"])
@pytest.mark.parametrize(("workers", "how"), [("thread:2", "raise"), ("process:2", "raise"), ("process:2", "die")])
def test_a_stage_that_misbehaves_once_in_a_chain_changes_nothing(
    bad: str, workers: str, how: str, clip: Path, operators: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    summary, files, chains = in_a_row(clip, operators, tmp_path / "bad", bad, workers=workers, at=5, how=how)
    assert len(list((tmp_path / "bad" / "marks").iterdir())) == 1
    assert files == expected
    assert summary.frames.delivered == summary.frames.decoded == 12
    assert chains >= 12
    failed = {stage.name: stage.failed for stage in summary.stages}
    assert failed == {name: int(name == bad and how == "raise") for name in TYPES}


@pytest.mark.parametrize("bad", ["a", "b", "c"])
@pytest.mark.parametrize(("workers", "how"), [("thread:2", "raise"), ("process:2", "die")])
def test_a_stage_that_never_can_fails_alone_under_its_own_name_and_its_input_is_kept(
    bad: str, workers: str, how: str, clip: Path, operators: Path, tmp_path: Path
) -> None:
    summary, files, _ = in_a_row(clip, operators, tmp_path, bad, workers=workers, at=5, how=how, times=99)
    [(reason, count)] = summary.frames.failed.items()
    assert reason.startswith(f"{bad}: ")
    assert (count, summary.frames.delivered) == (1, 11)
    [kept] = (tmp_path / "out" / "quarantine").iterdir()
    assert kept.name == f"uneven-5-{bad}-0.zip"
    frames = {line["frame"]: line for line in map(json.loads, files["detections.jsonl"].splitlines())}
    assert not frames[5].get("events")


@pytest.mark.parametrize("workers", ["thread:2", "process:2"])
def test_a_frame_whose_hiding_failed_within_a_chain_is_written_blank(
    workers: str, clip: Path, operators: Path, tmp_path: Path
) -> None:
    """The two stages around it have nothing to say in that."""
    (tmp_path / "marks").mkdir()
    bad = {"at": 5, "how": "raise", "times": 99, "marks": str(tmp_path / "marks")}
    ops = (
        OpSpec(name="a", type="test/negative@v1", inputs={"frames": ("$source.frames",)}),
        OpSpec(name="b", type="test/cover@v1", inputs={"frames": ("$ops.a.frames",)}, params=bad),
        OpSpec(name="c", type="test/negative@v1", inputs={"frames": ("$ops.b.frames",)}),
    )
    spec = PipelineSpec(name="hide", ops=ops, sinks=(into("video", "$ops.c.frames"),))
    request = RunRequest(
        spec, [str(clip)], output=tmp_path / "out", ops_files=[operators], workers=workers, record_events=True
    )
    summary, files, chains = chained(request)
    assert chains >= 12
    assert summary.frames.failed == {"b: ValueError: cannot stand this one": 1}
    [name] = files
    with av.open(str(tmp_path / "out" / name)) as container:
        pictures = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(pictures) == 12
    assert np.ptp(pictures[5]) <= 2  # one colour
    assert all(np.ptp(picture) > 10 for i, picture in enumerate(pictures) if i != 5)
