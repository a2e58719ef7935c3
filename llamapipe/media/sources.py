"""Sources: files and streams through PyAV, with true presentation times."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamapipe.clock import Clock
from llamapipe.errors import SourceError, SourceLostError
from llamapipe.media.contract import Decoded, SourceInfo, SourceStats, Undecodable
from llamapipe.media.expand import SourceSpec
from llamapipe.media.losses import Losses
from llamapipe.media.opening import is_live_address, may_block, open_video, reason_of
from llamapipe.media.packets import PacketPump, Stalled
from llamapipe.media.pictures import AvPicture

if TYPE_CHECKING:
    import av
    import av.container
    import av.video.stream

__all__ = ["AvSource"]

_MICROSECONDS = 1_000_000
_MAX_UNDECODABLE_RUN = 10_000  # pictures that a container may promise beyond the last one that came
_NAP_S = 0.05  # how soon a paced source notices that it was closed
_PEEK_PACKETS = 300
_UNINDEXED = ("mpegts", "mpeg")
_LEAD_S = 15.0  # before --start, in files without an index: longer than keyframes are apart
_MAX_BACK_S, _MAX_AHEAD_S = 1.0, 10.0  # by which times of a live source may be off without being another clock's


class AvSource:
    """One open source. See `VideoSource`.

    ``stall_timeout_s``: so long without a packet, and a live source is lost. With it, a live source is one connection
    of several: what begins, ends and counts the whole is left to `LiveSource`. ``known``: it was open before.

    Every picture that the file holds is accounted for: damaged ones that the decoder could mend are delivered, ones
    that it gave up are `Undecodable` in their place, and so are those that a file cut short no longer holds.
    """

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
        stall_timeout_s: float | None = None,
        known: bool = False,
        skip: int = 0,
    ) -> None:
        self._spec = spec
        self._clock = clock
        self._start_s = start_s
        self._end_s = end_s
        self._max_frames = max_frames
        self._loop = loop
        self._realtime = realtime
        self._threads = threads
        self._skip = skip
        self._closed = False
        self._reading = False
        self._lock = threading.Lock()
        self._pump: PacketPump | None = None
        self._stall_timeout_s = stall_timeout_s
        read_timeout_s: float | None = None
        if stall_timeout_s is not None and is_live_address(spec):
            read_timeout_s = stall_timeout_s + 1.0  # the stall is noticed first, and says better what happened
        self._container, self._stream = open_video(spec, threads, read_timeout_s=read_timeout_s, known=known)
        try:
            self._info = self._facts()
        except BaseException:
            self._container.close()
            raise
        if self._info.live and stall_timeout_s is not None:
            self._start_s, self._end_s, self._max_frames = 0.0, None, None

    @property
    def info(self) -> SourceInfo:
        """See `VideoSource.info`."""
        return self._info

    @property
    def stats(self) -> SourceStats:
        """See `VideoSource.stats`."""
        return SourceStats()

    @property
    def lead_s(self) -> float | None:
        """See `PacketPump.lead_s`."""
        return self._pump.lead_s if self._pump is not None else None

    def read_ahead(self) -> PacketPump:
        """Take packets as they come, before anybody asks: `lead_s` is about when they came. Before the first read."""
        self._pump = self._make_pump()
        return self._pump

    def settle(self) -> None:
        """`read_ahead`, and read what has piled up, so that `lead_s` is right from the first picture on."""
        self.read_ahead().settle()

    def close(self) -> None:
        """See `VideoSource.close`. A thread that is reading frees the decoder itself, right after."""
        with self._lock:
            self._closed = True
            if not self._reading:
                self._release()
            elif self._pump is not None:
                self._pump.stop()

    def _release(self) -> None:
        if self._pump is not None:
            self._pump.stop()
        else:
            self._container.close()

    # -- facts --------------------------------------------------------------------------------------------------

    def _facts(self) -> SourceInfo:
        stream, container, spec = self._stream, self._container, self._spec
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        fps = Fraction(rate) if rate else None
        time_base = stream.time_base or Fraction(1, 1000)
        duration_s: float | None = None
        if stream.duration is not None:
            duration_s = float(stream.duration * time_base)
        elif container.duration is not None:
            duration_s = container.duration / _MICROSECONDS
        live = is_live_address(spec) or (may_block(spec) and duration_s is None)
        if live:
            duration_s = None
        if duration_s is not None and duration_s <= self._start_s and self._start_s > 0:
            raise SourceError(
                f"source {spec.shown} lasts {duration_s:g} s: nothing is left from --start {self._start_s:g} on",
                hint="give an earlier --start",
            )
        self._whole_s = duration_s
        self._promised = stream.frames or None
        first = None if live or not _can_reopen(spec) else self._peek()
        context = stream.codec_context
        width, height = (first.width, first.height) if first is not None else (context.width, context.height)
        # PyAV counts degrees anticlockwise; only quarter turns have an upright picture of whole pixels.
        self._rotation = -int(first.rotation) % 360 if first is not None else 0
        if self._rotation % 90:
            self._rotation = 0
        if self._rotation in (90, 270):
            width, height = height, width
        if not width or not height:
            raise SourceError(f"source {spec.shown}: no picture could be decoded", hint="is the file complete?")
        span_s = None
        if duration_s is not None:
            span_s = (duration_s if self._end_s is None else min(self._end_s, duration_s)) - self._start_s
        num_frames = self._expected(fps, duration_s)
        if num_frames is not None:
            num_frames *= 1 if live else self._loop
        if self._max_frames is not None and not (live and num_frames is None):
            num_frames = self._max_frames if num_frames is None else min(num_frames, self._max_frames)
        return SourceInfo(
            name=spec.name,
            uri=spec.shown,
            width=width,
            height=height,
            fps=fps,
            num_frames=num_frames,
            duration_s=None if span_s is None else span_s * self._loop,
            time_base=time_base,
            live=live,
            has_audio=bool(container.streams.audio),
            codec=context.codec.name if context.codec is not None else context.name,
            rotation=self._rotation,
            start_s=self._start_s,
        )

    def _expected(self, fps: Fraction | None, duration_s: float | None) -> int | None:
        """Pictures of one pass. An edit list hides some of those that the container counts."""
        if duration_s is None or fps is None:
            return self._promised if self._is_whole else None
        timed = round(duration_s * fps)
        whole = timed if self._promised is None or self._promised - timed > 1 else self._promised
        if self._is_whole:
            return whole
        first = math.ceil(round(self._start_s * fps, 6))
        after = whole if self._end_s is None else min(whole, math.ceil(round(self._end_s * fps, 6)))
        return max(0, after - first)

    @property
    def _is_whole(self) -> bool:
        """Whether nothing is cut off by --start and --end."""
        ends = self._end_s is None or (self._whole_s is not None and self._end_s >= self._whole_s)
        return self._start_s == 0 and ends

    def _peek(self) -> av.VideoFrame | None:
        """The first picture: only it knows the rotation. Reading begins anew afterwards."""
        import av

        try:
            container, stream = open_video(self._spec, 1)
        except SourceError:
            return None
        with container:
            try:
                for count, packet in enumerate(container.demux(stream)):
                    try:
                        frames = packet.decode()
                    except av.FFmpegError:
                        frames = []
                    if frames or count > _PEEK_PACKETS:
                        return frames[0] if frames else None
            except (av.FFmpegError, OSError):
                return None
        return None

    # -- reading ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Decoded | Undecodable]:
        with self._lock:
            if self._closed:
                return
            self._reading = True
        try:
            yield from self._limited()
        finally:
            with self._lock:
                self._closed = True
                self._reading = False
                self._release()

    def _limited(self) -> Iterator[Decoded | Undecodable]:
        """Counts, paces, and stops at ``max_frames``."""
        if self._max_frames is not None and self._max_frames <= 0:
            return
        began_s: float | None = None
        first_pts = 0
        ticks, over = self._info.time_base.numerator, self._info.time_base.denominator
        size = (self._info.width, self._info.height)
        for seq, item in enumerate(self._looped()):
            if self._closed:
                return
            if seq < self._skip:
                if self._max_frames is not None and seq + 1 >= self._max_frames:
                    return
                continue
            if isinstance(item, Undecodable):
                yield Undecodable(seq, item.reason, item.detail)
            else:
                pts, frame = item
                captured_at_s: float | None = None
                if self._info.live:
                    captured_at_s = self._clock.now_s()
                elif self._realtime:
                    if began_s is None:
                        began_s, first_pts = self._clock.now_s(), pts
                    captured_at_s = began_s + (pts - first_pts) * ticks / over
                    if not self._wait_until(captured_at_s):
                        return
                picture = AvPicture(frame, self._rotation)
                if (picture.width, picture.height) != size:  # all that is known of the stream is in its first size
                    picture = picture.scaled(*size)
                yield Decoded(seq, pts, picture, captured_at_s)
            if self._max_frames is not None and seq + 1 >= self._max_frames:
                return

    def _wait_until(self, time_s: float) -> bool:
        """Sleeps in naps, so that closing is noticed; False once closed."""
        while not self._closed and (left_s := time_s - self._clock.now_s()) > 0:
            self._clock.sleep(min(left_s, _NAP_S))
        return not self._closed

    def _looped(self) -> Iterator[Undecodable | tuple[int, av.VideoFrame]]:
        """The file as often as asked for, with times that go on."""
        step = self._frame_ticks()
        offset = 0
        last: int | None = None
        for turn in range(1 if self._info.live else self._loop):
            if turn and not self._rewind():
                return
            began = False
            for item in self._pass():
                if isinstance(item, Undecodable):
                    yield item
                    continue
                pts, frame = item
                if not began and last is not None:
                    offset = last + step - pts
                began = True
                last = pts + offset if last is None else max(pts + offset, last + 1)
                yield last, frame

    def _rewind(self) -> bool:
        with self._lock:
            if self._closed:
                return False
            self._release()
            self._pump = None
            self._container, self._stream = open_video(self._spec, self._threads)
            return True

    def _frame_ticks(self) -> int:
        fps = self._info.fps
        return max(1, round(1 / (fps * self._info.time_base))) if fps else 1

    def _packets(self, begin: int) -> Iterator[Any]:
        """Packets from the keyframe before ``begin`` on; from the very first where a format cannot seek.

        MPEG streams have no index: there it is a place some seconds before, since what lies there need be no keyframe.
        """
        import av

        if self._start_s and not self._info.live:
            if self._container.format.name in _UNINDEXED:
                begin -= round(_LEAD_S / self._info.time_base)
            try:
                self._container.seek(begin, stream=self._stream, backward=True)
            except (av.FFmpegError, OSError):
                self._rewind()
        if may_block(self._spec):
            with self._lock:
                if self._closed:
                    return iter(())
                if self._pump is None:
                    self._pump = self._make_pump()
            return iter(self._pump)
        return iter(self._container.demux(self._stream))

    def _make_pump(self) -> PacketPump:
        stall_timeout_s = self._stall_timeout_s if self._info.live else None
        return PacketPump(self._container, self._stream, clock=self._clock, stall_timeout_s=stall_timeout_s)

    def _pass(self) -> Iterator[Undecodable | tuple[int, av.VideoFrame]]:
        """One pass over the file, from ``start_s`` to ``end_s``. Pictures lost to bad data keep their place."""
        import av

        time_base = self._info.time_base
        origin = self._stream.start_time if self._stream.start_time is not None else 0
        begin = origin + round(self._start_s / time_base) if self._start_s else None
        end = None if self._end_s is None else origin + round(self._end_s / time_base)
        losses = Losses()
        read = 0
        joined = not self._info.live  # a live stream is met amid its pictures: what needs earlier ones is not lost
        broken = self._promised is not None  # a container that counts its pictures hides none among its packets
        detail = ""
        last: int | None = None
        shift, back = 0, round(_MAX_BACK_S / time_base)
        seen_s = self._clock.now_s()
        packets = self._packets(origin if begin is None else begin)
        while not self._closed:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except Stalled as error:
                reason = f"nothing came for {self._stall_timeout_s:g} s"
                raise SourceLostError(f"source {self._spec.shown} was lost: {reason}") from error
            except (av.FFmpegError, OSError) as error:
                detail = reason_of(error)
                if self._spec.kind != "file":
                    raise SourceLostError(f"source {self._spec.shown} was lost: {detail}") from error
                break
            read += 1 if packet.size else 0
            placed = packet.pts is not None and packet.size > 0
            if placed and not packet.is_discard:
                losses.sent(packet.pts)
            try:
                frames = packet.decode()
            except (av.FFmpegError, OSError) as error:
                frames = []
                if not joined:
                    continue
                detail, broken = reason_of(error), True
                if packet.size and not placed and begin is None:
                    yield Undecodable(0, "corrupt-packet", detail)
            for frame in frames:
                pts = frame.pts if frame.pts is not None else (origin if last is None else last + self._frame_ticks())
                if not self._info.live and last is not None and pts + shift < last - back:
                    losses = Losses()  # joined files, or a clock that was set back
                    shift = last + self._frame_ticks() - pts
                lost = [missed + shift for missed in losses.came(pts)]
                pts += shift
                if broken and joined:
                    yield from _undecodable(lost, begin, end, detail)
                joined = True
                if self._info.live:
                    if last is not None and self._jumped(float((pts - last) * time_base), seen_s):
                        raise SourceLostError(f"source {self._spec.shown} was lost: its clock was set anew")
                    seen_s = self._clock.now_s()
                last = pts if last is None else max(pts, last + 1)
                if begin is not None and last < begin:
                    continue
                if end is not None and last >= end:
                    return
                yield last, frame
        if self._closed:
            return
        if self._info.live:
            raise SourceLostError(f"source {self._spec.shown} has ended")
        rest = [missed + shift for missed in losses.rest()]
        if broken:
            yield from _undecodable(rest, begin, end, detail)
        yield from self._cut_off(read, max([last or origin, *rest]) - origin)

    def _jumped(self, step_s: float, seen_s: float) -> bool:
        """Whether a live source's times went back, or on by far more than ours: a new connection places them anew."""
        if self._stall_timeout_s is None:
            return False
        return step_s < -_MAX_BACK_S or step_s - (self._clock.now_s() - seen_s) > _MAX_AHEAD_S

    def _cut_off(self, read: int, reached: int) -> Iterator[Undecodable]:
        """Pictures that the container promised and the file does not hold any more."""
        if not self._is_whole or self._promised is None or self._whole_s is None:
            return
        # An edit list hides pictures too, but then the time is not missing.
        if self._whole_s - float(reached * self._info.time_base) < 1.5 * self._frame_ticks() * self._info.time_base:
            return
        for _ in range(min(self._promised - read, _MAX_UNDECODABLE_RUN)):
            yield Undecodable(0, "truncated", f"the file ends after {read} of {self._promised} pictures")


def _can_reopen(spec: SourceSpec) -> bool:
    """Whether reading it twice gives the same: not so for a pipe."""
    return spec.kind == "url" or Path(spec.uri).is_file()


def _undecodable(times: list[int], begin: int | None, end: int | None, detail: str) -> Iterator[Undecodable]:
    for pts in times:
        if (begin is None or pts >= begin) and (end is None or pts < end):
            yield Undecodable(0, "corrupt-packet", detail or "the decoder gave no picture")
