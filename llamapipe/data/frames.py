"""Pictures, and the references that stand for them on the wire."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from llamapipe.data.planes import Planes

__all__ = ["FrameRef", "Image", "Native", "Placement"]


class Placement(msgspec.Struct, frozen=True, array_like=True):
    """Where a picture's pixels lie in its source: ``x_source = x * scale_x + offset_x``."""

    scale_x: float = 1.0
    scale_y: float = 1.0
    offset_x: float = 0.0
    offset_y: float = 0.0

    @property
    def is_identity(self) -> bool:
        """Whether the picture's pixels are the source's."""
        return self.scale_x == 1.0 and self.scale_y == 1.0 and self.offset_x == 0.0 and self.offset_y == 0.0

    def to_source(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map boxes (n, 4) from this picture's pixels to source pixels."""
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float32)
        offset = np.array([self.offset_x, self.offset_y] * 2, np.float32)
        return (xyxy * scale + offset).astype(np.float32, copy=False)

    def from_source(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map boxes (n, 4) from source pixels to this picture's pixels."""
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float32)
        offset = np.array([self.offset_x, self.offset_y] * 2, np.float32)
        return ((xyxy - offset) / scale).astype(np.float32, copy=False)


class FrameRef(msgspec.Struct, frozen=True, array_like=True):
    """Stands for a picture in a frame arena. Pixels never travel; this does.

    ``region`` (x1, y1, x2, y2 in the slot's pixels) makes it a crop: a part of the slot, not a copy.
    ``generation`` is that of the slot when it was published; a slot of another generation is not this frame.
    """

    arena: int
    slot: int
    generation: int
    width: int  # of the region, pixels
    height: int
    format: str  # pixel format as FFmpeg names it: "yuv420p", "bgr24"
    stream: str
    seq: int
    pts: int  # in units of time_base
    time_base: tuple[int, int]  # seconds = pts * num / den
    captured_at_s: float
    region: tuple[int, int, int, int] | None = None
    placement: Placement = Placement()

    @property
    def pts_s(self) -> float:
        """Presentation time in seconds."""
        return self.pts * self.time_base[0] / self.time_base[1]


class Native(Protocol):
    """A picture in the decoder's own format, converted only when somebody asks."""

    @property
    def width(self) -> int:
        """Pixels across."""
        ...

    @property
    def height(self) -> int:
        """Pixels down."""
        ...

    @property
    def format(self) -> str:
        """Pixel format as FFmpeg names it."""
        ...

    def bgr(self) -> NDArray[np.uint8]:
        """The picture as (height, width, 3) uint8, blue first; converted once and kept. Do not write to it."""
        ...

    def shrunk_bgr(self, width: int, height: int) -> NDArray[np.uint8] | None:
        """The picture shrunk to (height, width, 3) uint8, blue first, without converting all of it; None where the

        whole has to be converted first. The answer depends on format and sizes alone.
        """
        ...

    def frame(self) -> Any:
        """The decoder's object (an ``av.VideoFrame``), or None where there is none."""
        ...

    def to_draw_on(self) -> tuple[Native, Planes] | None:
        """A copy in the same format with the planes of it, which may be written to until somebody else has seen the

        copy; None where the format is another than upright 8-bit 4:2:0.
        """
        ...


