"""Encodes pictures into a video stream of an open container, with as little conversion as can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from llamapipe.data import Image

__all__ = ["Colours", "Look", "PictureEncoder"]

# Numbers of ITU-T H.273, as FFmpeg uses them.
_UNSPECIFIED = 2
_BT470BG, _SMPTE170M = 5, 6  # two names of the BT.601 matrix
_LIMITED, _FULL = 1, 2
_SWS = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # matrix -> swscale's number of it; anything else is taken for BT.601

# x264's ultrafast with the tools that pay for themselves. On surveillance clips (432p, 480p) it takes 1.3 to 1.5 ms
# of processor time a picture, as ultrafast does, where superfast takes 1.9 to 3.1 and veryfast 2.7 to 5.4. Its files
# are 0.55 of ultrafast's size and 1.2 to 2.2 times veryfast's, at 1 to 2 dB more PSNR than the latter.
_QUICK = {"preset": "ultrafast", "x264-params": "cabac=1:deblock=0,0:8x8dct=1:bframes=3:b-adapt=0"}
_CODECS = {"h264": "libx264", "hevc": "libx265"}

# Without these, swscale cuts fractions off, and pictures come out darker by two levels.
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


@dataclass(frozen=True, slots=True)
class Colours:
    """How a stream's numbers stand for colours."""

    matrix: int
    range: int
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Colours:
        """Those of a decoded picture, or of the decoder itself.

        Unspecified stays so, and means BT.601 and limited range here, as it does to swscale.
        """
        full = frame.format is not None and frame.format.name.startswith("yuvj")
        range = _FULL if full else int(frame.color_range)
        return cls(int(frame.colorspace), range, int(frame.color_primaries), int(frame.color_trc))

    @classmethod
    def redrawn(cls, source: Colours | None) -> Colours:
        """Those for pictures with new pixels: BT.601 and limited range, which converts fastest.

        A source without marks meant these numbers already, so that its pictures stay without, whichever is first.
        """
        if source is None:
            return cls(_SMPTE170M, _LIMITED)
        if source.matrix == _UNSPECIFIED and source.is_bt601:
            return source
        return cls(_SMPTE170M, _LIMITED, source.primaries, source.transfer)

    @property
    def is_full(self) -> bool:
        """Whether black is 0 and white 255."""
        return self.range == _FULL

    @property
    def swscale_range(self) -> int:
        """The range as swscale must be told."""
        return _FULL if self.is_full else _LIMITED

    @property
    def swscale(self) -> int:
        """The matrix as swscale counts."""
        return _SWS.get(self.matrix, 5)

    @property
    def is_bt601(self) -> bool:
        """Whether OpenCV's conversion makes these colours."""
        return self.swscale == 5 and not self.is_full

    def same_numbers(self, other: Colours) -> bool:
        """Whether pictures of both need no conversion between them."""
        return self.swscale == other.swscale and self.is_full == other.is_full


@dataclass(frozen=True, slots=True)
class Look:
    """Size and colours of a stream's pictures."""

    width: int
    height: int
    colours: Colours
    format: str  # yuv420p, or yuvj420p for the pictures of JPEGs

    @classmethod
    def of(cls, first: Image, source: Colours | None) -> Look:
        """Those of the first picture. ``source`` is how the source is marked, for one that does not say."""
        native = _native(first)
        # New pixels still are in the source's primaries and transfer; only their matrix is ours to choose.
        colours = Colours.of(native) if native is not None else Colours.redrawn(source)
        if native is not None and native.format.is_rgb:  # there is no matrix in it, and ours is to be named
            colours = Colours.redrawn(colours)
        is_jpeg = native is not None and native.format.name == "yuvj420p"
        return cls(first.width, first.height, colours, "yuvj420p" if is_jpeg else "yuv420p")


