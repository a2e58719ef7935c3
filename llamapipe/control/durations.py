"""How long invocations take lately: what a straggler and a hanging worker are told by."""

from __future__ import annotations

from collections import deque

__all__ = ["Durations"]

_REMEMBERED = 64  # durations that the percentile is taken of
_REFRESH = 8  # durations between two looks at it


class Durations:
    """95th percentile of the latest invocations of a stage's candidate, seconds."""

    __slots__ = ("_last", "_unseen", "_value")

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=_REMEMBERED)
        self._unseen = 0
        self._value: float | None = None

    def add(self, busy_s: float) -> None:
        """One more."""
        self._last.append(busy_s)
        self._unseen += 1
        if self._unseen >= _REFRESH or self._value is None:
            self._unseen = 0
            self._value = sorted(self._last)[min(len(self._last) - 1, int(0.95 * len(self._last)))]

    @property
    def p95_s(self) -> float | None:
        """None before the first."""
        return self._value

    @property
    def settled(self) -> bool:
        """Whether there are enough to go by."""
        return len(self._last) >= _REFRESH
