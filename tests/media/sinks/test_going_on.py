"""An output of a process that is gone is gone on with at its last mark, and comes out as if nothing had been."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest

from llamapipe.errors import OutputError
from llamapipe.media.contract import Sink, SinkItem
from llamapipe.media.sinks.spool import decoding_times
from tests.media.sinks.clips import boxes, delivered, info_of, item, left, make_clip, open_sink

SEGMENT = 7
SELECTOR = "$ops.detect.boxes"


def plain(mark: Any) -> Any:
    """A mark as it comes back from a checkpoint."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(mark))


def written(kind: str, folder: Path, items: Iterable[SinkItem], kills: Iterable[int] = (), **context: Any) -> Path:
    """Write all; at each of ``kills`` the process ends after that frame, and the next goes on at the last mark.

    What a killed process leaves is what lies in the folder: the next gets a copy of it.
    """
    items, kills = list(items), sorted(kills)
    inputs = context.pop("inputs", [SELECTOR])

    def opened(mark: Any) -> Sink:
        more = {"segment_frames": SEGMENT, "keep": folder / ".keep", "mark": mark} | context
        return open_sink(kind, folder, inputs, **more)

    sink, mark, first = opened(None), None, 0
    at = 0
    while at < len(items):
        sink.write(items[at])
        at += 1
        if at % SEGMENT == 0 and context.get("segment_frames", SEGMENT):
            mark, first = plain(sink.mark()), at
        if kills and items[at - 1].seq == kills[0]:
            kills.pop(0)
            folder = left_by(sink, folder)
            sink, at = opened(mark), first
    [path] = sink.close()
    return path


def left_by(sink: Sink, folder: Path) -> Path:
    copy = folder.with_name(folder.name + "-")
    shutil.copytree(folder, copy)
    sink.abort()
    return copy


def finds(count: int = 40) -> list[SinkItem]:
    return [
        item(seq, {SELECTOR: boxes(*[(seq, 1.0, seq + 5.0, 9.0)] * (seq % 4), track=range(seq % 4))})
        for seq in range(count)
    ]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "mot", "coco", "parquet"])
