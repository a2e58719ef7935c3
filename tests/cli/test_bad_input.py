"""Input that is broken or odd: what can be read comes out, what cannot is one error, and nothing is left behind."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

import llamapipe
from llamapipe.errors import UsageError
from llamapipe.report import RunSummary
from tests.cli.conftest import Cli, Ended
from tests.media.sources.reading import noise, remuxed


def refused(ended: Ended, code: int, words: str) -> None:
    """One error that says it, at most one hint, and no traceback."""
    assert ended.code == code
    assert ended.out == ""
    assert [line.split(": ")[0] for line in ended.err.splitlines()] in (["error"], ["error", "hint"])
    assert words in ended.err


def encoded(path: Path, width: int, height: int, pixels: str, *, frames: int = 6, codec: str = "libx264") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for i in range(frames):
            picture = np.full((height, width, 3), 40 + 20 * i, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            container.mux(stream.encode(frame.reformat(format=pixels)))
        container.mux(stream.encode())
    return path


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def level(picture: av.VideoFrame) -> float:
    return float(picture.to_ndarray(format="bgr24")[:40, :40].mean())


def summary(out: Path) -> RunSummary:
    return RunSummary.from_json((out / "run.json").read_bytes())


def test_a_missing_file(cli: Cli, plain: Path, tmp_path: Path) -> None:
    refused(cli("run", plain, "-i", tmp_path / "no.mp4", "-o", tmp_path / "out"), 1, "no.mp4 does not exist")
    assert not (tmp_path / "out").exists()


def test_an_empty_file(cli: Cli, plain: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    refused(cli("run", plain, "-i", tmp_path / "empty.mp4", "-o", tmp_path / "out"), 1, "empty.mp4 is empty")
    assert not (tmp_path / "out").exists()


def test_a_text_file_named_mp4(cli: Cli, plain: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello\n" * 100)
    refused(cli("run", plain, "-i", tmp_path / "text.mp4", "-o", tmp_path / "out"), 1, "no video that can be read")
    assert not (tmp_path / "out").exists()


def test_a_file_with_only_audio(cli: Cli, plain: Path, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    refused(cli("run", plain, "-i", tmp_path / "sound.mp4", "-o", tmp_path / "out"), 1, "it has only audio")
    assert not (tmp_path / "out").exists()


def test_a_truncated_mp4_gives_what_is_there_and_tells_of_the_rest(
    cli: Cli, plain: Path, clip: Path, tmp_path: Path
) -> None:
    whole = remuxed(clip, tmp_path / "whole.mp4", lambda _, packet: packet, options={"movflags": "+faststart"})
    data = whole.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 8 // 10])
    ended = cli("run", plain, "-i", tmp_path / "cut.mp4", "-o", tmp_path / "out")
    frames = summary(tmp_path / "out").frames
    assert (ended.code, frames.decoded) == (0, 20)
    assert 0 < frames.delivered < 20
    assert frames.failed["source: truncated"] > 0
    assert frames.delivered + sum(frames.failed.values()) == 20
    assert "failed: source: truncated" in ended.err


def test_corrupt_packets_in_the_middle_are_in_the_ledger_and_the_others_come_through(
    cli: Cli, plain: Path, clip: Path, tmp_path: Path
) -> None:
    bad = remuxed(clip, tmp_path / "bad.mp4", lambda number, packet: noise(packet) if number == 10 else packet)
    ended = cli("run", plain, "-i", bad, "-o", tmp_path / "out", "-q")
    frames = summary(tmp_path / "out").frames
    assert (ended.code, ended.err) == (0, "")
    assert frames.delivered > 0
    assert list(frames.failed) == ["source: corrupt-packet"]
    assert frames.delivered + frames.failed["source: corrupt-packet"] == frames.decoded == 20


@pytest.mark.parametrize(
    ("name", "width", "height", "pixels", "codec", "frames"),
    [
        pytest.param("odd.mkv", 319, 239, "yuv420p", "ffv1", 6, id="odd-width"),
        pytest.param("one.mp4", 64, 48, "yuv420p", "libx264", 1, id="one-frame"),
        pytest.param("gray.mkv", 64, 48, "gray", "ffv1", 6, id="gray"),
        pytest.param("ten.mp4", 64, 48, "yuv420p10le", "libx264", 6, id="10-bit"),
    ],
)
def test_a_video_of_an_odd_kind_comes_through_whole(
    cli: Cli, plain: Path, tmp_path: Path, name: str, width: int, height: int, pixels: str, codec: str, frames: int
) -> None:
    source = encoded(tmp_path / name, width, height, pixels, frames=frames, codec=codec)
    out = tmp_path / "out"
    same = ["--set", f"params.width={width}", "--set", f"resize.height={height}"]
    assert cli("run", plain, "-i", source, "-o", out, "-q", *same) == (0, "", "")
    assert summary(out).frames.delivered == frames
    given, written = decoded(source), decoded(out / "small.mp4")
    assert {picture.format.name for picture in given} == {pixels}
    assert len(written) == frames
    for before, after in zip(given, written, strict=True):
        assert 0 <= after.width - width <= 1  # H.264 wants even sizes
        assert 0 <= after.height - height <= 1
        assert abs(level(before) - level(after)) < 3


def test_broken_yaml(cli: Cli, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("version: 1\nname: [x\n", encoding="utf-8")
    refused(cli("run", path, "-i", clip, "-o", tmp_path / "out"), 2, f"{path}:3:1: broken YAML")
    assert not (tmp_path / "out").exists()


def test_files_that_include_each_other(cli: Cli, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\nname: a\ninclude: [b.yaml]\nops: []\n", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("include: [a.yaml]\n", encoding="utf-8")
    ended = cli("run", tmp_path / "a.yaml", "-i", clip, "-o", tmp_path / "out")
    assert ended.code == 2
    assert f"error: {tmp_path / 'b.yaml'}:1: files include each other in a circle" in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out").exists()


def test_a_model_of_another_sha256(cli: Cli, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "yolox_nano.onnx").write_bytes(b"not what was promised")
    monkeypatch.setenv("LLAMAPIPE_ASSET_MIRROR", str(mirror))
    monkeypatch.setenv("LLAMAPIPE_CACHE", str(tmp_path / "cache"))
    ended = cli("run", "people", "-i", clip, "-o", tmp_path / "out", "--set", "detect.model=yolox-nano")
    refused(ended, 1, "expected sha256 695e750a")
    assert "hint: the file was changed or cut short" in ended.err
    assert not (tmp_path / "out").exists()
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_an_output_folder_below_a_file(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    ended = cli("run", plain, "-i", clip, "-o", tmp_path / "file" / "out")
    refused(ended, 1, "cannot be made")
    assert "hint: name another with -o" in ended.err


def unprivileged() -> None:
    """Of a process that is about to become another: root may write everywhere, unless this is taken from it."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; nobody but root has them to lose


