"""How long an invocation will take: what was measured beforehand, bent by what is observed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import inf

from llamapipe.catalog import BatchPoint

__all__ = ["LatencyEstimate"]

_ALPHA = 0.15  # weight of the newest observation
_PROVEN = 3  # observations
_FAR = 3.0  # times what was expected
_HALF_TRUSTED = 8  # observations after which they weigh as much as the profile does
_TAIL = 2.0  # mean deviations between the mean and the 95th percentile of a long-tailed latency
_ALIKE = 1e-6  # relative spread of the profiled times, below which a ratio is all that can be told
_LEAST_RATIO = 0.1  # of the profile, that remains however much is taken for a delay
_SLOWER = 1.25  # times the profile, from which an estimate is no longer believed when it is old
_OLD_S, _OLDEST_S = 5.0, 60.0  # when it is: doubled each time that it turns out to be right
_UNKNOWN_S = 1e-3  # an item of a stage of which nothing is known yet


class LatencyEstimate:
    """Median and 95th percentile of one candidate's invocations by batch, seconds.

    The profile gives the shape over batches. Observations give what this run takes: a ratio to the profile and a time
    that every invocation costs beyond it (a network, a busy interpreter), fitted together by least squares with
    exponentially falling weights. Were all of it taken for a ratio, small batches that a fixed delay makes many times
    slower would speak against large ones, which it hardly touches. The fit begins with the profile itself, at its
    smallest batch and at one without end: as long as only one size is tried, what it is slower by is taken for a
    delay. The deviation is smoothed likewise, and trusted the more observations there are. Without a profile the time
    an item is learned.
    """

    __slots__ = (
        "_believed_s",
        "_cache",
        "_delay_s",
        "_deviation",
        "_faded",
        "_feedback",
        "_now",
        "_points",
        "_ratio",
        "_strange",
        "_sums",
        "num_seen",
        "seen_s",
    )

    def __init__(self, points: Sequence[BatchPoint] = (), *, feedback: bool = True) -> None:
        self._points = tuple(points)
        self._feedback = feedback or not points
        self._ratio = 1.0
        self._delay_s = 0.0
        self._strange = 0  # far-off observations in a row
        self._deviation = 0.0  # of ratios to the profile
        # Weighted sums over observations of 1, z, z^2, r, z r, where z = 1 / profiled seconds and r = observed over
        # profiled seconds: r = ratio + delay z.
        self._sums = self._profiled()
        self.num_seen = 0
        self.seen_s = -inf  # when an invocation last came back
        self._believed_s = _OLD_S  # for how long it is taken to be as slow as it was
        self._faded = False  # whether that was given up, and nothing has come back since
        self._cache: dict[int, tuple[float, float]] = {}  # the profile, by batch
        self._now: dict[int, tuple[float, float]] = {}  # the same as observed lately

    def _profiled(self) -> list[float]:
        """The sums before anything was observed."""
        if not self._points:
            return [0.0] * 5
        z = 1.0 / self._points[0].median_s if self._points[0].median_s > 0 else 0.0
        return [1.0, z / 2, z * z / 2, 1.0, z / 2]

    def fade(self, now_s: float) -> None:
        """Go back to the profile where it was much slower than that, and nobody has seen for a while whether it is.

        What seems too slow is not chosen, and so not observed: one bad second would rule it out for good. The first
        invocation after that counts as much as any.
        """
        if self.num_seen < _PROVEN or now_s - self.seen_s <= self._believed_s or not self._points:
            return
        if not self._is_slower():
            return
        self._sums, self._ratio, self._delay_s, self._deviation = self._profiled(), 1.0, 0.0, 0.0
        self._strange, self.num_seen, self.seen_s, self._faded = 0, _PROVEN - 1, now_s, True
        self._now.clear()

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
        usual_s = median_s * self._ratio + self._delay_s
        observed = 1.0 + _TAIL * self._deviation * median_s / usual_s if usual_s > 0 else 1.0
        now = self._now[batch] = usual_s, usual_s * max(1.0, (1.0 - trust) * profiled + trust * observed)
        return now

    def saw(self, batch: int, busy_s: float, now_s: float = 0.0) -> None:
        """An invocation of so many items took so long."""
        if not self._feedback:
            return
        expected_s = self._prior(batch)[0]
        if expected_s <= 0.0:
            return
        self.seen_s = now_s
        ratio = self._plausible(busy_s / expected_s, self._ratio + self._delay_s / expected_s)
        self._now.clear()
        self.num_seen += 1
        if self.num_seen == 1 and not self._points:
            self._ratio = ratio
            return
        if not self._points:
            weight = max(_ALPHA, 1.0 / self.num_seen)
            self._deviation += weight * (abs(ratio - self._ratio) - self._deviation)
            self._ratio += weight * (ratio - self._ratio)
            return
        # The first ones of a profiled one move it slowly: one invocation that warms up proves nothing, three do.
        weight = _ALPHA if self.num_seen < _PROVEN else max(_ALPHA, 1.0 / self.num_seen)
        z = 1.0 / expected_s
        new = (1.0, z, z * z, ratio, z * ratio)
        self._sums = [old + weight * (one - old) for old, one in zip(self._sums, new, strict=True)]
        self._fit()
        # From the fit that knows of it: what the profile was wrong by at first is no scatter.
        self._deviation += weight * (abs(ratio - self._ratio - self._delay_s * z) - self._deviation)
        if self._faded:
            self._faded = False
            self._believed_s = min(2 * self._believed_s, _OLDEST_S) if self._is_slower() else _OLD_S

    def _is_slower(self) -> bool:
        """Than the profile, by far."""
        batch = self._points[0].batch
        return self.median_s(batch) > _SLOWER * self._prior(batch)[0]

    def _plausible(self, ratio: float, fitted: float) -> float:
        """A straggler is no news of the others: only several in a row are believed to the full."""
        if not self._points or ratio <= _FAR * fitted:
            self._strange = 0
            return ratio
        self._strange += 1
        return ratio if self._strange >= _PROVEN else _FAR * fitted

    def _fit(self) -> None:
        """Ratio and delay of least squares; neither makes an invocation shorter than the other allows."""
        total, z, zz, r, zr = self._sums
        spread = total * zz - z * z
        delay_s = (total * zr - z * r) / spread if spread > _ALIKE * total * zz else 0.0
        delay_s = min(max(0.0, delay_s), max(0.0, r - _LEAST_RATIO * total) / z) if z > 0 else 0.0
        self._delay_s = delay_s
        self._ratio = (r - delay_s * z) / total
