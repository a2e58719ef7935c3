"""Whether a replica is as fast as its variant was measured to be.

Notation: r seconds of an invocation over the profile's median for its batch, x = (ln(r) - m) / s with
s^2 = noise^2 + spread^2, as the profile knows them, or what is seen where that is more: how many standard deviations it
is off. m is what the variant's replicas on that host are off on the whole (`Normal`): a machine that is busy all over
makes everybody slower, and to send queries elsewhere would help nobody. Two one-sided CUSUMs (Page, "Continuous
inspection schemes", 1954) watch x: one for slower than that, one, while INTERFERED, for as fast again. One far-off
invocation counts for at most `_CAP`, so that no single one decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, hypot, log

__all__ = ["Health", "Normal"]

_ALLOWANCE = 1.5  # standard deviations that are not held against a replica
_CAP = 5.0
_THRESHOLD = 12.0  # three far-off invocations in a row, or a longer run of lesser ones
_HICCUP_S = 0.05  # an operating system now and then lets a process wait that long
_LEAST = 0.05  # no machine is steadier than this, whatever a short profile says
_WEIGHT = 0.3  # of the newest invocation in the observed slowdown

_ABSOLUTE = 1.25  # standard deviations are so much larger than mean absolute ones
_FAR = 3.0  # standard deviations, beyond which an invocation says no more of what is normal
_MOST = log(2.0)  # whoever is slower than that is in trouble, however many they are
_FIRST, _LATER, _IN_TROUBLE = 0.2, 0.02, 0.005  # weight of an invocation in what is normal
_SETTLING = 10  # invocations in which the first weight halves


@dataclass(slots=True)
class Normal:
    """What a variant's invocations take on a host while nothing is in the way of one replica, over the profile."""

    level: float = 0.0  # m; never below 0: to be faster than profiled is no trouble
    distance: float = 0.0  # mean absolute one of ln(r) from it
    _seen: int = 0

    def observe(self, log_ratio: float, deviation: float, *, interfered: bool) -> None:
        """One invocation."""
        weight = _IN_TROUBLE if interfered else max(_LATER, _FIRST / (1 + self._seen / _SETTLING))
        off = max(min(log_ratio - self.level, _FAR * deviation), -_FAR * deviation)
        self.level = max(0.0, min(self.level + weight * off, _MOST))
        if not interfered:
            self._seen += 1
            self.distance += weight * (abs(off) - self.distance)


@dataclass(slots=True)
class Health:
    """One replica's. ``slowdown`` is what to expect of the next invocation, over the profile."""

    noise: float
    spread: float
    normal: Normal = field(default_factory=Normal)
    interfered: bool = False
    slowdown: float = 1.0
    observed: float = 1.0  # smoothed r, interfered or not
    last_s: float = 0.0  # when it was last observed
    _slow: float = 0.0
    _well: float = 0.0

    @property
    def deviation(self) -> float:
        """s, the relative standard deviation that the profile and what is seen explain."""
        return max(hypot(self.noise, self.spread), _ABSOLUTE * self.normal.distance, _LEAST)

    @property
    def bound(self) -> float:
        """The ratio above which an invocation counts against the replica."""
        return exp(self.normal.level + _ALLOWANCE * self.deviation)

    def observe(self, seconds: float, median_s: float, now_s: float) -> None:
        """One invocation has taken so long."""
        ratio = max(seconds, 1e-9) / median_s
        self.last_s = now_s
        self.observed = exp((1 - _WEIGHT) * log(self.observed) + _WEIGHT * log(ratio))
        x = max(min((log(ratio) - self.normal.level) / self.deviation, _ALLOWANCE + _CAP), -_CAP)
        self.normal.observe(log(ratio), self.deviation, interfered=self.interfered)
        if self.interfered:
            self._well = max(self._well + (2 * _ALLOWANCE - x), 0.0)
            self.slowdown = max(self.observed, 1.0)
            if self._well >= _THRESHOLD and ratio <= self.bound * exp(_ALLOWANCE * self.deviation):
                self._end()
            elif x > 2 * _ALLOWANCE:
                self._well = 0.0
            return
        self.slowdown = exp(self.normal.level)
        self._slow = max(self._slow + x - _ALLOWANCE, 0.0)
        if self._slow >= _THRESHOLD:
            self.interfered = True
            self._well = 0.0
            self.observed = self.slowdown = max(self.observed, ratio)

    def overdue_after_s(self, p95_s: float) -> float:
        """How long an invocation may last before that alone tells. Of short ones the next two tell as soon."""
        return max(p95_s * exp(self.normal.level + (_THRESHOLD + _ALLOWANCE) * self.deviation), _HICCUP_S)

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
        self.slowdown = self.observed = exp(self.normal.level)
        self._slow = self._well = 0.0