@pytest.mark.parametrize("kills", [[8], [7, 13, 20, 39], [14, 15, 16]])
def test_a_list_that_went_on_is_that_of_one_process_byte_by_byte(kind: str, kills: list[int], tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    whole = written(kind, tmp_path / "a", finds())
    ordinary = written(kind, tmp_path / "c", finds(), keep=None, segment_frames=0)
    again = written(kind, tmp_path / "b", finds(), kills)
    assert again.read_bytes() == whole.read_bytes() == ordinary.read_bytes()


def test_a_list_goes_on_though_it_had_its_final_name_already(tmp_path: Path) -> None:
    sink = open_sink("jsonl", tmp_path, [SELECTOR])
    for one in finds(10):
        sink.write(one)
    mark = plain(sink.mark())
    for one in finds(20)[10:]:
        sink.write(one)
    [path] = sink.close()
    whole = path.read_bytes()
    sink = open_sink("jsonl", tmp_path, [SELECTOR], mark=mark)
    assert left(tmp_path) == [".detections.jsonl.partial"]
    for one in finds(20)[10:]:
        sink.write(one)
    assert sink.close()[0].read_bytes() == whole


@pytest.mark.parametrize("damage", [b"", b"something else that is long enough" * 100])
def test_a_list_that_is_not_the_one_that_was_left_is_refused(damage: bytes, tmp_path: Path) -> None:
    sink = open_sink("jsonl", tmp_path, [SELECTOR])
    for one in finds(10):
        sink.write(one)
    mark = plain(sink.mark())
    sink.abort()
    (tmp_path / ".detections.jsonl.partial").write_bytes(damage)
    with pytest.raises(OutputError, match="cannot go on with"):
        open_sink("jsonl", tmp_path, [SELECTOR], mark=mark)


def test_pictures_after_the_mark_are_written_again(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", times=range(20), size=(64, 48))
    source = {"inputs": ["$source.frames"], "info": info_of(clip)}
    whole = written("frames", tmp_path / "a", delivered(clip), **source)
    again = written("frames", tmp_path / "b", delivered(clip), [10, 15], **source)
    assert left(whole) == left(again) == [f"{i:06d}.jpg" for i in range(20)]
    assert all((whole / name).read_bytes() == (again / name).read_bytes() for name in left(whole))


UNEVEN = [0, 40, 50, 130, 170, 171, 300, 420, 430, 600, 601, 700, 1500, 1540, 1550, 1560, 2000, 2001, 2002, 2100, 2900]


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
@pytest.mark.parametrize("times", [list(range(0, 1640, 40)), UNEVEN])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("audio", [None, "aac", "pcm_s16le"])
def test_a_video_of_segments_plays_as_one_of_a_piece(
    name: str, times: list[int], codec: str, audio: str | None, tmp_path: Path
) -> None:
    clip = make_clip(
        tmp_path / "clip.mkv", times=times, time_base=Fraction(1, 1000), size=(96, 64), audio=audio, rate=25
    )
    source = {"inputs": ["$source.frames"], "info": info_of(clip), "source_uri": str(clip), "path": name}
    source["params"] = {"codec": codec}
    piece = written("video", tmp_path / "a", delivered(clip), segment_frames=0, keep=None, **source)
    whole = written("video", tmp_path / "b", delivered(clip), **source)
    again = written("video", tmp_path / "c", delivered(clip), [9, 10, 17], **source)
    if name.endswith("mp4"):  # Matroska has a random number in every file
        assert again.read_bytes() == whole.read_bytes()
    assert packets(again) == packets(whole)
    assert pictures(whole)[0] == pictures(piece)[0]
    assert length_s(whole) == length_s(piece)
    assert sound(whole) == sound(piece)
    # 8 bits of an encoder's choice: what it makes of a picture hangs on what came before.
    worst = max(np.abs(a - b).mean() for a, b in zip(pictures(whole)[1], pictures(piece)[1], strict=True))
    assert worst < 6


def test_a_blanked_beginning_goes_on_blanked(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", times=range(20), size=(64, 48))
    from dataclasses import replace

    from llamapipe.media.contract import Outcome

    items = [
        replace(one, outcome=Outcome.FAILED, values={}, stage="blur", reason="no")
        if one.seq < 9 or one.seq in (14, 15)
        else one
        for one in delivered(clip)
    ]
    source = {"inputs": ["$source.frames"], "info": info_of(clip), "hides": True}
    piece = written("video", tmp_path / "a", items, segment_frames=0, keep=None, **source)
    whole = written("video", tmp_path / "b", items, **source)
    again = written("video", tmp_path / "c", items, [8, 16], **source)
    assert again.read_bytes() == whole.read_bytes()
    assert pictures(whole)[0] == pictures(piece)[0]
    assert [picture.mean() < 30 for picture in pictures(again)[1]] == [i < 9 or i in (14, 15) for i in range(20)]


def test_decoding_times_grow_and_are_never_later_than_presentation() -> None:
    pts = np.array([0, 4, 2, 1, 3, 5, 9, 7, 6, 8, 100, 104, 102, 101], np.int64)
    dts = decoding_times(pts)
    assert (np.diff(dts) > 0).all()
    assert (dts <= pts).all()


def pictures(path: Path) -> tuple[list[Fraction], list[Any]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = [frame.pts * Fraction(frame.time_base) for frame in frames]
    return times, [frame.to_ndarray(format="gray").astype(int) for frame in frames]


def packets(path: Path) -> list[tuple[int, Any, Any, bool, int]]:
    with av.open(str(path)) as container:
        found = [p for p in container.demux() if p.size]
        return [(p.stream_index, p.pts, p.dts, p.is_keyframe, zlib.crc32(bytes(p))) for p in found]


def length_s(path: Path) -> tuple[Any, Any]:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        return container.duration, video.duration


def sound(path: Path) -> list[tuple[Any, int]]:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        return [(p.pts, zlib.crc32(bytes(p))) for p in container.demux(audio=0) if p.size]
