"""What is to be looked at again at a stated time."""

from __future__ import annotations

import heapq

__all__ = ["Timers"]


class Timers:
    """A heap of (due, kind, name, number). Nothing is taken out early: who is woken looks whether it still holds."""

    __slots__ = ("_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, str, int]] = []
        self._serial = 0  # among equal times, first set first rung

    def add(self, due_s: float, kind: str, name: str, number: int) -> None:
        """Ring at ``due_s``."""
        self._serial += 1
        heapq.heappush(self._heap, (due_s, self._serial, kind, name, number))

    def shift(self, by_s: float, *, but: str) -> None:
        """All ring so much later, save those of one kind."""
        self._heap = [
            (due_s if kind == but else due_s + by_s, serial, kind, name, number)
            for due_s, serial, kind, name, number in self._heap
        ]
        heapq.heapify(self._heap)

    def next_s(self) -> float | None:
        """When the next one rings."""
        return self._heap[0][0] if self._heap else None

    def due(self, now_s: float) -> list[tuple[str, str, int]]:
        """(kind, name, number) of all that ring by now, in order of their times."""
        rung: list[tuple[str, str, int]] = []
        while self._heap and self._heap[0][0] <= now_s:
            _, _, kind, name, number = heapq.heappop(self._heap)
            rung.append((kind, name, number))
        return rung
