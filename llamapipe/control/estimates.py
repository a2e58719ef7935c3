"""How long an invocation will take: what was measured beforehand, bent by what is observed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from llamapipe.catalog import BatchPoint

__all__ = ["LatencyEstimate"]

_ALPHA = 0.15  # weight of the newest observation
_HALF_TRUSTED = 8  # observations after which they weigh as much as the profile does
_TAIL = 2.0  # mean deviations between the mean and the 95th percentile of a long-tailed latency
_UNKNOWN_S = 1e-3  # an item of a stage of which nothing is known yet


class LatencyEstimate:
    """Median and 95th percentile of one candidate's invocations by batch, seconds.

    The profile gives the shape over batches; observations give the ratio of this run to the profile and its
    deviation, both exponentially smoothed, and are trusted the more of them there are. Without a profile the time an
    item is learned.
    """

    __slots__ = ("_cache", "_deviation", "_feedback", "_now", "_points", "_ratio", "num_seen")

    def __init__(self, points: Sequence[BatchPoint] = (), *, feedback: bool = True) -> None:
        self._points = tuple(points)
        self._feedback = feedback or not points
        self._ratio = 1.0
        self._deviation = 0.0
        self.num_seen = 0
        self._cache: dict[int, tuple[float, float]] = {}  # the profile, by batch
        self._now: dict[int, tuple[float, float]] = {}  # the same as observed lately

    @property
    def known(self) -> bool:
        """Whether there is anything but a guess."""
        return bool(self._points) or self.num_seen > 0

    @property
    def confidence(self) -> float:
        """Weight of what was observed against the profile, 0 to 1."""
        return self.num_seen / (self.num_seen + _HALF_TRUSTED)

    def _prior(self, batch: int) -> tuple[float, float]:
        """(median, 95th percentile) as profiled; beyond the largest batch in proportion to the items."""
        found = self._cache.get(batch)
        if found is None:
            found = self._cache[batch] = self._look_up(batch)
        return found

    def _look_up(self, batch: int) -> tuple[float, float]:
        points = self._points
        if not points:
            return _UNKNOWN_S * batch, _UNKNOWN_S * batch
        at = bisect_left([point.batch for point in points], batch)
        if at == len(points):
            last = points[-1]
            return last.median_s * batch / last.batch, last.p95_s * batch / last.batch
        upper = points[at]
        if upper.batch == batch or at == 0:
            return upper.median_s, upper.p95_s
        lower = points[at - 1]
        share = (batch - lower.batch) / (upper.batch - lower.batch)
        return (
            lower.median_s + share * (upper.median_s - lower.median_s),
            lower.p95_s + share * (upper.p95_s - lower.p95_s),
        )

    def median_s(self, batch: int) -> float:
        """What an invocation usually takes."""
        now = self._now.get(batch)
        return (now or self._bend(batch))[0]

    def p95_s(self, batch: int) -> float:
        """What all but one in twenty take at most."""
        now = self._now.get(batch)
        return (now or self._bend(batch))[1]

    def _bend(self, batch: int) -> tuple[float, float]:
        """The profile as it is now, kept until the next observation."""
        median_s, p95_s = self._prior(batch)
        trust = self.confidence if self._points else 1.0
        profiled = p95_s / median_s if median_s > 0 else 1.0
        observed = 1.0 + _TAIL * self._deviation / self._ratio if self._ratio > 0 else 1.0
        usual_s = median_s * self._ratio
        now = self._now[batch] = usual_s, usual_s * max(1.0, (1.0 - trust) * profiled + trust * observed)
        return now

    def saw(self, batch: int, busy_s: float) -> None:
        """An invocation of so many items took so long."""
        if not self._feedback:
            return
        expected_s = self._prior(batch)[0]
        if expected_s <= 0.0:
            return
        ratio = busy_s / expected_s
        self._now.clear()
        self.num_seen += 1
        if self.num_seen == 1 and not self._points:
            self._ratio = ratio
            return
        # The first observations of a profiled one move it slowly: one invocation that warms up proves nothing.
        weight = _ALPHA if self._points else max(_ALPHA, 1.0 / self.num_seen)
        self._deviation += weight * (abs(ratio - self._ratio) - self._deviation)
        self._ratio += weight * (ratio - self._ratio)
