"""Whether a replica is as fast as its variant was measured to be.

Notation: r seconds of an invocation over the profile's median for its batch, x = ln(r) / s with
s^2 = noise^2 + spread^2: how many standard deviations it is off, as the profile knows them. Two one-sided CUSUMs
(Page, "Continuous inspection schemes", 1954) watch x: one for slower than profiled, one, while INTERFERED, for as fast
again. One far-off invocation counts for at most `_CAP`, so that no single one decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, hypot, log

__all__ = ["Health"]

_ALLOWANCE = 1.5  # standard deviations that are not held against a replica
_CAP = 5.0
_THRESHOLD = 9.0  # three far-off invocations in a row, or a longer run of lesser ones
_LEAST = 0.05  # no machine is steadier than this, whatever a short profile says
_WEIGHT = 0.3  # of the newest invocation in the observed slowdown


@dataclass(slots=True)
class Health:
    """One replica's. ``slowdown`` is what to expect of the next invocation, over the profile."""

    noise: float
    spread: float
    interfered: bool = False
    slowdown: float = 1.0
    observed: float = 1.0  # smoothed r, interfered or not
    last_s: float = 0.0  # when it was last observed
    _slow: float = 0.0
    _well: float = 0.0

    @property
    def deviation(self) -> float:
        """s, the relative standard deviation that the profile explains."""
        return max(hypot(self.noise, self.spread), _LEAST)

    @property
    def bound(self) -> float:
        """The ratio above which an invocation counts against the replica."""
        return exp(_ALLOWANCE * self.deviation)

    def observe(self, seconds: float, median_s: float, now_s: float) -> None:
        """One invocation has taken so long."""
        ratio = max(seconds, 1e-9) / median_s
        self.last_s = now_s
        self.observed = exp((1 - _WEIGHT) * log(self.observed) + _WEIGHT * log(ratio))
        x = max(min(log(ratio) / self.deviation, _ALLOWANCE + _CAP), -_CAP)
        if self.interfered:
            self._well = max(self._well + (2 * _ALLOWANCE - x), 0.0)
            self.slowdown = max(self.observed, 1.0)
            if self._well >= _THRESHOLD and ratio <= self.bound**2:
                self._end()
            elif x > 2 * _ALLOWANCE:
                self._well = 0.0
            return
        self._slow = max(self._slow + x - _ALLOWANCE, 0.0)
        if self._slow >= _THRESHOLD:
            self.interfered = True
            self._well = 0.0
            self.observed = self.slowdown = max(self.observed, ratio)

    def overdue_after_s(self, p95_s: float) -> float:
        """How long an invocation may last before that alone tells."""
        return p95_s * exp((_THRESHOLD + _ALLOWANCE) * self.deviation)

    def overdue(self, elapsed_s: float, p95_s: float, now_s: float) -> bool:
        """An invocation has not ended though so long under way; True: that alone says that something is in its way."""
        if self.interfered or elapsed_s < self.overdue_after_s(p95_s) - 1e-9:
            return False
        self.interfered = True
        self._well = 0.0
        self.observed = self.slowdown = elapsed_s / p95_s
        self.last_s = now_s
        return True

    def _end(self) -> None:
        self.interfered = False
        self.slowdown = self.observed = 1.0
        self._slow = self._well = 0.0
