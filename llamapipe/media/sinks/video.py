"""Video files with the source's timing and audio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from llamapipe.data import Image
from llamapipe.errors import OutputError, UsageError
from llamapipe.media.contract import Outcome, SinkContext, SinkItem
from llamapipe.media.sinks.encoder import PictureEncoder
from llamapipe.media.sinks.files import PendingFile, target, writing
from llamapipe.media.sinks.soundtrack import Soundtrack, SourceHeader, open_header

__all__ = ["VideoSink"]

_KINDS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mp4", ".mkv": "matroska"}


class VideoSink:
    """Encodes the first picture that its inputs give for each frame, at the frame's own time.

    Times are those of the source (variable rate included), moved so that the file begins at zero. A failed or
    dropped frame leaves a gap, in which players show the picture before; downstream of a stage that hides
    something it is black instead. Filtered and skipped frames leave a gap. Audio of files is copied, or
    encoded as AAC where the container does not take it, cut and repeated like the pictures; live sources are
    written without. Matroska counts in milliseconds: times are rounded to that. Without any delivered picture
    there is no file.
    """

    def __init__(self, context: SinkContext, params: Mapping[str, Any], default_path: str) -> None:
        self._context = context
        self._params = params
        path = target(context, default_path)
        if path.suffix.lower() not in _KINDS:
            raise UsageError(f"video sink cannot write {path.name!r}: expected a name in {', '.join(_KINDS)}")
        self._kind = _KINDS[path.suffix.lower()]
        self._file = PendingFile(path, force=context.force)
        self._base = context.info.time_base
        self._header: SourceHeader | None = None
        self._container: Any = None
        self._encoder: PictureEncoder | None = None
        self._sound: Soundtrack | None = None
        self._origin: int | None = None  # pts that becomes zero
        self._last: int | None = None  # pts of the picture before, from zero
        self._step = self._nominal_step()
        self._slot: int | None = None  # of the picture before, where fps is capped
        self._early: list[int] = []  # black pictures before the first real one, whose size they get

    def _nominal_step(self) -> int:
        """Ticks that a picture lasts as far as is known."""
        fps = self._context.info.fps
        return max(1, round(1 / fps / self._base)) if fps else 0

    def write(self, item: SinkItem) -> None:
        """See `Sink.write`."""
        if item.outcome is Outcome.FAILED and not item.stage:
            return  # never was a picture: there is no time to put a black one at
        if self._origin is None:
            self._begin(item.pts)
        image = self._image(item)
        hidden = self._context.hides and item.outcome in (Outcome.FAILED, Outcome.DROPPED)
        if image is None and not hidden:
            return
        assert self._origin is not None
        pts = item.pts - self._origin
        if self._last is not None and pts <= self._last:
            pts = self._last + 1  # two pictures at one time: codecs want them apart
        if self._surplus(pts):
            return
        with self._writing():
            self._put(image, pts)

    def _image(self, item: SinkItem) -> Image | None:
        values = (item.values.get(selector) for selector in self._context.inputs)
        return next((value for value in values if isinstance(value, Image)), None)

    def _surplus(self, pts: int) -> bool:
        fps = self._params["fps"]
        if fps is None:
            return False
        slot = int(float(pts * self._base) * fps + 1e-6)
        if slot == self._slot:
            return True
        self._slot = slot
        return False

    def _begin(self, first_pts: int) -> None:
        info = self._context.info
        self._origin = first_pts
        if info.live:
            return
        self._header = open_header(self._context.source_uri, audio=self._params["audio"] and info.has_audio)
        header = self._header
        if header is not None and header.start_s is not None and not info.start_s:
            # Audio that begins before the pictures keeps its lead, as it has in the source.
            self._origin = min(first_pts, round(Fraction(header.start_s) / self._base))

    def _put(self, image: Image | None, pts: int) -> None:
        if self._encoder is None:
            if image is None:
                self._early.append(pts)
                self._last = pts
                return
            self._encoder = self._open(image)
            for early in self._early:
                self._container.mux(self._encoder.encode(None, early, self._step))
        if self._last is not None and not self._nominal_step():
            self._step = pts - self._last
        self._last = pts
        duration = _duration(image, self._base) or self._step
        self._step = duration
        self._container.mux(self._encoder.encode(image, pts, duration))
        if self._sound is not None:
            self._container.mux(self._sound.until(float(pts * self._base)))

    def _open(self, image: Image) -> PictureEncoder:
        self._container = av.open(
            str(self._file.partial),
            "w",
            format="mp4" if self._kind == "mp4" else "matroska",
            options={"movflags": "+faststart"} if self._kind == "mp4" else {},
        )
        header, info = self._header, self._context.info
        aspect = header.aspect if header is not None else None
        if aspect and info.rotation % 180:
            aspect = 1 / aspect
        encoder = PictureEncoder(
            self._container, image, self._params, time_base=self._base, rate=info.fps, aspect=aspect
        )
        if header is not None and header.audio is not None and self._origin is not None:
            origin_s = float(self._origin * self._base)
            self._sound = Soundtrack(
                header,
                self._container,
                self._kind,
                origin_s=origin_s,
                start_s=origin_s,
                end_s=self._context.end_s,
                loop=self._context.loop,
                period_s=None,
            )
        return encoder

    def close(self) -> Sequence[Path]:
        """See `Sink.close`."""
        if self._encoder is None or self._last is None:
            self.abort()
            return []
        try:
            with self._writing():
                self._container.mux(self._encoder.finish())
                if self._sound is not None:
                    self._container.mux(self._sound.until(float((self._last + self._step) * self._base)))
                    self._container.mux(self._sound.finish())
                self._container.close()
        except BaseException:
            self.abort()
            raise
        self._release()
        return [self._file.commit()]

    def abort(self) -> None:
        """See `Sink.abort`."""
        try:
            if self._container is not None:
                self._container.close()
        except (av.FFmpegError, OSError):
            pass  # the file goes anyway
        self._release()
        self._file.abort()

    def _release(self) -> None:
        self._container = self._encoder = self._sound = None
        self._early.clear()
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


def _duration(image: Image | None, base: Fraction) -> int:
    """Ticks that the source shows this picture, 0 where it does not say."""
    frame = image.native.frame() if image is not None and image.native is not None else None
    if frame is None or not frame.duration or not frame.time_base:
        return 0
    ticks: int = round(frame.duration * Fraction(frame.time_base) / base)
    return ticks
