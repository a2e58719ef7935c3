"""Cores that more threads want than there are: everybody gets an equal share."""

from __future__ import annotations

import heapq
from itertools import count

__all__ = ["SharedCores"]


class SharedCores:
    """Processor sharing in virtual time. A task of weight 2 keeps two cores busy for as long as it lasts.

    Tasks do not know when they end, because whoever comes later slows them down: what is kept is how much each has
    left on a clock of its own, which runs at the rate that the cores can give.
    """

    __slots__ = ("_cores", "_demand", "_heap", "_now_s", "_order", "_served_s", "busy_core_s")

    def __init__(self, cores: float) -> None:
        self._cores = cores
        self._demand = 0.0
        self._heap: list[tuple[float, int, float, object]] = []
        self._order = count()
        self._now_s = 0.0
        self._served_s = 0.0  # that every task which was there all the time has got
        self.busy_core_s = 0.0

    @property
    def _rate(self) -> float:
        return 1.0 if self._demand <= self._cores else self._cores / self._demand

    def _advance(self, now_s: float) -> None:
        passed_s = now_s - self._now_s
        self._served_s += passed_s * self._rate
        self.busy_core_s += passed_s * min(self._demand, self._cores)
        self._now_s = now_s

    def add(self, now_s: float, work_s: float, payload: object, weight: float = 1.0) -> None:
        """Begin a task that would take ``work_s`` alone."""
        self._advance(now_s)
        self._demand += weight
        heapq.heappush(self._heap, (self._served_s + work_s, next(self._order), weight, payload))

    def next_s(self) -> float | None:
        """When the first of them ends, if nothing else begins."""
        if not self._heap:
            return None
        return self._now_s + max(0.0, self._heap[0][0] - self._served_s) / self._rate

    def pop(self, now_s: float) -> object:
        """End the task that is done at `next_s`, and return what it was begun with."""
        self._advance(now_s)
        _, _, weight, payload = heapq.heappop(self._heap)
        self._demand -= weight
        if not self._heap:
            self._demand = 0.0
        return payload
