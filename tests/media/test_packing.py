"""Pictures as bytes: what comes out of shared memory is what went in, to the bit, in every format."""

import av
import numpy as np
import pytest

from llamapipe.media import AvPicture, BgrPicture, layout_of, pack, unpack


def decoded(width: int, height: int, pixel_format: str, **colours: int) -> av.VideoFrame:
    rng = np.random.default_rng(5)
    bgr = rng.integers(0, 255, (height, width, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(bgr, format="bgr24").reformat(format=pixel_format)
    for name, value in colours.items():
        setattr(frame, name, value)
    return frame


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "gray", "nv12", "bgr24"]
)
@pytest.mark.parametrize("size", [(64, 48), (66, 50), (33, 27), (768, 434)])
@pytest.mark.parametrize("rotation", [0, 90])
def test_a_decoded_picture_comes_back_to_the_bit(pixel_format: str, size: tuple[int, int], rotation: int) -> None:
    picture = AvPicture(decoded(*size, pixel_format, colorspace=1, color_range=1), rotation)
    layout = layout_of(picture)
    buffer = bytearray(layout.num_bytes)
    pack(picture, layout, memoryview(buffer))
    back = unpack(layout, memoryview(buffer))
    assert (back.width, back.height, back.format) == (picture.width, picture.height, picture.format)
    assert np.array_equal(back.bgr(), picture.bgr())


def test_made_pixels_come_back_and_cannot_be_written_to() -> None:
    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    layout = layout_of(BgrPicture(pixels))
    buffer = bytearray(layout.num_bytes)
    pack(BgrPicture(pixels), layout, memoryview(buffer))
    back = unpack(layout, memoryview(buffer)).bgr()
    assert np.array_equal(back, pixels)
    with pytest.raises(ValueError, match="read-only"):
        back[0, 0] = 1


@pytest.mark.parametrize("size", [(384, 216), (300, 200), (101, 77), (32, 18)])
def test_shrinking_before_converting_gives_the_same_picture_but_for_rounding(size: tuple[int, int]) -> None:
    import cv2

    ramp = np.linspace(0, 255, 768)[None, :, None] * np.linspace(0.3, 1, 432)[:, None, None] * np.array([1, 0.8, 0.5])
    smooth = ramp.astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(smooth), format="bgr24").reformat(format="yuv420p")
    picture = AvPicture(frame)
    small = picture.shrunk_bgr(*size)
    assert small is not None
    whole_first = cv2.resize(picture.bgr(), size, interpolation=cv2.INTER_LINEAR)
    assert np.abs(small.astype(int) - whole_first).max() <= 4


def test_what_cannot_be_shrunk_first_is_left_to_the_caller() -> None:
    assert AvPicture(decoded(64, 48, "yuv420p10le")).shrunk_bgr(20, 20) is None
    assert AvPicture(decoded(64, 48, "yuv420p"), 90).shrunk_bgr(20, 20) is None
    assert AvPicture(decoded(64, 48, "yuv420p")).shrunk_bgr(40, 30) is None
