"""Whether what a worker is running takes too long: first for a second worker to be asked, then for it to be ended.

A timer for each invocation would nearly always ring after it is over, and whoever drives control would be woken for
nothing: a seat has one, set anew when it rings too early for what the seat is running by then.
"""

from __future__ import annotations

from math import inf

from llamapipe.control.timers import Timers
from llamapipe.control.workforce import Seat

__all__ = ["Watch"]


class Watch:
    """Over all seats. Looks at them again through ``timers`` under the kind ``watch``."""

    __slots__ = ("_timers",)

    def __init__(self, timers: Timers) -> None:
        self._timers = timers

    def begin(self, seat: Seat, late_s: float, hung_s: float) -> None:
        """The seat begins something that is late at ``late_s`` and hangs at ``hung_s``; infinite: never."""
        seat.late_s, seat.hung_s = late_s, hung_s
        self._set(seat)

    def end(self, seat: Seat) -> None:
        """The seat runs nothing that could be late."""
        seat.late_s = seat.hung_s = inf

    def rang(self, seat: Seat, now_s: float) -> tuple[bool, bool]:
        """(what the seat runs is late as of now, it hangs). That it is late is said once."""
        if seat.rings_s <= now_s:
            seat.rings_s = inf
        late, hung = seat.late_s <= now_s, seat.hung_s <= now_s
        if late:
            seat.late_s = inf
        if hung:
            seat.hung_s = inf
        self._set(seat)
        return late, hung

    def shift(self, seat: Seat, by_s: float) -> None:
        """Time has passed in which nobody could have noticed an answer; timers were shifted with it."""
        seat.late_s += by_s
        seat.hung_s += by_s
        seat.rings_s += by_s

    def _set(self, seat: Seat) -> None:
        due_s = min(seat.late_s, seat.hung_s)
        if due_s < seat.rings_s:
            seat.rings_s = due_s
            self._timers.add(due_s, "watch", seat.name, 0)
