"""Which packets never became pictures, told by presentation time."""

from __future__ import annotations

import heapq

__all__ = ["Losses"]


class Losses:
    """Packets on their way through a decoder.

    A decoder hands pictures out in presentation order: once a picture has come, a packet of an earlier time that
    has not come out never will. That gives each lost picture its own place, however late its error shows.
    """

    def __init__(self) -> None:
        self._waiting: list[int] = []

    def sent(self, pts: int) -> None:
        """A packet with this time went into the decoder."""
        heapq.heappush(self._waiting, pts)

    def came(self, pts: int) -> list[int]:
        """A picture came out. Returns the times of those lost before it, in order."""
        lost: list[int] = []
        while self._waiting and self._waiting[0] < pts:
            lost.append(heapq.heappop(self._waiting))
        if self._waiting and self._waiting[0] == pts:
            heapq.heappop(self._waiting)
        return lost

    def rest(self) -> list[int]:
        """At the end: the times of all that never came out, in order."""
        lost, self._waiting = sorted(self._waiting), []
        return lost
