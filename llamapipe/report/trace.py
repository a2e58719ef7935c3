"""What is kept of a run for its report, in bounded memory however long the run is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Image
from llamapipe.media.contract import SinkItem
from llamapipe.report.summary import Quantiles

__all__ = ["LatencyTrace", "PictureStrip", "Span", "TraceRecorder"]

_RATIO = math.log(1.01)  # bins one per cent wide
_SMALLEST_S = 1e-7


class Span(msgspec.Struct, frozen=True):
    """One invocation. Times in seconds since the run began."""

    worker: str
    stage: str
    start_s: float
    end_s: float
    items: int
    first_seq: int
    failed: int = 0
    choice: int = 0  # of the stage's candidates


class TraceRecorder:
    """Invocations, thinned evenly once there are too many."""

    def __init__(self, max_spans: int = 20_000) -> None:
        self._max_spans = max_spans
        self._stride = 1
        self._seen = 0
        self.spans: list[Span] = []

    @property
    def kept_share(self) -> float:
        """Share of invocations that ``spans`` holds."""
        return len(self.spans) / self._seen if self._seen else 1.0

    def add(self, span: Span) -> None:
        """Keep an invocation, if it is its turn."""
        if self._seen % self._stride == 0:
            self.spans.append(span)
            if len(self.spans) > self._max_spans:
                self.spans = self.spans[::2]
                self._stride *= 2
        self._seen += 1


@dataclass(slots=True)
class LatencyTrace:
    """Latencies: exact count, mean and maximum; quantiles to one per cent; a thinned series over time."""

    max_points: int = 2_000
    count: int = 0
    total_s: float = 0.0
    max_s: float = 0.0
    points: list[tuple[float, float]] = field(default_factory=list)  # (when, latency), seconds
    _bins: dict[int, int] = field(default_factory=dict)
    _stride: int = 1

    def add(self, at_s: float, latency_s: float) -> None:
        """Count one latency."""
        if self.count % self._stride == 0:
            self.points.append((at_s, latency_s))
            if len(self.points) > self.max_points:
                self.points = self.points[::2]
                self._stride *= 2
        self.count += 1
        self.total_s += latency_s
        self.max_s = max(self.max_s, latency_s)
        bin = math.ceil(math.log(max(latency_s, _SMALLEST_S)) / _RATIO)
        self._bins[bin] = self._bins.get(bin, 0) + 1

    def quantile(self, q: float) -> float | None:
        """The q-quantile (0..1) in seconds, never below the true one by more than nothing, above by 1 %."""
        if not self.count:
            return None
        rank = math.ceil(q * self.count)
        seen = 0
        for bin in sorted(self._bins):
            seen += self._bins[bin]
            if seen >= rank:
                return min(self.max_s, math.exp(bin * _RATIO))
        return self.max_s

    def quantiles(self) -> Quantiles | None:
        """In milliseconds; None without any latency."""
        p50, p95, p99 = self.quantile(0.5), self.quantile(0.95), self.quantile(0.99)
        if p50 is None or p95 is None or p99 is None:
            return None
        return Quantiles(p50 * 1e3, p95 * 1e3, p99 * 1e3, self.max_s * 1e3, self.total_s / self.count * 1e3)


class PictureStrip:
    """A few delivered pictures of a run, evenly spread, as JPEG.

    Frames wait while a picture is kept, so little is done then, and seldom where somebody waits for them: pictures are
    made smaller, at least ``apart_s`` of media time from the last one, and encoded when they are asked for.
    """

    def __init__(self, most: int = 6, width: int = 480, apart_s: float = 0.0) -> None:
        self._most = most
        self._width = width
        self._apart_s = apart_s
        self._stride = 1
        self._seen = 0
        self._last_s = -math.inf
        self._kept: list[tuple[str, NDArray[np.uint8]]] = []  # caption, pixels

    @property
    def pictures(self) -> Sequence[tuple[str, bytes]]:
        """(caption, JPEG) in order of time, at most as many as asked for."""
        import cv2

        kept = self._kept
        if len(kept) > self._most:
            step = (len(kept) - 1) / (self._most - 1)
            kept = [kept[round(i * step)] for i in range(self._most)]
        encoded = [(text, cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])) for text, pixels in kept]
        return [(text, jpeg.tobytes()) for text, (there, jpeg) in encoded if there]

    def show(self, picture: Image, item: SinkItem) -> None:
        """Keep a picture, if it is its turn."""
        turn = self._seen % self._stride == 0 and abs(item.pts_s - self._last_s) >= self._apart_s
        self._seen += 1
        if not turn:
            return
        import cv2

        self._last_s = item.pts_s
        width = min(self._width, picture.width)
        size = (width, max(1, round(picture.height * width / picture.width)))
        # Of any size a copy: the picture's own memory is given back.
        pixels = np.asarray(cv2.resize(picture.bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
        self._kept.append((f"{item.stream}, frame {item.seq}, {item.pts_s:.2f} s", pixels))
        if len(self._kept) >= 2 * self._most:
            self._kept = self._kept[::2]
            self._stride *= 2
