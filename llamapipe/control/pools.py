"""Who of many alike is free first, found in a time that grows with the logarithm of their number."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llamapipe.control.workforce import Seat

__all__ = ["Pool"]


class Pool:
    """Seats of one kind on one device, by how many invocations each holds.

    A seat is put in anew whenever something about it has changed; what is left of its old place is skipped when it
    comes up, or swept out once such places are the most. Among the idle ones the first of the plan is taken, so that
    the last ones stay idle and can be spared; among the busy ones the one that is expected to be free first.
    """

    __slots__ = ("_heaps", "_max_queued", "num_seats")

    def __init__(self, max_queued: int) -> None:
        self.num_seats = 0  # that there may be
        self._max_queued = max_queued
        self._heaps: list[list[tuple[float, int, int, Seat]]] = [[] for _ in range(max_queued + 1)]

    def place(self, seat: Seat) -> None:
        """Take note of the seat as it is now."""
        seat.stamp += 1
        if seat.usable:
            held = self._max_queued if seat.guarded else len(seat.held)
            entry = (seat.free_at_s if held else 0.0, seat.index, seat.stamp, seat)
            heap = self._heaps[min(held, self._max_queued)]
            if len(heap) > 2 * self.num_seats:  # nobody asks for a busy seat as long as another is idle
                heap[:] = [old for old in heap if old[2] == old[3].stamp]
                heapq.heapify(heap)
            heapq.heappush(heap, entry)

    def freest(self, stage: int, choice: int, avoid: str = "") -> Seat | None:
        """A seat with room that has the candidate loaded; the one to be avoided only if there is no other."""
        last_resort: Seat | None = None
        for heap in self._heaps[: self._max_queued]:
            seat, avoided = self._first(heap, stage, choice, avoid)
            if seat is not None:
                return seat
            last_resort = last_resort or avoided
        return last_resort

    def soonest(self, stage: int, choice: int) -> Seat | None:
        """Of those without room, the one that is expected to be done with all it holds first."""
        return self._first(self._heaps[self._max_queued], stage, choice, "")[0]

    @staticmethod
    def _first(
        heap: list[tuple[float, int, int, Seat]], stage: int, choice: int, avoid: str
    ) -> tuple[Seat | None, Seat | None]:
        """(the first that will do, the avoided one if it came before it)."""
        passed: list[tuple[float, int, int, Seat]] = []
        found: Seat | None = None
        avoided: Seat | None = None
        while heap:
            entry = heap[0]
            seat = entry[3]
            if entry[2] != seat.stamp:
                heapq.heappop(heap)
                continue
            if seat.serves(stage, choice):
                if seat.name != avoid:
                    found = seat
                    break
                avoided = seat
            passed.append(heapq.heappop(heap))
        for entry in passed:
            heapq.heappush(heap, entry)
        return found, avoided
