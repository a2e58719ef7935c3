"""What a query takes beside its invocation: its pictures and messages on their way to the replica, and back."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Transit"]

_ABSOLUTE = 1.25  # standard deviations are so much larger than mean absolute ones
_FAR = 3.0  # standard deviations, beyond which one query says no more
_FIRST, _LATER = 0.3, 0.02  # weight of a query
_SETTLING = 3  # queries in which the first weight halves
_CHANGED, _CHANGED_S = 0.2, 0.0001  # what is used is renewed when what is seen is that far from it


@dataclass(slots=True)
class Transit:
    """Seconds on the way, as smoothed from queries that did not wait. ``mean_s`` begins with what is usual."""

    mean_s: float = 0.0
    deviation_s: float = 0.0  # standard
    _used: tuple[float, float] = (0.0, 0.0)
    _seen: int = 0

    def __post_init__(self) -> None:
        self._used = self.mean_s, self.deviation_s

    def observe(self, seconds: float) -> bool:
        """One query, in seconds of which nothing was waiting or invocation. Whether that changes what is to be used."""
        weight = max(_LATER, _FIRST / (1 + self._seen / _SETTLING))
        self._seen += 1
        farthest_s = _FAR * max(self.deviation_s, 0.1 * self.mean_s, _CHANGED_S)
        off_s = max(min(seconds - self.mean_s, farthest_s), -farthest_s)
        self.mean_s = max(self.mean_s + weight * off_s, 0.0)
        self.deviation_s += weight * (_ABSOLUTE * abs(off_s) - self.deviation_s)
        pairs = zip((self.mean_s, self.deviation_s), self._used, strict=True)
        if all(abs(seen_s - used_s) <= _CHANGED * used_s + _CHANGED_S for seen_s, used_s in pairs):
            return False
        self._used = self.mean_s, self.deviation_s
        return True

    @property
    def used(self) -> tuple[float, float]:
        """Mean and standard deviation that decisions go by, which do not change with every query."""
        return self._used