class PictureEncoder:
    """Feeds one encoder.

    A picture that still is the decoder's own YUV goes in as it is; one with new pixels is converted once. Odd
    sizes, which the codec refuses, grow by one column or row that repeats the last. A picture of another size
    is scaled to that of ``look``. Without a container, packets are fit for any that keeps parameters in its header.
    """

    def __init__(
        self,
        container: Any | None,
        look: Look,
        params: Mapping[str, Any],
        *,
        time_base: Fraction,
        rate: Fraction | None,
        aspect: Fraction | None = None,
    ) -> None:
        self.colours = look.colours
        self._picture = (look.width, look.height)
        self.width = look.width + look.width % 2
        self.height = look.height + look.height % 2
        self._format = look.format
        self._scaler = VideoReformatter()
        self._threads = int(params["threads"])
        codec = _CODECS[params["codec"]]
        self.stream = None if container is None else container.add_stream(codec, rate=rate or 25)
        context = self._context = _loose(codec, rate or 25) if self.stream is None else self.stream.codec_context
        context.width, context.height = self.width, self.height
        context.pix_fmt = self._format
        context.time_base = time_base
        context.thread_count = self._threads
        context.color_range = self.colours.range
        context.colorspace = self.colours.matrix
        context.color_primaries = self.colours.primaries
        context.color_trc = self.colours.transfer
        if aspect is not None and aspect > 0:
            context.sample_aspect_ratio = aspect
        context.options = self._options(params)
        self._time_base = time_base
        self._adds_up = container is not None and container.format.name == "mp4"
        self._held: list[Any] = []  # the last packet, until it is known whether it is the very last
        self._durations: dict[int, int] = {}  # by pts, of the pictures inside the encoder
        self._first_dts: int | None = None
        self._span: tuple[int, int] | None = None  # pts of the first picture, end of the last

    def _options(self, params: Mapping[str, Any]) -> dict[str, str]:
        options = {"preset": params["preset"]}
        if params["codec"] == "hevc":
            self._context.codec_tag = "hvc1"  # the tag that Apple's players ask for
            if params["preset"] == "quick":
                options["preset"] = "ultrafast"
            # Without a pool of worker threads: on a busy machine, an encoder was seen to wait for one for ever.
            options["x265-params"] = f"log-level=error:pools=none:frame-threads={max(1, self._threads)}"
        elif params["preset"] == "quick":
            options = dict(_QUICK)
        if params["bitrate"] is not None:
            self._context.bit_rate = params["bitrate"]
        else:
            options["crf"] = str(params["crf"])
        return options

    def encode(self, image: Image | None, pts: int, duration: int) -> list[Any]:
        """Packets that came out for this picture going in; None is black. ``pts`` must grow."""
        if image is None:
            return self._send(self._black(), pts, duration)
        native = _native(image)
        if native is not None and self._fits(native):
            return self._send(native, pts, duration)
        if native is not None:
            return self._send(self._converted(native), pts, duration)
        return self._send(self._from_bgr(image.bgr), pts, duration)

    def flush(self) -> list[Any]:
        """The last packets, with others to follow from another encoder."""
        return self._held + self._timed(self._encoded(None))

    def finish(self) -> list[Any]:
        """The last packets of the file."""
        packets = self.flush()
        if packets and self._span is not None and self._adds_up:
            # MP4 adds up how long packets last in decoding order, which for a variable rate with B-frames is not
            # how long the pictures do. The last one makes up for it.
            first, end = self._span
            packets[-1].duration = max(1, end - first - (packets[-1].dts - (self._first_dts or 0)))
        return packets

    def _fits(self, frame: av.VideoFrame) -> bool:
        return (
            frame.width == self.width
            and frame.height == self.height
            and frame.format.name in ("yuv420p", "yuvj420p")
            and Colours.of(frame).same_numbers(self.colours)
        )

    def _send(self, frame: av.VideoFrame, pts: int, duration: int) -> list[Any]:
        # The frame may be the decoder's own, which other readers hold too: it gets its fields back.
        before = (frame.pts, frame.time_base, frame.duration, frame.pict_type)
        renamed = frame.format.name != self._format
        if renamed:  # full range goes by two names: yuvj420p, and yuv420p with a mark
            frame = _view(frame, self._format)
            frame.color_range = self.colours.range
        self._span = (pts if self._span is None else self._span[0], pts + duration)
        self._durations[pts] = duration
        frame.pts, frame.time_base, frame.duration = pts, self._time_base, duration
        frame.pict_type = 0  # else the encoder would copy the source's choice of key frames
        try:
            packets = self._held + self._timed(self._encoded(frame))
            self._held = packets[-1:]
            return packets[:-1]
        finally:
            if not renamed:
                frame.pts, frame.duration, frame.pict_type = before[0], before[2], before[3]
                if before[1] is not None:
                    frame.time_base = before[1]

    def _encoded(self, frame: av.VideoFrame | None) -> list[Any]:
        encoder: Any = self._context if self.stream is None else self.stream
        return list(encoder.encode(frame))

    def _timed(self, packets: list[Any]) -> list[Any]:
        """Packets as the encoder gives them, with how long their pictures last."""
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, 0)
            if self._first_dts is None:
                self._first_dts = packet.dts
        return packets

    def _converted(self, frame: av.VideoFrame) -> av.VideoFrame:
        """A native picture of another format, size or colour."""
        width, height = self._picture
        frame = self._scaler.reformat(
            frame,
            width,
            height,
            self._format,
            src_colorspace=Colours.of(frame).swscale,
            dst_colorspace=self.colours.swscale,
            src_color_range=Colours.of(frame).swscale_range,
            dst_color_range=self.colours.swscale_range,
            interpolation=_EXACT,
            threads=self._threads,
        )
        return frame if (frame.width, frame.height) == (self.width, self.height) else self._padded(frame)

    def _padded(self, frame: av.VideoFrame) -> av.VideoFrame:
        grown = av.VideoFrame(self.width, self.height, self._format)
        for plane, (source, target) in enumerate(zip(frame.planes, grown.planes, strict=True)):
            old, new = _pixels(source), _pixels(target)
            height, width = old.shape
            new[:height, :width] = old
            if plane == 0:  # the chroma planes of an odd size are rounded up already
                new[:height, width:] = old[:, -1:]
                new[height:] = new[height - 1 : height]
        return grown

    def _from_bgr(self, bgr: NDArray[np.uint8]) -> av.VideoFrame:
        height, width = bgr.shape[:2]
        if (width, height) != self._picture:
            bgr = np.asarray(cv2.resize(bgr, self._picture, interpolation=cv2.INTER_AREA), np.uint8)
            width, height = self._picture
        if width != self.width or height != self.height:
            grow = (0, self.height - height, 0, self.width - width)
            bgr = np.asarray(cv2.copyMakeBorder(bgr, *grow, cv2.BORDER_REPLICATE), np.uint8)
        if self.colours.is_bt601:
            return _from_planes(_bt601_planes(bgr), self._format)
        frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(bgr), format="bgr24")
        return self._scaler.reformat(
            frame,
            format=self._format,
            src_color_range=_FULL,
            dst_colorspace=self.colours.swscale,
            dst_color_range=self.colours.swscale_range,
            interpolation=_EXACT,
            threads=self._threads,
        )

    def _black(self) -> av.VideoFrame:
        planes = np.full((self.height * 3 // 2, self.width), 128, np.uint8)
        planes[: self.height] = 0 if self.colours.is_full else 16
        return _from_planes(planes, self._format)


def _loose(codec: str, rate: Fraction | int) -> Any:
    """An encoder as a container's own would be."""
    context: Any = av.CodecContext.create(codec, "w")
    context.framerate = rate
    context.bit_rate_tolerance = 128_000
    context.flags |= Flags.global_header
    return context


def _native(image: Image) -> Any:
    """The decoder's frame where the image is all of it, else None."""
    if image.native is None or image.region is not None:
        return None
    frame = image.native.frame()
    if frame is None or (frame.width, frame.height) != (image.width, image.height):
        return None
    return frame


def _pixels(plane: Any) -> NDArray[np.uint8]:
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _view(frame: av.VideoFrame, name: str) -> av.VideoFrame:
    """The same pixels under another pixel format of the same layout."""
    other = av.VideoFrame(frame.width, frame.height, name)
    for source, target in zip(frame.planes, other.planes, strict=True):
        _pixels(target)[:] = _pixels(source)
    return other


def _bt601_planes(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Limited range 4:2:0 planes (3/2 height, width) of pixels of even size: twice as fast as swscale makes them.

    OpenCV's own chroma is that of every other pixel, in which thin lines lose their colour: averages replace it.
    """
    height, width = bgr.shape[:2]
    planes = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420), np.uint8)
    half = cv2.resize(bgr, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    red, blue = cv2.split(cv2.cvtColor(half, cv2.COLOR_BGR2YCrCb))[1:]
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    for plane, full in zip(chroma, (blue, red), strict=True):
        cv2.convertScaleAbs(full, dst=plane, alpha=224 / 255, beta=128 - 128 * 224 / 255)
    return planes


def _from_planes(planes: NDArray[np.uint8], name: str) -> av.VideoFrame:
    """A frame of packed 4:2:0 planes (3/2 height, width)."""
    if planes.shape[0] % 6:  # from_numpy_buffer takes the height for a multiple of 4
        return av.VideoFrame.from_ndarray(planes, format=name)
    return av.VideoFrame.from_numpy_buffer(planes, format=name)