class Image:
    """One picture as an operator sees it.

    ``bgr`` is (height, width, 3) uint8, blue first, and shared: copy before you write (`replaced` and
    `resized` make a new picture of your pixels). ``placement`` maps its pixels to the source's; the runtime
    uses it to bring boxes back to source coordinates, so operators only ever see their picture's own pixels.
    """

    __slots__ = ("_bgr", "_region", "height", "native", "placement", "pts_s", "ref", "seq", "stream", "width")

    def __init__(
        self,
        *,
        width: int,
        height: int,
        bgr: NDArray[np.uint8] | None = None,
        native: Native | None = None,
        region: tuple[int, int, int, int] | None = None,
        placement: Placement | None = None,
        stream: str = "",
        seq: int = 0,
        pts_s: float = 0.0,
        ref: FrameRef | None = None,
    ) -> None:
        if bgr is None and native is None:
            raise ValueError("an Image needs pixels: give bgr or native")
        self._bgr = bgr
        self._region = region
        self.native = native  # whole decoded picture behind this one; None once pixels were replaced
        self.width = width
        self.height = height
        self.placement = placement if placement is not None else Placement()
        self.stream = stream
        self.seq = seq
        self.pts_s = pts_s
        self.ref = ref  # where the pixels live, None for a picture that is not in an arena yet

    @classmethod
    def from_bgr(cls, bgr: NDArray[np.uint8], *, stream: str = "", seq: int = 0, pts_s: float = 0.0) -> Image:
        """A picture from an array (height, width, 3) uint8, blue first."""
        return cls(width=bgr.shape[1], height=bgr.shape[0], bgr=bgr, stream=stream, seq=seq, pts_s=pts_s)

    @property
    def bgr(self) -> NDArray[np.uint8]:
        """Pixels (height, width, 3) uint8, blue first; may be a strided view. Read only by contract."""
        if self._bgr is None:
            assert self.native is not None
            whole = self.native.bgr()
            if self._region is not None:
                x1, y1, x2, y2 = self._region
                whole = whole[y1:y2, x1:x2]
            self._bgr = whole
        return self._bgr

    def bgr_at(self, width: int, height: int) -> NDArray[np.uint8]:
        """Pixels scaled to (height, width, 3) uint8, blue first, bilinearly; a shared array, read only by contract."""
        if (width, height) == (self.width, self.height):
            return self.bgr
        if self.native is not None and self._region is None:
            small = self.native.shrunk_bgr(width, height)
            if small is not None:
                return small
        import cv2

        resized = cv2.resize(self.bgr, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, np.uint8)

    @property
    def region(self) -> tuple[int, int, int, int] | None:
        """Part of the arena slot that this picture is (x1, y1, x2, y2), or None for all of it."""
        return self._region

    def crop(self, x1: int, y1: int, x2: int, y2: int) -> Image:
        """A view of the pixels [y1:y2, x1:x2], clipped to the picture; nothing is copied.

        Raises ValueError where nothing would be left.
        """
        x1, y1 = max(0, int(x1)), max(0, int(y1))
        x2, y2 = min(self.width, int(x2)), min(self.height, int(y2))
        if x2 <= x1 or y2 <= y1:
            raise ValueError(f"empty crop {(x1, y1, x2, y2)} of a {self.width}x{self.height} picture")
        base_x, base_y = (self._region[0], self._region[1]) if self._region is not None else (0, 0)
        place = self.placement
        return Image(
            width=x2 - x1,
            height=y2 - y1,
            bgr=None if self.native is not None else self.bgr[y1:y2, x1:x2],
            native=self.native,
            region=(base_x + x1, base_y + y1, base_x + x2, base_y + y2),
            placement=Placement(
                place.scale_x,
                place.scale_y,
                place.offset_x + x1 * place.scale_x,
                place.offset_y + y1 * place.scale_y,
            ),
            stream=self.stream,
            seq=self.seq,
            pts_s=self.pts_s,
            ref=self.ref,
        )

    def replaced(self, bgr: NDArray[np.uint8]) -> Image:
        """The same place in the source with new pixels; ``bgr`` must have this picture's size."""
        if bgr.shape[:2] != (self.height, self.width):
            raise ValueError(
                f"replaced() wants {self.height}x{self.width} pixels, got {bgr.shape[0]}x{bgr.shape[1]}; "
                "use resized() for another size"
            )
        return self.resized(bgr)

    def resized(self, bgr: NDArray[np.uint8]) -> Image:
        """The same place in the source, seen at the size of ``bgr``."""
        if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8:
            raise ValueError(f"pixels must be (height, width, 3) uint8, got {bgr.shape} {bgr.dtype}")
        height, width = bgr.shape[:2]
        place = self.placement
        return Image(
            width=width,
            height=height,
            bgr=bgr,
            placement=Placement(
                place.scale_x * self.width / width,
                place.scale_y * self.height / height,
                place.offset_x,
                place.offset_y,
            ),
            stream=self.stream,
            seq=self.seq,
            pts_s=self.pts_s,
        )

    def kept(self) -> Image:
        """The same picture with pixels of its own, to be kept after the call that it was given for."""
        return Image(
            width=self.width,
            height=self.height,
            bgr=self.bgr.copy(),
            placement=self.placement,
            stream=self.stream,
            seq=self.seq,
            pts_s=self.pts_s,
        )

    def to_draw_on(self) -> tuple[Image, Planes] | None:
        """A copy of the picture in the decoder's own format, with its planes to draw on before it is given away.

        None where there are no such planes: draw into a copy of ``bgr`` instead. Drawing on planes saves two
        conversions of the whole picture where it is written to a video next.
        """
        if self.native is None or self._region is not None:
            return None
        if (self.native.width, self.native.height) != (self.width, self.height):
            return None
        copy = self.native.to_draw_on()
        return None if copy is None else (self.with_native(copy[0]), copy[1])

    def with_native(self, native: Native) -> Image:
        """The same place in the source with a new picture of the same size in the decoder's own format."""
        return Image(
            width=self.width,
            height=self.height,
            native=native,
            placement=self.placement,
            stream=self.stream,
            seq=self.seq,
            pts_s=self.pts_s,
        )
