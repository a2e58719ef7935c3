"""Pictures as plain bytes, for memory that several processes share.

A picture is stored as the decoder gave it, plane after plane, each row as long as FFmpeg wants it, with its colours
and its rotation beside it, so that the other side converts it to the very same pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Native
from llamapipe.media.pictures import AvPicture, BgrPicture

if TYPE_CHECKING:
    import av

__all__ = ["PictureLayout", "layout_of", "pack", "renewed", "unpack"]

_PLANAR = ("yuv420p", "yuvj420p")  # that FFmpeg can be shown where they lie, without a copy


class PictureLayout(msgspec.Struct, frozen=True, array_like=True):
    """How a picture lies in its bytes."""

    format: str  # as FFmpeg names it
    width: int  # pixels, as stored
    height: int
    planes: tuple[tuple[int, int], ...]  # (bytes a row, rows)
    rotation: int = 0  # degrees clockwise that bring it upright
    colours: tuple[int, int, int, int] = (2, 0, 2, 2)  # matrix, range, primaries, transfer as FFmpeg numbers them

    @property
    def num_bytes(self) -> int:
        """Bytes of all planes."""
        return sum(row * rows for row, rows in self.planes)


def layout_of(picture: Native) -> PictureLayout:
    """How `pack` would store the picture."""
    if _as_pixels(picture):
        return PictureLayout("bgr24", picture.width, picture.height, ((picture.width * 3, picture.height),))
    assert isinstance(picture, AvPicture)
    frame = picture.stored
    width, height, name = frame.width, frame.height, frame.format.name
    if _lies_in_place(name, width, height):
        planes: tuple[tuple[int, int], ...] = ((width, height), (width // 2, height // 2), (width // 2, height // 2))
    else:
        planes = tuple((plane.line_size, plane.buffer_size // plane.line_size) for plane in frame.planes)
    colours = (int(frame.colorspace), int(frame.color_range), int(frame.color_primaries), int(frame.color_trc))
    return PictureLayout(name, width, height, planes, picture.rotation, colours)


def _as_pixels(picture: Native) -> bool:
    """Whether its pixels are stored, upright: where it is no decoder's, or is blue, green and red as it is."""
    return not isinstance(picture, AvPicture) or picture.stored.format.name == "bgr24"


def pack(picture: Native, layout: PictureLayout, buffer: memoryview) -> None:
    """Copy the picture's planes into ``buffer``, which holds ``layout.num_bytes`` at least."""
    if _as_pixels(picture):
        target = np.frombuffer(buffer, np.uint8, layout.num_bytes).reshape(picture.height, picture.width, 3)
        np.copyto(target, picture.bgr())
        return
    assert isinstance(picture, AvPicture)
    offset = 0
    for plane, (row, rows) in zip(picture.stored.planes, layout.planes, strict=True):
        target = np.frombuffer(buffer, np.uint8, row * rows, offset)
        if plane.line_size == row:  # nothing between the rows: one piece
            target[:] = np.frombuffer(plane, np.uint8, row * rows)
        else:
            source = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:rows, :row]
            np.copyto(target.reshape(rows, row), source)
        offset += row * rows


def unpack(layout: PictureLayout, buffer: memoryview) -> Native:
    """The picture in ``buffer``, in place where FFmpeg can be shown it; it must stay as it is while in use."""
    stored = np.frombuffer(buffer, np.uint8, layout.num_bytes)
    if layout.format == "bgr24" and not layout.rotation:
        pixels = stored.reshape(layout.height, layout.width, 3)
        pixels.flags.writeable = False
        return BgrPicture(pixels)
    return AvPicture(_frame(layout, stored), layout.rotation)


def renewed(picture: Native) -> Native | None:
    """For a buffer that another picture of the same layout has been packed into since: what `unpack` would give now.

    To show FFmpeg where a picture lies takes longer than all else that is done to look at one. None where it was not
    shown that, but pixels were copied.
    """
    if not isinstance(picture, AvPicture):
        return None
    frame = picture.stored
    return AvPicture(frame, picture.rotation) if _lies_in_place(frame.format.name, frame.width, frame.height) else None


def _lies_in_place(name: str, width: int, height: int) -> bool:
    return name in _PLANAR and width % 2 == 0 and height % 4 == 0


def _frame(layout: PictureLayout, stored: NDArray[np.uint8]) -> av.VideoFrame:
    import av

    if _lies_in_place(layout.format, layout.width, layout.height):  # PyAV takes four rows at a time
        frame = av.VideoFrame.from_numpy_buffer(stored.reshape(-1, layout.width), format=layout.format)
    else:
        frame = av.VideoFrame(layout.width, layout.height, layout.format)
        offset = 0
        for plane, (row, rows) in zip(frame.planes, layout.planes, strict=True):
            target = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            shared_rows, shared_row = min(rows, target.shape[0]), min(row, plane.line_size)
            source = stored[offset : offset + row * rows].reshape(rows, row)
            np.copyto(target[:shared_rows, :shared_row], source[:shared_rows, :shared_row])
            offset += row * rows
    frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = layout.colours
    return frame
