"""Outputs appear when complete, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llamapipe.errors import OutputError
from llamapipe.media.contract import Outcome
from llamapipe.media.sinks.files import PendingFile, writing
from tests.media.sinks.clips import boxes, item, left, open_sink

BOXES = "$ops.detect.boxes"
FILE_SINKS = ["jsonl", "csv", "parquet", "mot", "coco"]


@pytest.mark.parametrize("kind", [*FILE_SINKS, "frames"])
def test_only_a_hidden_name_until_close(kind: str, tmp_path: Path) -> None:
    sink = open_sink(kind, tmp_path / "new" / "folder", [BOXES])
    sink.write(item(values={BOXES: boxes((1, 2, 3, 4))}))
    assert all(name.startswith(".") for name in left(tmp_path / "new" / "folder"))
    (path,) = sink.close()
    assert left(tmp_path / "new" / "folder") == [path.name]


@pytest.mark.parametrize("kind", [*FILE_SINKS, "frames", "video"])
def test_abort_leaves_nothing(kind: str, tmp_path: Path) -> None:
    sink = open_sink(kind, tmp_path, [BOXES])
    sink.write(item(values={BOXES: boxes((1, 2, 3, 4))}))
    sink.abort()
    sink.abort()
    assert left(tmp_path) == []


@pytest.mark.parametrize("kind", FILE_SINKS)
def test_an_output_that_is_there_is_kept_without_force(kind: str, tmp_path: Path) -> None:
    (path,) = open_sink(kind, tmp_path, [BOXES]).close()
    path.write_text("precious")
    with pytest.raises(OutputError, match=r"already there.*--force"):
        open_sink(kind, tmp_path, [BOXES])
    sink = open_sink(kind, tmp_path, [BOXES], force=True)
    assert path.read_text() == "precious"
    sink.close()
    assert path.read_bytes() != b"precious"
    assert left(tmp_path) == [path.name]


def test_a_folder_of_frames_is_replaced_only_with_force(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "000007.jpg").touch()
    with pytest.raises(OutputError, match="already there"):
        open_sink("frames", tmp_path, [BOXES])
    open_sink("frames", tmp_path, [BOXES], force=True).close()
    assert left(tmp_path) == ["frames"]
    assert left(tmp_path / "frames") == []


def test_a_folder_with_anything_else_in_it_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "thesis.txt").touch()
    with pytest.raises(OutputError, match=r"holds thesis\.txt"):
        open_sink("frames", tmp_path, [BOXES], force=True)
    assert left(tmp_path) == ["frames"]
    assert left(tmp_path / "frames") == ["thesis.txt"]


def test_after_an_error_nothing_is_finished(tmp_path: Path) -> None:
    sink = open_sink("csv", tmp_path, [BOXES])
    with pytest.raises(IndexError):
        sink.write(item(values={BOXES: boxes((1, 2, 3, 4), label=[5])}))
    with pytest.raises(IndexError):
        sink.close()
    sink.abort()
    assert left(tmp_path) == []


def test_two_sinks_cannot_share_a_name(tmp_path: Path) -> None:
    first = open_sink("csv", tmp_path, [BOXES], path="x.txt")
    with pytest.raises(OutputError, match="being written by another"):
        open_sink("mot", tmp_path, [BOXES], path="x.txt")
    first.close()
    assert (tmp_path / "x.txt").read_text().startswith("stream,")


def test_what_a_killed_run_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".mot.txt.partial").write_text("half a li")
    sink = open_sink("mot", tmp_path, [BOXES])
    sink.close()
    assert (tmp_path / "mot.txt").read_text() == ""
    assert left(tmp_path) == ["mot.txt"]


def test_a_path_may_be_absolute_or_deeper(tmp_path: Path) -> None:
    (path,) = open_sink("csv", None, [BOXES], path=str(tmp_path / "a" / "b.csv")).close()
    assert path == tmp_path / "a" / "b.csv"
    (path,) = open_sink("csv", tmp_path, [BOXES], path="c/d.csv").close()
    assert path == tmp_path / "c" / "d.csv"


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(
        OutputError, match=r"cannot write .*detections\.csv: (a part of the path is a file|File exists)"
    ):
        open_sink("csv", tmp_path / "out", [BOXES])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match=r"detections\.csv: permission denied"):
        open_sink("csv", tmp_path, [BOXES])


def test_a_full_disk_is_named() -> None:
    with pytest.raises(OutputError, match=r"cannot write x\.csv: the disk is full"), writing(Path("x.csv")):
        os.write(os.open("/dev/full", os.O_WRONLY), b"x")


def test_a_lost_hidden_file_is_an_error_not_silence(tmp_path: Path) -> None:
    pending = PendingFile(tmp_path / "x")
    pending.partial.unlink()
    with pytest.raises(OutputError):
        pending.commit()


_LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from llamapipe.data import Image
from llamapipe.errors import OutputError
from tests.media.sinks.clips import boxes, item, left, open_sink
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
kind, folder = sys.argv[1], Path(sys.argv[2])
noise = np.random.default_rng(0)
sink = open_sink(kind, folder, ["$ops.a.b"])
try:
    for seq in range(60):
        image = Image.from_bgr(noise.integers(0, 255, (240, 320, 3), np.uint8))
        value = image if kind in ("video", "frames") else boxes(*noise.random((100, 4)))
        sink.write(item(seq, {"$ops.a.b": value}))
    sink.close()
except OutputError as error:
    print(error)
    sink.abort()
assert left(folder) == [], left(folder)
"""


@pytest.mark.parametrize("kind", [*FILE_SINKS, "frames", "video"])
def test_a_write_that_fails_midway_names_the_file_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    code = [sys.executable, "-c", _LIMITED, kind, str(tmp_path)]
    done = subprocess.run(code, capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == 0, done.stderr
    assert f"cannot write {tmp_path}" in done.stdout
    assert "larger than allowed" in done.stdout


def test_frames_that_were_not_delivered_write_no_rows(tmp_path: Path) -> None:
    for kind in ("csv", "mot"):
        sink = open_sink(kind, tmp_path, [BOXES])
        for seq, outcome in enumerate((Outcome.FAILED, Outcome.FILTERED, Outcome.DROPPED, Outcome.CANCELLED)):
            sink.write(item(seq, outcome=outcome))
        (path,) = sink.close()
        assert len(path.read_text().splitlines()) == (1 if kind == "csv" else 0)
