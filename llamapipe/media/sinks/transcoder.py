"""Audio encoded anew as AAC, without gaps."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

__all__ = ["AacEncoder"]

_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_FRAME = 1024  # samples
_JITTER_S = 0.05  # that a decoder's times may be off before it counts as a gap


class AacEncoder:
    """Decodes packets, brings them to their place, fills gaps with silence, and encodes."""

    def __init__(self, output: Any, source: Any) -> None:
        context = source.codec_context
        self._rate = context.sample_rate if context.sample_rate in _RATES else 48000
        self._layout = "mono" if context.layout.nb_channels == 1 else "stereo"
        self._channels = 1 if self._layout == "mono" else 2
        self.stream = output.add_stream("aac", rate=self._rate)
        self.stream.codec_context.layout = self._layout
        self.stream.codec_context.bit_rate = 80_000 * self._channels
        self._resampler: Any = None
        self._at: int | None = None  # samples that the output holds, from zero

    def take(self, packet: Any, shift_s: Fraction, end_s: Fraction | None) -> Iterator[Any]:
        """Packets that come out for this one going in. Samples before zero and from ``end_s`` on are cut off."""
        limit = None if end_s is None else round((end_s + shift_s) * self._rate)
        for time_s, pieces in self._decoded(packet):
            at = round((time_s + shift_s) * self._rate)
            for samples in pieces:
                yield from self._place(samples, at, limit)
                at += samples.shape[1]

    def _decoded(self, packet: Any) -> list[tuple[Fraction, list[NDArray[np.float32]]]]:
        """When each of the packet's frames begins, and its samples at the output's rate."""
        decoded: list[tuple[Fraction, list[NDArray[np.float32]]]] = []
        try:
            for frame in packet.decode():
                if frame.pts is not None:
                    time_s = Fraction(frame.pts * frame.time_base)
                    frame.pts = None
                    decoded.append((time_s, [piece.to_ndarray() for piece in self._resampled(frame)]))
        except av.FFmpegError:
            pass  # silence will stand for what cannot be decoded
        return decoded

    def _resampled(self, frame: Any) -> Any:
        if self._resampler is not None:
            try:
                return self._resampler.resample(frame)
            except ValueError:
                pass  # the source changed its rate or layout on the way
        self._resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=self._rate)
        return self._resampler.resample(frame)

    def finish(self) -> Iterator[Any]:
        """The last packets."""
        yield from self.stream.encode(None)

    def _place(self, samples: NDArray[np.float32], at: int, limit: int | None) -> Iterator[Any]:
        if self._at is not None and abs(at - self._at) <= _JITTER_S * self._rate:
            at = self._at
        first = max(0, (self._at or 0) - at, -at)
        last = samples.shape[1] if limit is None else min(samples.shape[1], limit - at)
        if first >= last:
            return
        if self._at is None:
            self._at = at + first
        while self._at < at:
            yield from self._encode(np.zeros((self._channels, min(_FRAME, at - self._at)), np.float32))
        yield from self._encode(samples[:, first:last])

    def _encode(self, samples: NDArray[np.float32]) -> Iterator[Any]:
        assert self._at is not None
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=self._layout)
        frame.sample_rate = self._rate
        frame.pts, frame.time_base = self._at, Fraction(1, self._rate)
        self._at += samples.shape[1]
        yield from self.stream.encode(frame)
