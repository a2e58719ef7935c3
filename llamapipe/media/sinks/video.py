"""Video files with the source's timing and audio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from llamapipe.data import Image
from llamapipe.errors import OutputError, UsageError
from llamapipe.media.contract import Outcome, SinkContext, SinkItem
from llamapipe.media.sinks.encoder import Colours, Look, PictureEncoder
from llamapipe.media.sinks.files import PendingFile, target, writing
from llamapipe.media.sinks.header import SourceHeader, open_header
from llamapipe.media.sinks.soundtrack import Cut, Soundtrack
from llamapipe.media.sinks.spool import PacketSpool

__all__ = ["VideoSink"]

_LEAST_TICKS = 10_000  # a second, of a track of an MP4 file
_FARTHEST = 1 << 28  # ticks to the next picture in an MP4 file: the muxer takes 2^31 over all that codecs reorder
_KINDS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mp4", ".mkv": "matroska"}
_NO_PICTURE = ("", "source")  # stages of a frame that failed before there was a picture


def _mp4_options(base: Fraction) -> dict[str, str]:
    """The index at the front, so that a browser can begin before it has everything, and exact times.

    A late start is written in units of the whole file, by default milliseconds: they become those of the pictures.
    """
    ticks = base.denominator
    while ticks < 10_000:
        ticks *= 2
    return {"movflags": "+faststart", "movie_timescale": str(min(ticks, 2**31 - 1))}


class VideoSink:
    """Encodes the first picture that its inputs give for each frame, at the frame's own time.

    Times are those of the source (variable rate included), moved so that the file begins at zero. A failed or
    dropped frame leaves a gap, in which players show the picture before; downstream of a stage that hides
    something it is black instead, and only the first input counts. Filtered and skipped frames leave a gap. The
    first audio of a local file is copied, or encoded as AAC where the container does not take it, cut and repeated
    like the pictures; streams are written without, since they cannot be opened a second time in step. Matroska
    counts in milliseconds: times are rounded to that. Without any delivered picture there is no file.

    An output that may be gone on with is encoded segment by segment, each by itself, into a `PacketSpool`; the file
    is made of it at the end. So it is the same however often the run was interrupted.
    """

    def __init__(self, context: SinkContext, params: Mapping[str, Any], default_path: str) -> None:
        self._context = context
        self._params = params
        path = target(context, default_path)
        if path.suffix.lower() not in _KINDS:
            raise UsageError(f"video sink cannot write {path.name!r}: expected a name in {', '.join(_KINDS)}")
        self._kind = _KINDS[path.suffix.lower()]
        self._base = context.info.time_base
        finer = 1  # a track's ticks are, until there are 10,000 in a second
        while self._base.denominator * finer < _LEAST_TICKS:
            finer *= 2
        self._farthest = max(1, _FARTHEST // (self._base.numerator * finer))
        self._spool: PacketSpool | None = None
        if context.segment_frames and context.keep is not None:
            self._spool = PacketSpool(context.keep / "pictures", 0 if context.mark is None else context.mark["spool"])
        self._file = PendingFile(path, force=context.force or context.mark is not None)
        self._segment = 0
        self._look: Look | None = None  # of the first picture, hence of all
        self._header: SourceHeader | None = None
        self._container: Any = None
        self._encoder: PictureEncoder | None = None
        self._sound: Soundtrack | None = None
        self._origin: int | None = None  # pts that becomes zero
        self._first = 0  # pts of the first frame
        self._last: int | None = None  # pts of the picture before, from zero
        self._last_seq = -1
        self._last_pts = 0  # of the frame before, written or not, as the source counts
        self._cut: Cut | None = None
        self._slot: int | None = None  # of the picture before, where fps is capped
        self._early: list[int] = []  # black pictures before the first real one, whose size they get
        fps = context.info.fps
        self._nominal = max(1, round(1 / (fps * self._base))) if fps else 0
        self._step = self._nominal or 1  # how long the picture before is shown, as far as is known
        if context.mark is not None:
            self._go_on(context.mark)

    def write(self, item: SinkItem) -> None:
        """See `Sink.write`."""
        self._enter_segment(item.seq)
        if item.outcome is Outcome.FAILED and item.stage in _NO_PICTURE:
            return  # there is no time to put a black one at
        if self._origin is None:
            self._origin = self._begin(item.pts)
        self._last_seq, self._last_pts = item.seq, item.pts
        image = self._image(item)
        hidden = self._context.hides and item.outcome in (Outcome.FAILED, Outcome.DROPPED)
        if image is None and not hidden:
            return
        pts = item.pts - self._origin
        if self._last is not None and pts <= self._last:
            if image is None:
                return
            pts = self._last + 1  # two pictures at one time: codecs want them apart
        if self._surplus(pts):
            return
        with self._writing():
            self._put(image, pts)

    def _image(self, item: SinkItem) -> Image | None:
        # Where something is hidden, a picture of another input must not stand in for one that is missing.
        inputs = self._context.inputs[:1] if self._context.hides else self._context.inputs
        values = (item.values.get(selector) for selector in inputs)
        return next((value for value in values if isinstance(value, Image)), None)

    def _surplus(self, pts: int) -> bool:
        """Whether a capped rate leaves this picture out."""
        fps = self._params["fps"]
        if fps is None:
            return False
        slot = int(float(pts * self._base) * fps + 1e-6)
        if slot == self._slot:
            return True
        self._slot = slot
        return False

    def _begin(self, first: int) -> int:
        info = self._context.info
        self._first = first
        if info.live:
            return first
        self._header = self._open_header()
        if self._header is None or self._header.start_s is None or info.start_s:
            return first
        # What begins before the first picture, audio as a rule, keeps its lead as it has in the source.
        return min(first, round(self._header.start_s / self._base))

    def _open_header(self) -> SourceHeader | None:
        audio = self._params["audio"] and self._context.info.has_audio
        return open_header(self._context.source_uri, audio=audio)

    # -- segments -----------------------------------------------------------------------------------------------

    def _enter_segment(self, seq: int) -> None:
        """What was encoded ends where a segment does."""
        segment = seq // self._context.segment_frames if self._context.segment_frames else 0
        if segment != self._segment:
            self._end_segment()
            self._segment = segment

    def _end_segment(self) -> None:
        if self._spool is None or self._encoder is None:
            return
        with self._writing():
            self._spool.put(self._encoder.flush())
        self._encoder = None

    def mark(self) -> Any:
        """See `Sink.mark`."""
        if self._spool is None:
            return None
        self._end_segment()
        look = self._look
        return {
            "spool": self._spool.mark(),
            "look": None if look is None else [look.width, look.height, *astuple(look.colours), look.format],
            "origin": self._origin,
            "first": self._first,
            "last": self._last,
            "last_seq": self._last_seq,
            "last_pts": self._last_pts,
            "slot": self._slot,
            "early": self._early,
            "step": self._step,
        }

    def _go_on(self, mark: Mapping[str, Any]) -> None:
        if mark["look"] is not None:
            width, height, *colours, format = mark["look"]
            self._look = Look(width, height, Colours(*colours), format)
        self._origin, self._first, self._last = mark["origin"], mark["first"], mark["last"]
        self._last_seq, self._last_pts, self._slot = mark["last_seq"], mark["last_pts"], mark["slot"]
        self._early, self._step = list(mark["early"]), mark["step"]
        if self._origin is not None and not self._context.info.live:
            self._header = self._open_header()

    def _assemble(self, spool: PacketSpool, look: Look) -> None:
        """Make the file of the segments."""
        encoder = self._begin_file(look)  # only lends the file its codec's parameters
        for packet in spool.packets(self._base, exact_end=self._kind == "mp4"):
            packet.stream = encoder.stream
            self._add_sound(packet.pts)
            self._container.mux(packet)

    # -- the file -----------------------------------------------------------------------------------------------

    def _put(self, image: Image | None, pts: int) -> None:
        if self._encoder is None:
            if self._look is None:
                if image is None:
                    self._early.append(pts)
                    self._last = pts
                    return
                header = self._header
                self._look = Look.of(image, None if header is None else header.colours)
            self._encoder = self._new_encoder(self._look) if self._spool is not None else self._begin_file(self._look)
            for early in self._early:
                self._mux(self._encoder.encode(None, early, self._step))
            self._early.clear()
        while self._kind == "mp4" and self._last is not None and pts - self._last > self._farthest:
            # It would refuse the step, and squeeze all that comes after it: the picture is there before, too.
            self._last += self._farthest
            self._mux(self._encoder.encode(image, self._last, self._step))
        self._step = self._shown_for(image, pts)
        self._last = pts
        self._mux(self._encoder.encode(image, pts, self._step))
        if self._spool is None:
            self._add_sound(pts)

    def _mux(self, packets: list[Any]) -> None:
        if self._spool is not None:
            self._spool.put(packets)
        else:
            self._container.mux(packets)

    def _add_sound(self, pts: int) -> None:
        if self._sound is not None:
            for packet in self._sound.until(pts * self._base):
                self._container.mux(packet)

    def _shown_for(self, image: Image | None, pts: int) -> int:
        """Ticks until the next picture, which only counts for the last: the file's length depends on it."""
        fps = self._params["fps"]
        if fps is not None:
            return max(1, round(1 / (Fraction(fps) * self._base)))
        header = self._header
        if header is not None and header.end_s is not None and self._last_seq + 1 == header.num_frames:
            rest = round(header.end_s / self._base) - (self._origin or 0) - pts
            if rest > 0 and not self._context.info.start_s and self._context.loop == 1:
                return rest
        native = image.native.frame() if image is not None and image.native is not None else None
        if native is not None and native.duration and native.time_base:
            shown: int = round(native.duration * Fraction(native.time_base) / self._base)
            return max(1, shown)
        if self._nominal or self._last is None:
            return self._nominal or 1
        return max(1, pts - self._last)

    def _begin_file(self, look: Look) -> PictureEncoder:
        self._container = av.open(
            str(self._file.partial),
            "w",
            format=self._kind,
            options=_mp4_options(self._base) if self._kind == "mp4" else {},
        )
        encoder = self._new_encoder(look)
        header = self._header
        if header is not None and header.audio is not None:
            self._cut = self._audio_cut(header)
            self._sound = Soundtrack(header, self._container, self._kind, self._cut)
        return encoder

    def _new_encoder(self, look: Look) -> PictureEncoder:
        header, info = self._header, self._context.info
        aspect = header.aspect if header is not None else None
        if aspect and info.rotation % 180:
            aspect = 1 / aspect
        return PictureEncoder(self._container, look, self._params, time_base=self._base, rate=info.fps, aspect=aspect)

    def _audio_cut(self, header: SourceHeader) -> Cut:
        context = self._context
        origin_s = (self._origin or 0) * self._base
        end_s = None if context.end_s is None else header.video_start_s + Fraction(context.end_s)
        if context.loop == 1:
            return Cut(origin_s, origin_s, end_s)
        first_s = self._first * self._base
        return Cut(
            origin_s, origin_s, end_s, context.loop, header.pass_s(first_s, end_s, (self._nominal or 1) * self._base)
        )

    def _audio_end_s(self, last: int) -> Fraction | None:
        """Audio outlasts the pictures as far as it does in the source, unless these were cut short."""
        header, cut = self._header, self._cut
        if header is None or cut is None:
            return None
        last_s = self._last_pts * self._base - (cut.passes - 1) * cut.pass_s
        return (last + self._step) * self._base if header.has_pictures_after(last_s) else None

    def close(self) -> Sequence[Path]:
        """See `Sink.close`."""
        if self._look is None or self._last is None:
            self.abort()
            return []
        self._end_segment()
        with self._writing():
            if self._spool is not None:
                self._assemble(self._spool, self._look)
            elif self._encoder is not None:
                self._container.mux(self._encoder.finish())
            if self._sound is not None:
                for packet in self._sound.finish(self._audio_end_s(self._last)):
                    self._container.mux(packet)
            self._container.close()
        self._release()
        return [self._file.commit()]

    def abort(self) -> None:
        """See `Sink.abort`."""
        if self._container is not None:
            with suppress(av.FFmpegError, OSError):  # the file goes anyway
                self._container.close()
        self._release()
        self._file.abort()

    def _release(self) -> None:
        self._container = self._encoder = self._sound = None
        if self._spool is not None:
            self._spool.close()
        if self._header is not None:
            self._header.close()
            self._header = None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with writing(self._file.path):
            try:
                yield
            except OSError:
                raise
            except av.FFmpegError as error:
                raise OutputError(f"cannot encode {self._file.path}: {error.strerror}") from error
