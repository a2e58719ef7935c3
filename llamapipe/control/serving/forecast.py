"""How many items a second will come, of queries that ask alike.

Arrivals are counted in bins of `BIN_S`. The level is the rate over the longest window, unless a shorter one contradicts
it (a window's count is Poisson: two rates differ when they are more than `_Z` standard deviations apart); then it is
that of the shorter one which does so most. A steady rate is averaged over seconds, a jump is believed after a fraction
of one. To it comes the trend of
the last seconds, where it is more than chance.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import floor, sqrt

__all__ = ["BIN_S", "Forecast"]

BIN_S = 0.05
_WINDOWS = (3, 5, 10, 20, 40, 80)  # bins
_KEPT = _WINDOWS[-1] + 1
_LEAST_KNOWN = 10.0  # bins: two queries that come together are no rate yet
_Z = 3.5


@dataclass(slots=True)
class Forecast:
    """Counts of the last seconds. Times must not go back."""

    begun_s: float | None = None
    last_s: float = 0.0  # of the last arrival
    _bins: deque[list[float]] = field(default_factory=deque)  # [bin number, items]

    def arrived(self, items: int, now_s: float) -> None:
        """So many items have come."""
        if self.begun_s is None:
            self.begun_s = now_s
        self.last_s = now_s
        number = floor(now_s / BIN_S)
        if self._bins and self._bins[-1][0] >= number:
            self._bins[-1][1] += items
        else:
            self._bins.append([number, float(items)])
            while self._bins[0][0] < number - _KEPT:
                self._bins.popleft()

    def level(self, now_s: float) -> float:
        """Items a second, now."""
        if self.begun_s is None:
            return 0.0
        here = now_s / BIN_S
        known = max(here - self.begun_s / BIN_S, _LEAST_KNOWN)
        sums = self._sums(here)
        spans = [min(window, known) * BIN_S for window in _WINDOWS]
        rate = sums[0] / spans[0]
        for place in range(1, len(_WINDOWS)):
            wider = sums[place] / spans[place]
            off = [
                abs(count - wider * span_s) / sqrt(max(wider * span_s, 1.0))
                for count, span_s in zip(sums[:place], spans[:place], strict=True)
            ]
            if max(off) > _Z:
                shorter = off.index(max(off))
                return sums[shorter] / spans[shorter]
            rate = wider
        return rate

    def trend(self, now_s: float) -> float:
        """Items a second that come to the level each second; 0 where it may be chance."""
        if self.begun_s is None or now_s - self.begun_s < 1.0:
            return 0.0
        here = now_s / BIN_S
        half = min(_WINDOWS[-1], here - self.begun_s / BIN_S) / 2
        newer = sum(items for number, items in self._bins if number >= here - half)
        older = sum(items for number, items in self._bins if here - 2 * half <= number < here - half)
        if abs(newer - older) < 2 * sqrt(max(newer + older, 1.0)):
            return 0.0
        return (newer - older) / (half * BIN_S) ** 2

    def expected(self, now_s: float, horizon_s: float) -> float:
        """Items a second at the end of the horizon; a falling trend is not trusted."""
        return self.level(now_s) + max(self.trend(now_s), 0.0) * horizon_s

    def _sums(self, here: float) -> list[float]:
        sums = [0.0] * len(_WINDOWS)
        for number, items in self._bins:
            age = here - number
            for place, window in enumerate(_WINDOWS):
                if age <= window:
                    sums[place] += items
        return sums
