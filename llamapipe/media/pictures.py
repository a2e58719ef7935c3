"""Pictures in the decoder's own format, converted when somebody asks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

__all__ = ["AvPicture", "BgrPicture"]

_OF_THREAD = threading.local()


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

    def frame(self) -> Any:
        """The decoder's frame, or None where it would have to be turned first."""
        return None if self._rotation else self._frame

    def scaled(self, width: int, height: int) -> AvPicture:
        """The same, upright in this size."""
        turned = self._rotation in (90, 270)
        stored = (height, width) if turned else (width, height)
        return AvPicture(_converter().reformat(self._frame, *stored), self._rotation)


def _to_bgr(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Convert with the frame's own matrix and range. The interpreter lock is free meanwhile."""
    pixels: Any = _converter().reformat(frame, format="bgr24").to_ndarray()
    return np.asarray(pixels, np.uint8)


def _converter() -> Any:
    """Each thread keeps its own, which saves setting one up for each picture; two threads cannot share one."""
    from av.video.reformatter import VideoReformatter

    converter = getattr(_OF_THREAD, "converter", None)
    if converter is None:
        converter = _OF_THREAD.converter = VideoReformatter()
    return converter


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

    def frame(self) -> Any:
        """There is no decoder's object."""
        return None
