"""What a query takes beside its invocation: its pictures and messages on their way to the replica, and back.

Mostly it is a fraction of a millisecond, and once in a hundred queries the operating system lets somebody wait for
milliseconds. That is what a latency is broken by, and so the 99th percentile is what is followed, by stochastic
approximation (Robbins and Monro, 1951): up by much when a query took longer, down by little when it did not.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Transit"]

_QUANTILE = 0.99
_STEP, _STEP_S = 0.15, 0.00005  # of what is held of it now, and at least
# What decisions go by is renewed when what is seen is that far from it: farther than one step, for one query in a
# hundred is beyond what is held of them.
_CHANGED = 0.2


@dataclass(slots=True)
class Transit:
    """``late_s``: seconds in which 99 of 100 queries that do not wait are there and back."""

    late_s: float = 0.0
    used_s: float = 0.0  # what decisions go by, which does not change with every query
    seen: int = 0  # queries

    def __post_init__(self) -> None:
        self.used_s = self.late_s

    def observe(self, seconds: float) -> bool:
        """One query, in seconds of which nothing was waiting or invocation. Whether that changes what is to be used."""
        self.seen += 1
        step_s = _STEP * self.late_s + _STEP_S
        self.late_s += (_QUANTILE if seconds > self.late_s else _QUANTILE - 1) * step_s
        self.late_s = max(self.late_s, 0.0)
        if abs(self.late_s - self.used_s) <= _CHANGED * self.used_s + _STEP_S:
            return False
        self.used_s = self.late_s
        return True
