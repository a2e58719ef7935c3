"""Pictures: any pixel format, right colours, upright, converted once."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import numpy as np
import pytest

from llamapipe.media import AvPicture, BgrPicture, Decoded
from tests.media.sinks.clips import frames_of, make_clip, picture
from tests.media.sources.reading import opened


def _first(path: Path) -> AvPicture:
    item = next(iter(opened(path)))
    assert isinstance(item, Decoded)
    assert isinstance(item.picture, AvPicture)
    return item.picture


@pytest.mark.parametrize(
    ("pixel_format", "codec", "size", "colours"),
    [
        ("yuv420p", "libx264", (320, 240), (6, 1)),
        ("yuv420p", "libx264", (320, 240), (1, 1)),
        ("yuvj420p", "libx264", (320, 240), (6, 2)),
        ("yuv422p", "libx264", (320, 240), (6, 1)),
        ("yuv444p", "libx264", (321, 241), (1, 1)),
        ("yuv420p10le", "libx264", (320, 240), (6, 1)),
        ("yuv420p", "ffv1", (321, 241), (6, 1)),
        ("yuvj420p", "mjpeg", (321, 241), (6, 2)),
    ],
)
def test_colours_survive(
    tmp_path: Path, pixel_format: str, codec: str, size: tuple[int, int], colours: tuple[int, int]
) -> None:
    path = make_clip(
        tmp_path / "clip.mkv",
        times=range(3),
        pixel_format=pixel_format,
        codec=codec,
        size=size,
        colours=colours,
        lossless=True,
    )
    shot = _first(path)
    assert (shot.width, shot.height, shot.format) == (*size, pixel_format)
    assert shot.bgr().shape == (size[1], size[0], 3)
    assert np.abs(shot.bgr().astype(int) - picture(0, *size)).mean() < 3


def test_grey_stays_grey(tmp_path: Path) -> None:
    shot = _first(make_clip(tmp_path / "grey.mkv", times=range(2), pixel_format="gray", codec="ffv1"))
    pixels = shot.bgr()
    assert shot.format == "gray"
    assert np.ptp(pixels.astype(int), axis=2).max() <= 1
    assert np.ptp(pixels) > 50


def test_pixels_are_converted_once_for_all_threads_and_read_only(clip: Path) -> None:
    shot = _first(clip)
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(id(shot.bgr()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 1
    with pytest.raises(ValueError, match="read-only"):
        shot.bgr()[0, 0, 0] = 1


def test_a_converter_kept_for_frames_of_other_kinds_gives_what_a_new_one_gives(tmp_path: Path) -> None:
    for index, (size, colours) in enumerate([((320, 240), (6, 1)), ((160, 120), (1, 1)), ((320, 240), (1, 2))]):
        path = make_clip(tmp_path / f"{index}.mkv", times=range(2), size=size, colours=colours)
        for frame in frames_of(path):
            np.testing.assert_array_equal(AvPicture(frame).bgr(), frame.to_ndarray(format="bgr24"))


_QUARTERS = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def _turned(clip: Path, target: Path, degrees: int) -> Path:
    """The clip, told in its track header to be shown turned clockwise."""
    data = bytearray(clip.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    a, b, c, d = (value * 65536 for value in _QUARTERS[degrees])
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_turned_recordings_come_upright(clip: Path, tmp_path: Path, degrees: int) -> None:
    path = _turned(clip, tmp_path / "turned.mp4", degrees)
    info = opened(path).info
    shot = _first(path)
    plain = _first(clip).bgr()
    assert info.rotation == degrees
    assert (info.width, info.height) == (shot.width, shot.height) == shot.bgr().shape[1::-1]
    np.testing.assert_array_equal(shot.bgr(), np.rot90(plain, -degrees // 90))
    assert (shot.frame() is None) == (degrees != 0)


def test_arrays_of_another_shape_or_type_are_no_picture() -> None:
    assert BgrPicture(np.zeros((4, 6, 3), np.uint8)).width == 6
    for wrong in (np.zeros((4, 6), np.uint8), np.zeros((4, 6, 4), np.uint8), np.zeros((4, 6, 3), np.float32)):
        with pytest.raises(ValueError, match="a picture needs shape"):
            BgrPicture(wrong)  # type: ignore[arg-type]