@pytest.mark.parametrize("name", ["", "out", "out/deep"])
def test_an_output_folder_without_permission(plain: Path, clip: Path, tmp_path: Path, name: str) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    command = [sys.executable, "-m", "llamapipe", "run", str(plain), "-i", str(clip), "-o", str(locked / name)]
    ended = subprocess.run(command, capture_output=True, text=True, preexec_fn=unprivileged)
    refused(Ended(ended.returncode, ended.stdout, ended.stderr), 1, "permission denied")


def test_json_says_of_a_run_that_failed_what_failed(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    ended = cli("run", plain, "-i", clip, "-i", tmp_path / "no.mp4", "-o", tmp_path / "out", "-q", "--json")
    assert ended.code == 1
    assert ended.err.startswith("error: source ")


def test_events_need_a_folder(plain: Path, clip: Path) -> None:
    with pytest.raises(UsageError, match="--events needs a folder"):
        next(iter(llamapipe.run(str(plain), clip, record_events=True)))


def test_a_name_that_is_no_text_is_a_name(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    shutil.copy(clip, odd)
    ended = cli("run", plain, "-i", odd, "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert "caf\\udce9.mp4" in (tmp_path / "out" / "run.json").read_text().replace("\\\\", "\\")


def test_a_name_with_a_colon_is_no_address(
    cli: Cli, plain: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(clip, tmp_path / "2026-05-01T12:30:00.mp4")
    monkeypatch.chdir(tmp_path)
    ended = cli("run", plain, "-i", "2026-05-01T12:30:00.mp4", "-o", tmp_path / "out")
    assert ended.code == 0, ended.err


def test_a_pipe_is_not_read_before_its_run(cli: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    ended = cli("tune", "people", "-i", tmp_path / "pipe", "--config", tmp_path / "c.yaml")
    assert ended.code == 2
    assert "expected a video file or a live source to tune on, got a pipe or a device" in ended.err


def test_what_is_set_beside_a_configuration_is_checked(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    assert cli("tune", plain, "-i", clip, "--config", config, "--budget-s", 60).code == 0
    asked = ("run", plain, "-i", clip, "-o", tmp_path / "out", "--config", config, "--set", "resize.sample_fps=5")
    ended = cli(*asked)
    assert ended.code == 2, ended.err
    assert "sample_fps" in ended.err
    assert not (tmp_path / "out").exists()
