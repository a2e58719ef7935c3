"""Sources: files and streams through PyAV, with true presentation times."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamapipe.clock import Clock
from llamapipe.errors import LlamapipeError, SourceError, SourceLostError, UsageError
from llamapipe.media.contract import Decoded, SourceInfo, Undecodable, VideoSource
from llamapipe.media.expand import SourceSpec
from llamapipe.media.pictures import AvPicture

if TYPE_CHECKING:
    import av
    import av.container
    import av.video.stream

__all__ = ["AvSource", "open_source"]

_OPEN_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 10.0
_LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "udp", "rtp", "srt", "tcp")
_MICROSECONDS = 1_000_000
_MAX_UNDECODABLE_RUN = 10_000  # pictures that a container may promise beyond the last one that came


def open_source(
    spec: SourceSpec,
    *,
    clock: Clock,
    start_s: float | None = None,
    end_s: float | None = None,
    max_frames: int | None = None,
    loop: int = 1,
    realtime: bool = False,
    threads: int = 2,
) -> VideoSource:
    """Open a source and learn its facts.

    ``start_s`` and ``end_s`` are media times from the first frame, the end exclusive. ``loop`` plays a file so many
    times, with times that go on. ``realtime`` hands a file's frames out at their own rate. Raises SourceError.
    """
    if spec.kind == "file":
        _check_file(Path(spec.uri))
    for name, value in (("--start", start_s), ("--end", end_s)):
        if value is not None and value < 0:
            raise UsageError(f"{name} {value:g}: expected a time of 0 or more")
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise UsageError(f"--end {end_s:g} is not after --start {start_s:g}")
    return AvSource(
        spec,
        clock=clock,
        start_s=start_s or 0.0,
        end_s=end_s,
        max_frames=max_frames,
        loop=loop,
        realtime=realtime,
        threads=threads,
    )


class AvSource:
    """One open source. See `VideoSource`."""

    def __init__(
        self,
        spec: SourceSpec,
        *,
        clock: Clock,
        start_s: float,
        end_s: float | None,
        max_frames: int | None,
        loop: int,
        realtime: bool,
        threads: int,
    ) -> None:
        self._spec = spec
        self._clock = clock
        self._start_s = start_s
        self._end_s = end_s
        self._max_frames = max_frames
        self._loop = loop
        self._realtime = realtime
        self._threads = threads
        self._closed = False
        self._container, self._stream = self._open()
        try:
            self._info = self._facts()
        except BaseException:
            self._container.close()
            raise

    @property
    def info(self) -> SourceInfo:
        """See `VideoSource.info`."""
        return self._info

    def close(self) -> None:
        """See `VideoSource.close`. The reading thread frees the decoder at its next packet."""
        self._closed = True

    # -- opening ------------------------------------------------------------------------------------------------

    def _open(self) -> tuple[av.container.InputContainer, av.video.stream.VideoStream]:
        import av

        shown = self._spec.shown
        options: dict[str, str] = {}
        format_name: str | None = None
        if self._spec.kind == "camera":
            format_name = "v4l2"
        elif self._is_live_url:
            options = {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}
        try:
            container = av.open(
                self._spec.uri,
                format=format_name,
                options=options,
                timeout=None if self._spec.kind == "file" else (_OPEN_TIMEOUT_S, _READ_TIMEOUT_S),
                metadata_errors="replace",
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise _cannot_open(self._spec, error) from error
        try:
            if not container.streams.video:
                kinds = sorted({stream.type for stream in container.streams})
                raise SourceError(f"{shown} has no video, it has {' and '.join(kinds) or 'no streams'}")
            stream = next((s for s in container.streams.video if not _is_cover(s)), container.streams.video[0])
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = self._threads
            return container, stream
        except BaseException:
            container.close()
            raise

    @property
    def _is_live_url(self) -> bool:
        return self._spec.uri.split("://", 1)[0].lower() in _LIVE_SCHEMES

    def _facts(self) -> SourceInfo:
        stream, container = self._stream, self._container
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        fps = Fraction(rate) if rate else None
        time_base = stream.time_base or Fraction(1, 1000)
        duration_s: float | None = None
        if stream.duration is not None:
            duration_s = float(stream.duration * time_base)
        elif container.duration is not None:
            duration_s = container.duration / _MICROSECONDS
        live = self._spec.kind == "camera" or self._is_live_url or (self._spec.kind == "url" and duration_s is None)
        if live:
            duration_s = None
        self._whole_s = duration_s
        self._promised = stream.frames or None
        first = self._peek()
        context = stream.codec_context
        width = first.width if first is not None else context.width
        height = first.height if first is not None else context.height
        self._rotation = -int(first.rotation) % 360 if first is not None else 0
        if self._rotation % 90:
            self._rotation = 0
        if self._rotation in (90, 270):
            width, height = height, width
        if not width or not height:
            raise SourceError(f"{self._spec.shown}: no picture could be decoded", hint="is the file complete?")
        span_s = None
        if duration_s is not None:
            end_s = duration_s if self._end_s is None else min(self._end_s, duration_s)
            span_s = max(0.0, end_s - self._start_s)
        whole = self._start_s == 0 and (self._end_s is None or (duration_s is not None and self._end_s >= duration_s))
        num_frames: int | None = None
        if self._promised is not None and whole:
            num_frames = self._promised
        elif span_s is not None and fps is not None:
            num_frames = round(span_s * fps)
        loop = 1 if live else self._loop
        if num_frames is not None:
            num_frames *= loop
        if span_s is not None:
            span_s *= loop
        if self._max_frames is not None:
            num_frames = self._max_frames if num_frames is None else min(num_frames, self._max_frames)
        return SourceInfo(
            name=self._spec.name,
            uri=self._spec.shown,
            width=width,
            height=height,
            fps=fps,
            num_frames=num_frames,
            duration_s=span_s,
            time_base=time_base,
            live=live,
            has_audio=bool(container.streams.audio),
            codec=context.codec.name if context.codec is not None else context.name,
            rotation=self._rotation,
            start_s=self._start_s,
        )

    def _peek(self) -> av.VideoFrame | None:
        """The first picture of a file: only it knows the rotation. Reading begins anew afterwards."""
        import av

        if self._spec.kind != "file":
            return None
        try:
            with av.open(self._spec.uri, metadata_errors="replace") as container:
                stream = container.streams.video[self._container.streams.video.index(self._stream)]
                for count, packet in enumerate(container.demux(stream)):
                    try:
                        frames = packet.decode()
                    except av.FFmpegError:
                        frames = []
                    if frames:
                        return frames[0]
                    if count > 300:
                        return None
        except av.FFmpegError:
            return None
        return None

    # -- reading ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Decoded | Undecodable]:
        try:
            yield from self._limited()
        finally:
            self._closed = True
            self._container.close()

    def _limited(self) -> Iterator[Decoded | Undecodable]:
        """Counts, paces, and stops at ``max_frames``."""
        began_s: float | None = None
        first_pts = 0
        for seq, item in enumerate(self._looped()):
            if self._closed or (self._max_frames is not None and seq >= self._max_frames):
                return
            if isinstance(item, Undecodable):
                yield Undecodable(seq, item.reason, item.detail)
                continue
            pts, frame = item
            captured_at_s: float | None = None
            if self._info.live:
                captured_at_s = self._clock.now_s()
            elif self._realtime:
                if began_s is None:
                    began_s, first_pts = self._clock.now_s(), pts
                captured_at_s = began_s + float((pts - first_pts) * self._info.time_base)
                self._clock.sleep(captured_at_s - self._clock.now_s())
            yield Decoded(seq, pts, AvPicture(frame, self._rotation), captured_at_s)

    def _looped(self) -> Iterator[Undecodable | tuple[int, av.VideoFrame]]:
        """The file as often as asked for, with times that go on."""
        loops = 1 if self._info.live else self._loop
        offset = 0
        last = -1
        for turn in range(loops):
            if turn:
                self._container.close()
                self._container, self._stream = self._open()
            first: int | None = None
            step = self._frame_ticks()
            for item in self._pass():
                if isinstance(item, Undecodable):
                    yield item
                    continue
                pts, frame = item
                if first is None:
                    first = pts
                    if turn:
                        offset = last + step - pts
                shifted = max(pts + offset, last + 1) if last >= 0 else pts + offset
                last = shifted
                yield shifted, frame

    def _frame_ticks(self) -> int:
        fps = self._info.fps
        return max(1, round(1 / (fps * self._info.time_base))) if fps else 1

    def _pass(self) -> Iterator[Undecodable | tuple[int, av.VideoFrame]]:
        """One pass over the file, from ``start_s`` to ``end_s``. Pictures lost to bad data keep their place."""
        import av

        stream, container = self._stream, self._container
        time_base = self._info.time_base
        origin = stream.start_time if stream.start_time is not None else 0
        begin = origin + round(self._start_s / time_base)
        end = None if self._end_s is None else origin + round(self._end_s / time_base)
        if self._start_s:
            try:
                container.seek(begin, stream=stream, backward=True)
            except (av.FFmpegError, OSError) as error:
                raise SourceError(f"{self._spec.shown} cannot be sought to {self._start_s:g} s: {error}") from error
        sent = came = bad = 0
        last_pts: int | None = None
        detail = ""
        packets = container.demux(stream)
        while not self._closed:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except (av.FFmpegError, OSError) as error:
                detail = _reason(error)
                if self._info.live:
                    raise SourceLostError(f"{self._spec.shown} was lost: {detail}") from error
                break
            if packet.size:
                sent += 1
            try:
                frames = packet.decode()
            except (av.FFmpegError, OSError) as error:
                detail = _reason(error)
                bad += 1
                came += 1
                yield Undecodable(0, "corrupt-packet", detail)
                continue
            for frame in frames:
                pts = frame.pts if frame.pts is not None else self._guessed_pts(last_pts, origin)
                if last_pts is not None and pts <= last_pts:
                    pts = last_pts + 1
                last_pts = pts
                if pts < begin:
                    continue
                if end is not None and pts >= end:
                    return
                came += 1
                yield pts, frame
        if self._info.live and not self._closed:
            raise SourceLostError(f"{self._spec.shown} has ended")
        yield from self._missing(came, detail)

    def _missing(self, came: int, detail: str) -> Iterator[Undecodable]:
        """Pictures that the container promised and the data did not hold."""
        whole = self._start_s == 0 and self._end_s is None
        if not whole or self._promised is None or self._closed:
            return
        missing = min(self._promised - came, _MAX_UNDECODABLE_RUN)
        for _ in range(missing):
            yield Undecodable(0, "truncated" if not detail else "corrupt-packet", detail)

    def _guessed_pts(self, last: int | None, origin: int) -> int:
        return origin if last is None else last + self._frame_ticks()


def _is_cover(stream: Any) -> bool:
    """Whether a video stream is a picture on the cover of a piece of music."""
    return bool(getattr(stream.disposition, "attached_pic", False) or "attached_pic" in str(stream.disposition))


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise SourceError(f"source {path} does not exist") from None
    except OSError as error:
        raise SourceError(f"source {path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    if stat.S_ISDIR(status.st_mode):
        raise SourceError(f"source {path} is a folder, expected a video")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise SourceError(f"source {path} is empty: expected a video, it has 0 bytes")
    if not os.access(path, os.R_OK):
        raise SourceError(f"source {path} cannot be read: permission denied")


def _cannot_open(spec: SourceSpec, error: Exception) -> LlamapipeError:
    reason = _reason(error)
    if spec.kind == "file":
        hint = "is it complete? A recording that was cut off lacks its index" if "moov" in reason else None
        if "invalid data" in reason:
            return SourceError(
                f"source {spec.shown} is no video that can be read: {reason}",
                hint="expected MP4, MKV, MPEG-TS, AVI, ...; a recording that was cut off may lack its index",
            )
        return SourceError(f"source {spec.shown} cannot be opened: {reason}", hint=hint)
    if spec.kind == "camera":
        return SourceError(f"camera {spec.shown} cannot be opened: {reason}", hint="is it plugged in and not in use?")
    return SourceError(f"{spec.shown} cannot be opened: {reason}", hint="is the address right and the server up?")


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0].lower()
