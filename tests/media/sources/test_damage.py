"""Damaged files: each lost picture is told in its place, each unreadable file in one line."""

from __future__ import annotations

import os
from pathlib import Path

import av
import pytest

from llamapipe.errors import SourceError
from llamapipe.media import Decoded
from tests.media.sinks.clips import make_clip
from tests.media.sources.reading import lost, noise, opened, read, remuxed, times


def _spoilt(clip: Path, target: Path, numbers: set[int]) -> Path:
    return remuxed(clip, target, lambda number, packet: noise(packet) if number in numbers else packet)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("numbers", [{12}, {11, 12}, {5, 20, 37, 39}])
def test_every_picture_is_decoded_or_told_lost(clip: Path, tmp_path: Path, suffix: str, numbers: set[int]) -> None:
    items = read(_spoilt(clip, tmp_path / f"bad{suffix}", numbers))
    assert len(items) == 40
    assert lost(items)
    assert {reason for _, reason in lost(items)} == {"corrupt-packet"}


def test_lost_pictures_keep_their_place(clip: Path, tmp_path: Path) -> None:
    items = read(_spoilt(clip, tmp_path / "bad.mp4", {11, 12}))
    assert all(item.pts == 512 * item.seq for item in items if isinstance(item, Decoded))


def test_losses_outside_the_part_that_is_read_do_not_count(clip: Path, tmp_path: Path) -> None:
    path = _spoilt(clip, tmp_path / "bad.mkv", {39})
    assert lost(read(path, end_s=1.0)) == []
    assert len(read(path, end_s=1.0)) == 20


def test_a_file_cut_short_tells_of_every_picture_it_promised(clip: Path, tmp_path: Path) -> None:
    whole = remuxed(clip, tmp_path / "whole.mp4", lambda _, p: p, options={"movflags": "+faststart"})
    data = whole.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: len(data) * 6 // 10])
    items = read(path)
    reasons = [reason for _, reason in lost(items)]
    assert len(items) == 40
    assert 5 <= len(times(items)) < 40
    assert reasons[-1] == "truncated"
    assert reasons == sorted(reasons)  # what is there but broken comes first


def test_a_stream_cut_short_without_a_count_just_ends(clip: Path, tmp_path: Path) -> None:
    whole = remuxed(clip, tmp_path / "whole.ts", lambda _, p: p)
    data = whole.read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(data[: len(data) // 2])
    assert 0 < len(times(read(path))) < 40


def _no_index(clip: Path, folder: Path) -> Path:
    path = folder / "no-index.mp4"
    path.write_bytes(clip.read_bytes()[:-1500])
    return path


def _text(clip: Path, folder: Path) -> Path:
    path = folder / "text.mp4"
    path.write_text("no video at all\n" * 50)
    return path


def _empty(clip: Path, folder: Path) -> Path:
    path = folder / "empty.mp4"
    path.touch()
    return path


def _sound(clip: Path, folder: Path) -> Path:
    path = folder / "sound.mka"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=800)
        frame.sample_rate, frame.pts = 8000, 0
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_no_index, "no video that can be read"),
        (_text, "no video that can be read"),
        (_empty, "empty"),
        (_sound, "it has only audio"),
        (lambda clip, folder: folder, "is a folder, expected a video"),
        (lambda clip, folder: folder / "gone.mp4", "does not exist"),
        (lambda clip, folder: clip / "below.mp4", "not a directory"),
    ],
    ids=["no-index", "text", "empty", "audio", "folder", "missing", "below-a-file"],
)
def test_what_is_no_video_is_refused_in_one_line(clip: Path, tmp_path: Path, make: object, words: str) -> None:
    path = make(clip, tmp_path)  # type: ignore[operator]
    with pytest.raises(SourceError, match=words) as caught:
        opened(path)
    assert str(path) in caught.value.message
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "secret.mp4", times=range(3))
    path.chmod(0)
    with pytest.raises(SourceError, match="permission denied"):
        opened(path)
