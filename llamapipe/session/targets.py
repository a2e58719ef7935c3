"""What a configuration has to meet: a floor of accuracy, a latency or a deadline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from llamapipe.tune import Constraint, Interval, Predicted, Trend

__all__ = ["Targets"]

_LOW_WIDTH = 0.01  # how sure the end of an interval is
_FULL = 1.0  # share of the machine that a paced video may take
_UNSURE = 1 / 3  # of the time that a trial took: a run, which is longer and warm, may take that much less


@dataclass(frozen=True, slots=True)
class Targets:
    """What a configuration has to meet."""

    floor: float  # of accuracy
    latency: tuple[float, float] | None = None  # (quantile, seconds)
    seconds: float | None = None  # for all frames
    num_frames: int = 0  # of the whole video
    fps: float = 25.0

    def measured(self, predicted: Predicted) -> dict[str, Interval]:
        """The constrained values of what was found, by the search's names."""
        found: dict[str, Interval] = {}
        if predicted.accuracy_low is not None:
            low = predicted.accuracy_low
            found["accuracy"] = Interval(low, low - _LOW_WIDTH, low + _LOW_WIDTH)
        pace = max(predicted.frames_per_s, 1e-6)
        if self.latency is not None:
            found["load"] = _about(1 / pace, 0.1)
            late_s = self.latency_s(predicted)
            if late_s is not None:
                found["latency"] = _about(late_s, 0.2)
        if self.seconds is not None:
            found["time"] = _about(1 / pace, 0.1)
        return found

    def constraints(
        self,
        *,
        accuracy: bool,
        trend: Trend | None = None,
        pace: Trend | None = None,
        latency: Trend | None = None,
    ) -> list[Constraint]:
        """As the search takes them. ``trend`` is of accuracy; ``pace`` and ``latency`` of logarithms of seconds."""
        found = [Constraint("accuracy", self.floor, at_least=True, trend=trend)] if accuracy else []
        if self.latency is not None:
            found += [
                Constraint("load", _FULL / self.fps, logarithmic=True, trend=pace),
                Constraint("latency", self.latency[1], logarithmic=True, trend=latency),
            ]
        if self.seconds is not None:
            found.append(Constraint("time", self.seconds / max(1, self.num_frames), logarithmic=True, trend=pace))
        return found

    def shortfall(self, predicted: Predicted) -> float:
        """By how much the worst of them is missed, relative; 0: all are met."""
        missed = [0.0]
        if predicted.accuracy_low is not None and self.floor > 0:
            missed.append(1 - predicted.accuracy_low / self.floor)
        pace = max(predicted.frames_per_s, 1e-6)
        if self.latency is not None:
            missed.append(1 - pace / (self.fps * _FULL))
            late_s = self.latency_s(predicted)
            missed.append(inf if late_s is None else 1 - self.latency[1] / late_s)
        if self.seconds is not None:
            missed.append(1 - self.seconds * pace / max(1, self.num_frames))
        return max(missed)

    def close(self, predicted: Predicted) -> bool:
        """Whether nothing but time is missed, and that by no more than a short trial is unsure of."""
        right = predicted.accuracy_low is None or predicted.accuracy_low >= self.floor
        keeps_up = self.latency is None or self.fps <= _FULL * predicted.frames_per_s
        return right and keeps_up and self.shortfall(predicted) <= _UNSURE

    def worth_pacing(self, predicted: Predicted) -> bool:
        """Whether all but latency is met, so that latency decides."""
        if self.latency is None:
            return False
        return replace(self, latency=None).shortfall(predicted) == 0 and self.fps <= _FULL * predicted.frames_per_s

    def latency_s(self, predicted: Predicted) -> float | None:
        """At the objective's quantile; None where it was not measured, or there is no such objective."""
        if self.latency is None:
            return None
        ms = {0.5: predicted.p50_ms, 0.95: predicted.p95_ms, 0.99: predicted.p99_ms}.get(self.latency[0])
        return None if ms is None else ms / 1000


def _about(value: float, deviation: float) -> Interval:
    return Interval(value, value * (1 - deviation), value * (1 + deviation))
