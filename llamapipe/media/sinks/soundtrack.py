"""The source's audio, read beside the pictures and written in step with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from llamapipe.media.sinks.header import SourceHeader
from llamapipe.media.sinks.transcoder import AacEncoder

__all__ = ["Cut", "Soundtrack"]

_COPIED = {  # codecs that players expect inside each container; anything else becomes AAC
    "mp4": frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "alac", "opus", "libopus"}),
    "matroska": frozenset(
        {"aac", "mp3", "mp3float", "ac3", "eac3", "alac", "opus", "libopus", "vorbis", "libvorbis", "flac", "dca"}
    ),
}


@dataclass(frozen=True, slots=True)
class Cut:
    """Which audio is wanted, in seconds of the file, and where it goes."""

    origin_s: Fraction  # becomes zero
    start_s: Fraction
    end_s: Fraction | None  # exclusive
    passes: int = 1
    pass_s: Fraction = Fraction(0)  # from one pass of a loop to the next


class Soundtrack:
    """Feeds one audio stream of an output from the source, packet by packet.

    Where the output's container takes the codec, packets are copied: a cut is then exact to a packet (about
    20 ms). Everything else is encoded anew as AAC, and cut to the sample.
    """

    def __init__(self, header: SourceHeader, output: Any, kind: str, cut: Cut) -> None:
        self._input = header.container
        self._stream = header.audio
        self._cut = cut
        self._base = Fraction(self._stream.time_base)
        # A codec's run-up lies before zero. Matroska only takes it from one that declared it, else all else moves.
        self._runs_up = kind == "mp4" or "matroska" in self._input.format.name
        self._encoder: AacEncoder | None = None
        if self._stream.codec_context.name in _COPIED[kind]:
            self._output = output.add_stream_from_template(self._stream)
        else:
            self._encoder = AacEncoder(output, self._stream)
        self._packets = self._all()
        self._next: tuple[Fraction, Any, Fraction, Fraction | None] | None = None
        self._last_dts: int | None = None

    @property
    def copied(self) -> bool:
        """Whether packets are copied as they are."""
        return self._encoder is None

    def until(self, time_s: Fraction) -> Iterator[Any]:
        """Packets to mux, in order, that begin before ``time_s`` of the output."""
        return self._pull(time_s, cut=False)

    def finish(self, end_s: Fraction | None) -> Iterator[Any]:
        """The last packets: up to ``end_s`` of the output; None: all that is left."""
        yield from self._pull(end_s, cut=True)
        if self._encoder is not None:
            yield from self._encoder.finish()

    def _pull(self, time_s: Fraction | None, *, cut: bool) -> Iterator[Any]:
        while True:
            if self._next is None:
                self._next = next(self._packets, None)
            if self._next is None:
                return
            begin_s, packet, shift_s, end_s = self._next
            if time_s is not None and begin_s + shift_s >= time_s:
                return
            self._next = None
            if self._encoder is not None:
                if cut and time_s is not None:
                    end_s = time_s - shift_s if end_s is None else min(end_s, time_s - shift_s)
                yield from self._encoder.take(packet, shift_s, end_s)
            elif self._moved(packet, shift_s):
                yield packet

    def _moved(self, packet: Any, shift_s: Fraction) -> bool:
        """Put a packet to its place in the output; False where it overlaps what is there."""
        shift = round(shift_s / self._base)
        packet.dts = (packet.pts if packet.dts is None else packet.dts) + shift
        packet.pts += shift
        if self._last_dts is not None and packet.dts <= self._last_dts:
            return False
        self._last_dts = packet.dts
        packet.stream = self._output
        return True

    def _all(self) -> Iterator[tuple[Fraction, Any, Fraction, Fraction | None]]:
        cut = self._cut
        for number in range(cut.passes):
            end_s = cut.end_s
            if number + 1 < cut.passes:
                pass_end_s = cut.start_s + cut.pass_s
                end_s = pass_end_s if end_s is None else min(end_s, pass_end_s)
            if cut.passes > 1 or cut.start_s > 1:
                self._seek(cut.start_s)
            yield from self._one_pass(number * cut.pass_s - cut.origin_s, end_s, first=number == 0)

    def _seek(self, time_s: Fraction) -> None:
        with suppress(av.FFmpegError):  # what cannot seek is read from where it stands
            self._input.seek(round((time_s - Fraction(1, 2)) / self._base), stream=self._stream)

    def _one_pass(
        self, shift_s: Fraction, end_s: Fraction | None, *, first: bool
    ) -> Iterator[tuple[Fraction, Any, Fraction, Fraction | None]]:
        start_s = self._cut.start_s
        before: Any = None  # the packet before the first: decoders need it to begin cleanly
        try:
            for packet in self._input.demux(self._stream):
                if packet.pts is None or not packet.size or packet.is_corrupt:
                    continue
                begin_s = packet.pts * self._base
                if end_s is not None and begin_s >= end_s:
                    return
                if begin_s + (packet.duration or 0) * self._base <= start_s:
                    before = packet
                    continue
                if before is not None and first and self._runs_up and self._encoder is None:
                    yield before.pts * self._base, before, shift_s, end_s
                before = None
                if begin_s < start_s and not self._runs_up and self._encoder is None:
                    continue
                yield begin_s, packet, shift_s, end_s
        except av.FFmpegError:
            return  # audio that breaks off ends there: the pictures count
