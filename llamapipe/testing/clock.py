"""A clock that goes only when a test says so."""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """A `llamapipe.clock.Clock` in virtual time; ``sleep`` returns at once and moves it on.

    ``slept_s`` lists every wait that was asked for, in order.
    """

    def __init__(self, now_s: float = 0.0, *, wall_s: float = 1_700_000_000.0, cpu_s: float = 0.0) -> None:
        self._now_s = now_s
        self._wall_s = wall_s
        self._cpu_s = cpu_s
        self.slept_s: list[float] = []

    def now_s(self) -> float:
        """See `llamapipe.clock.Clock.now_s`."""
        return self._now_s

    def wall_s(self) -> float:
        """See `llamapipe.clock.Clock.wall_s`."""
        return self._wall_s

    def cpu_s(self) -> float:
        """See `llamapipe.clock.Clock.cpu_s`."""
        return self._cpu_s

    def sleep(self, seconds: float) -> None:
        """Move on by ``seconds`` at once; nothing for zero or less."""
        if seconds > 0:
            self.slept_s.append(seconds)
            self.advance(seconds)

    def advance(self, seconds: float, *, cpu_s: float = 0.0) -> None:
        """Let time pass, and ``cpu_s`` of it be spent computing. Raises ValueError where time would go back."""
        if seconds < 0 or cpu_s < 0:
            raise ValueError(f"time cannot go back: advance({seconds}, cpu_s={cpu_s})")
        self._now_s += seconds
        self._wall_s += seconds
        self._cpu_s += cpu_s
