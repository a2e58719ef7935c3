"""A clock that stands still while its owner was held up.

A process that was paused (a container's pause, SIGSTOP, a debugger) finds on its return that everybody has been silent
for as long as it could not listen. On this clock nothing has become late meanwhile.
"""

from __future__ import annotations

import threading

from llamapipe.clock import Clock

__all__ = ["AwakeClock"]

_HELD_UP_S = 1.0  # between two looks at the clock: twenty times what is usual


class AwakeClock:
    """See `llamapipe.clock.Clock`. Any thread may look at it. Its owner looks often: else he was held up."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._owner = -1
        self._looked_s = 0.0
        self.held_up_s = 0.0  # together, so far

    def own(self) -> None:
        """The calling thread is the owner from now on."""
        self._looked_s = self._clock.now_s()
        self._owner = threading.get_ident()

    def now_s(self) -> float:
        """Seconds in which the owner was not held up. To others it may go back by what he is yet to notice."""
        now_s = self._clock.now_s()
        if threading.get_ident() == self._owner:
            gap_s, self._looked_s = now_s - self._looked_s, now_s
            if gap_s > _HELD_UP_S:
                self.held_up_s += gap_s
        return now_s - self.held_up_s

    def wall_s(self) -> float:
        """See `llamapipe.clock.Clock.wall_s`."""
        return self._clock.wall_s()

    def cpu_s(self) -> float:
        """See `llamapipe.clock.Clock.cpu_s`."""
        return self._clock.cpu_s()

    def sleep(self, seconds: float) -> None:
        """See `llamapipe.clock.Clock.sleep`."""
        self._clock.sleep(seconds)
