"""Pictures in the decoder's own format, converted when somebody asks."""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Planes

if TYPE_CHECKING:
    import av

__all__ = ["AvPicture", "BgrPicture"]

_OF_THREAD = threading.local()
_PLANAR = ("yuv420p", "yuvj420p")
_FULL_RANGE = 2  # as FFmpeg numbers it
_WORTHWHILE = 0.5  # of the size: above, little work is saved, and at edges of colour the order can be seen


class AvPicture:
    """A decoded ``av.VideoFrame``. ``rotation`` (0, 90, 180, 270 degrees clockwise) brings it upright."""

    __slots__ = ("_bgr", "_frame", "_lock", "_rotation", "format", "height", "width")

    def __init__(self, frame: av.VideoFrame, rotation: int = 0) -> None:
        self._frame = frame
        self._rotation = rotation % 360
        self._bgr: NDArray[np.uint8] | None = None
        self._lock = threading.Lock()
        turned = self._rotation in (90, 270)
        self.width: int = frame.height if turned else frame.width
        self.height: int = frame.width if turned else frame.height
        self.format: str = frame.format.name

    @property
    def stored(self) -> av.VideoFrame:
        """The decoder's frame as it is stored, not yet upright."""
        return self._frame

    @property
    def rotation(self) -> int:
        """Degrees clockwise that bring it upright."""
        return self._rotation

    def bgr(self) -> NDArray[np.uint8]:
        """See `llamapipe.data.Native.bgr`. Two threads that ask at once share one conversion."""
        with self._lock:
            if self._bgr is None:
                pixels = _to_bgr(self._frame)
                if self._rotation:
                    pixels = np.ascontiguousarray(np.rot90(pixels, -self._rotation // 90))
                pixels.flags.writeable = False
                self._bgr = pixels
            return self._bgr

    def shrunk_bgr(self, width: int, height: int) -> NDArray[np.uint8] | None:
        """See `llamapipe.data.Native.shrunk_bgr`.

        Bilinear scaling and colour conversion are both linear: planes that are scaled first give the same picture, to
        a level or two, for a fraction of the work.
        """
        shrinks = width <= self.width * _WORTHWHILE and height <= self.height * _WORTHWHILE
        if self._rotation or not shrinks or self.format not in _PLANAR or width < 4 or height < 4:
            return None
        return _shrunk_bgr(self._frame, width, height)

    def frame(self) -> Any:
        """The decoder's frame, or None where it would have to be turned first."""
        return None if self._rotation else self._frame

    def to_draw_on(self) -> tuple[AvPicture, Planes] | None:
        """See `llamapipe.data.Native.to_draw_on`."""
        if self._rotation or self.format not in _PLANAR:
            return None
        import av

        old = self._frame
        new = av.VideoFrame(old.width, old.height, self.format)
        new.colorspace, new.color_range = old.colorspace, old.color_range
        new.color_primaries, new.color_trc = old.color_primaries, old.color_trc
        # Not its times: a sink that is encoding the old one has its own in there for a moment.
        planes = [_samples(plane) for plane in new.planes]
        for plane, target in zip(old.planes, planes, strict=True):
            np.copyto(target, _samples(plane))
        full = self.format == "yuvj420p" or int(old.color_range) == _FULL_RANGE
        return AvPicture(new), Planes(planes[0], planes[1], planes[2], int(old.colorspace), full)

    def scaled(self, width: int, height: int) -> AvPicture:
        """The same, upright in this size."""
        turned = self._rotation in (90, 270)
        stored = (height, width) if turned else (width, height)
        return AvPicture(_converter().reformat(self._frame, *stored, **_one_thread()), self._rotation)


def _to_bgr(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Convert with the frame's own matrix and range. The interpreter lock is free meanwhile.

    Rows that follow each other without a gap are left where FFmpeg has put them.
    """
    converted: Any = _converter().reformat(frame, format="bgr24", **_one_thread())
    plane = converted.planes[0]
    if plane.line_size != 3 * converted.width:
        return np.asarray(converted.to_ndarray(), np.uint8)
    size = 3 * converted.width * converted.height
    return np.frombuffer(plane, np.uint8, size).reshape(converted.height, converted.width, 3)


@cache
def _one_thread() -> dict[str, int]:
    """Cores are planned, and to wake others for a picture takes as long as half of it does.

    PyAV converts in one thread before 17.0, and from then on in as many as there are cores, unless told not to.
    """
    import av

    return {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}


def _converter() -> Any:
    """Each thread keeps its own, which saves setting one up for each picture; two threads cannot share one."""
    from av.video.reformatter import VideoReformatter

    converter = getattr(_OF_THREAD, "converter", None)
    if converter is None:
        converter = _OF_THREAD.converter = VideoReformatter()
    return converter


def _shrunk_bgr(frame: av.VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
    import av
    import cv2

    # 4:2:0 wants an even width, and PyAV four rows at a time: a few are left over at the edge, and cut off again.
    whole_width, whole_height = width + width % 2, -(-height // 4) * 4
    planes = np.empty((whole_height * 3 // 2, whole_width), np.uint8)
    chroma = planes[whole_height:].reshape(2, whole_height // 2, whole_width // 2)
    odd_width, odd_height = (width + 1) // 2, (height + 1) // 2
    planes[height:whole_height] = 0
    chroma[:, odd_height:] = 128
    targets = (planes[:height, :width], chroma[0, :odd_height, :odd_width], chroma[1, :odd_height, :odd_width])
    for plane, target in zip(frame.planes, targets, strict=True):
        target[:] = cv2.resize(_samples(plane), target.shape[::-1], interpolation=cv2.INTER_LINEAR)
    small = av.VideoFrame.from_numpy_buffer(planes, format=frame.format.name)
    small.colorspace, small.color_range = frame.colorspace, frame.color_range
    pixels = _to_bgr(small)
    return pixels[:height, :width]


def _samples(plane: Any) -> NDArray[np.uint8]:
    """A plane as (height, width), where it lies."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


class BgrPicture:
    """Pixels that some operator made: (height, width, 3) uint8, blue first."""

    __slots__ = ("_bgr", "format", "height", "width")

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ValueError(
                f"a picture needs shape (height, width, 3) and dtype uint8, got {pixels.shape} {pixels.dtype}"
            )
        self._bgr = pixels
        self.height, self.width = int(pixels.shape[0]), int(pixels.shape[1])
        self.format = "bgr24"

    def bgr(self) -> NDArray[np.uint8]:
        """The pixels."""
        return self._bgr

    def shrunk_bgr(self, width: int, height: int) -> NDArray[np.uint8] | None:
        """Its pixels are there already: there is nothing to save."""
        return None

    def frame(self) -> Any:
        """There is no decoder's object."""
        return None

    def to_draw_on(self) -> None:
        """There are no planes."""
