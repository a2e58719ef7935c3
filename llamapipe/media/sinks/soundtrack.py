"""The source's audio, read beside the pictures and written in step with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

__all__ = ["SourceHeader", "Soundtrack", "open_header"]

_COPIED = {  # codecs that players expect inside each container; anything else becomes AAC
    "mp4": frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"}),
    "matroska": frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "alac", "opus", "vorbis", "flac", "dts"}),
}


@dataclass(slots=True)
class SourceHeader:
    """A second, lazy look into a source file: what `SourceInfo` does not say, and its audio."""

    container: Any
    audio: Any  # an av.AudioStream or None
    start_s: float | None  # of the earliest stream that counts, pictures or audio
    end_s: float | None  # of the pictures
    aspect: Fraction | None  # of one pixel, as stored

    def close(self) -> None:
        """Close the file."""
        self.container.close()


def open_header(uri: str, *, audio: bool) -> SourceHeader | None:
    """The header of a file with pictures, or None for anything else: a stream must not be opened twice."""
    if not uri or not Path(uri).is_file():
        return None
    container: Any = None
    try:
        container = av.open(uri, metadata_errors="ignore")
        video = container.streams.video[0]
    except (av.FFmpegError, OSError, IndexError):
        if container is not None:
            container.close()
        return None
    sound = container.streams.audio[0] if audio and container.streams.audio else None
    if sound is not None and (sound.codec_context is None or not sound.codec_context.sample_rate):
        sound = None  # a codec that FFmpeg does not know
    starts = [float(s.start_time * s.time_base) for s in (video, sound) if s is not None and s.start_time is not None]
    end_s = None
    if video.duration is not None and video.start_time is not None:
        end_s = float((video.start_time + video.duration) * video.time_base)
    return SourceHeader(container, sound, min(starts, default=None), end_s, video.sample_aspect_ratio)


class Soundtrack:
    """Feeds one audio stream of an output from the source, packet by packet.

    ``origin_s`` is the media time that becomes zero; audio before ``start_s`` and from ``end_s`` on is left out.
    Where the output's container takes the codec, packets are copied: the cut is then exact to a packet (about
    20 ms). Everything else is encoded anew as AAC and cut exactly. A pass of a loop begins every ``period_s``.
    """

    def __init__(
        self,
        header: SourceHeader,
        output: Any,
        kind: str,
        *,
        origin_s: float,
        start_s: float,
        end_s: float | None,
        loop: int,
        period_s: float | None,
    ) -> None:
        self._input = header.container
        self._stream = header.audio
        self._origin_s = origin_s
        self._start_s = start_s
        self._end_s = end_s
        self._passes = loop if period_s is not None else 1
        self._period_s = period_s or 0.0
        self._base = Fraction(self._stream.time_base)
        name = self._stream.codec_context.name
        self.copied = name in _COPIED[kind] and _fits(self._stream)
        self._encoder: Any = None
        if self.copied:
            self._output = output.add_stream_from_template(self._stream)
        else:
            self._encoder = _Transcoder(output, self._stream)
            self._output = self._encoder.stream
        self._packets = self._all()
        self._next: Any = None
        self._last_dts: int | None = None

    def until(self, time_s: float) -> Iterator[Any]:
        """Packets that begin before ``time_s`` of the output, in order, ready to be muxed."""
        while True:
            if self._next is None:
                self._next = next(self._packets, None)
            if self._next is None:
                return
            begin_s, packets = self._next
            if begin_s >= time_s:
                return
            self._next = None
            yield from packets

    def finish(self) -> Iterator[Any]:
        """What the audio encoder still holds."""
        if self._encoder is not None:
            yield from self._encoder.finish()

    def _all(self) -> Iterator[tuple[float, list[Any]]]:
        for number in range(self._passes):
            shift_s = number * self._period_s - self._origin_s
            if number or self._start_s > 1.0:
                self._seek(self._start_s)
            yield from self._one_pass(shift_s, last=number + 1 == self._passes)

    def _seek(self, time_s: float) -> None:
        with suppress(av.FFmpegError):  # what cannot seek is read from where it stands
            self._input.seek(int((time_s - 0.5) / self._base) if time_s > 0.5 else 0, stream=self._stream)

    def _one_pass(self, shift_s: float, *, last: bool) -> Iterator[tuple[float, list[Any]]]:
        end_s = self._end_s
        if not last:
            end_s = min(end_s if end_s is not None else float("inf"), self._start_s + self._period_s)
        held: Any = None  # the packet before the first: its tail, or a codec's run-up
        try:
            for packet in self._input.demux(self._stream):
                if packet.pts is None or not packet.size:
                    continue
                begin_s = float(packet.pts * self._base)
                if end_s is not None and begin_s >= end_s:
                    return
                if begin_s + float((packet.duration or 0) * self._base) <= self._start_s:
                    held = packet
                    continue
                if held is not None and self._encoder is None and not last:
                    held = None
                yield begin_s + shift_s, self._made(packet, shift_s, end_s)
        except av.FFmpegError:
            return  # audio that breaks off ends there: the pictures count

    def _made(self, packet: Any, shift_s: float, end_s: float | None) -> list[Any]:
        if self._encoder is not None:
            made: list[Any] = self._encoder.take(packet, self._start_s, end_s, shift_s)
            return made
        shift = round(shift_s / self._base)
        packet.pts += shift
        packet.dts = packet.pts if packet.dts is None else packet.dts + shift
        if self._last_dts is not None and packet.dts <= self._last_dts:  # where two passes meet
            return []
        self._last_dts = packet.dts
        packet.stream = self._output
        return [packet]


def _fits(stream: Any) -> bool:
    """Whether a copy can be played: AAC without its configuration, as some recorders write it, cannot."""
    context = stream.codec_context
    return bool(context.sample_rate and context.layout.nb_channels)


class _Transcoder:
    """Decodes, cuts to the sample, and encodes as AAC."""

    def __init__(self, output: Any, source: Any) -> None:
        rate = min(source.codec_context.sample_rate, 48000)
        rate = rate if rate in (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000) else 48000
        layout = "mono" if source.codec_context.layout.nb_channels == 1 else "stereo"
        self.stream = output.add_stream("aac", rate=rate)
        self.stream.codec_context.layout = layout
        self.stream.codec_context.bit_rate = 96_000 if layout == "mono" else 160_000
        self._rate = rate
        self._resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        self._written: int | None = None  # samples, of the output's clock

    def take(self, packet: Any, start_s: float, end_s: float | None, shift_s: float) -> list[Any]:
        """Packets that came out for this one going in."""
        packets: list[Any] = []
        try:
            frames = packet.decode()
        except av.FFmpegError:
            return packets  # a damaged packet leaves a gap
        for frame in frames:
            begin_s = frame.time
            if begin_s is None or begin_s + frame.samples / frame.sample_rate <= start_s:
                continue
            if end_s is not None and begin_s >= end_s:
                continue
            frame.pts = None
            at = round((begin_s + shift_s) * self._rate)
            for piece in self._resampler.resample(frame):
                packets += self._put(piece, at)
                at += piece.samples
        return packets

    def _put(self, piece: Any, at: int) -> list[Any]:
        # Times of a decoder jitter by a sample or two; only a real gap moves the clock.
        if self._written is None or abs(at - self._written) > self._rate // 20:
            self._written = max(at, self._written or at)
        piece.pts = self._written
        piece.time_base = Fraction(1, self._rate)
        self._written += piece.samples
        packets: list[Any] = self.stream.encode(piece)
        return packets

    def finish(self) -> list[Any]:
        """The last packets."""
        packets: list[Any] = self.stream.encode(None)
        return packets
