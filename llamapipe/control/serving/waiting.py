"""Queries that are not done yet: who waits for what, the most urgent first."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import exp, hypot, inf, sqrt

from llamapipe.catalog import Query
from llamapipe.control.lifecycle import Machine
from llamapipe.control.serving.lifecycle import QUERY, QueryState
from llamapipe.control.serving.offers import Offer

__all__ = ["Group", "Pending", "Waiting"]

_MEMORY_S = 1.0

Range = tuple[int, int]  # first item, one past the last


@dataclass(slots=True, eq=False)
class Pending:
    """A query from its arrival to its end."""

    query_id: int
    query: Query
    arrived_at_s: float  # when it was due
    queued_at_s: float  # when control heard of it
    deadline_s: float  # inf: it asked for no latency
    urgent_s: float  # its place in the order of service
    group: Group
    machine: Machine[QueryState]
    why: str
    todo: list[Range]  # items that nobody works on
    num_out: int = 0  # items that a replica works on
    num_done: int = 0
    attempts: dict[int, int] = field(default_factory=dict)  # item -> times that it failed
    num_lost: int = 0  # replicas that went away with some of its items
    cost: float = 0.0  # of the items that are done
    queued: bool = False  # in its group's heap

    @property
    def num_todo(self) -> int:
        """Items that wait."""
        return sum(end - first for first, end in self.todo)

    @property
    def excused(self) -> bool:
        """Whether it was tried and failed through no fault of its own: it is answered late rather than refused."""
        return bool(self.num_lost or self.attempts)

    @property
    def ended(self) -> bool:
        """Whether all has been said of it."""
        return self.machine.state not in (QueryState.WAITING, QueryState.SERVING)

    def take(self, count: int) -> Range:
        """Up to ``count`` items in a row, from the first that waits."""
        first, end = self.todo[0]
        if end - first > count:
            self.todo[0] = (first + count, end)
            end = first + count
        else:
            del self.todo[0]
        self.num_out += end - first
        return first, end


@dataclass(slots=True, eq=False)
class Group:
    """Queries that the same variants may serve, latency apart."""

    names: frozenset[str]  # of variants
    max_cost: float
    offline: bool
    heap: list[tuple[float, int, Pending]] = field(default_factory=list)
    num_waiting: int = 0  # items
    _rate: float = 0.0  # items a second, weighted by exp(-age / _MEMORY_S)
    _rate_s: float = 0.0

    def arrived(self, items: int, now_s: float) -> None:
        """So many items more."""
        self._rate = self._rate * exp((self._rate_s - now_s) / _MEMORY_S) + items / _MEMORY_S
        self._rate_s = now_s

    def exceeds(self, now_s: float, replicas: Iterable[tuple[Offer, float]]) -> bool:
        """Whether more comes than replicas (with their slowdowns) were measured to serve, beyond chance.

        Beyond chance: two standard deviations of the weighted count and of the profiled medians together.
        """
        known = list(replicas)
        capacity = sum(offer.throughput(inf) / slowdown for offer, slowdown in known)
        spread = max((offer.spread for offer, _ in known), default=0.0)
        deviation = hypot(sqrt(capacity / (2 * _MEMORY_S)), capacity * spread)
        return self._rate * exp((self._rate_s - now_s) / _MEMORY_S) > capacity + 2 * deviation

    def head(self) -> Pending | None:
        """The most urgent that has items waiting."""
        while self.heap:
            pending = self.heap[0][2]
            here = pending.group is self
            if here and not pending.ended and pending.todo:
                return pending
            heapq.heappop(self.heap)
            if here:
                pending.queued = False
        return None


GroupKey = tuple[frozenset[str], float, bool]


@dataclass(slots=True)
class Waiting:
    """All that are not done. ``pending`` by query id."""

    pending: dict[int, Pending] = field(default_factory=dict)
    groups: dict[GroupKey, Group] = field(default_factory=dict)
    _serial: int = 0

    def group(self, names: frozenset[str], max_cost: float | None, *, offline: bool) -> Group:
        """The queue for such queries."""
        key = (names, inf if max_cost is None else max_cost, offline)
        found = self.groups.get(key)
        if found is None:
            self._sweep()
            found = self.groups[key] = Group(*key)
        return found

    def add(
        self,
        query_id: int,
        query: Query,
        group: Group,
        *,
        arrived_at_s: float,
        now_s: float,
        patience_s: float,
        why: str,
    ) -> Pending:
        """Queue a query with all its items."""
        deadline_s = inf if query.latency_s is None else arrived_at_s + query.latency_s
        pending = Pending(
            query_id=query_id,
            query=query,
            arrived_at_s=arrived_at_s,
            queued_at_s=now_s,
            deadline_s=deadline_s,
            urgent_s=min(deadline_s, arrived_at_s + patience_s),
            group=group,
            machine=Machine(f"query {query_id}", QUERY, QueryState.WAITING),
            why=why,
            todo=[(0, query.num_items)],
        )
        self.pending[query_id] = pending
        group.num_waiting += query.num_items
        self._push(pending)
        return pending

    def take(self, pending: Pending, count: int) -> Range:
        """Take items of a query off its queue."""
        taken = pending.take(count)
        pending.group.num_waiting -= taken[1] - taken[0]
        if pending.machine.state is QueryState.WAITING:
            pending.machine.to(QueryState.SERVING)
        return taken

    def give_back(self, pending: Pending, items: Iterable[int]) -> None:
        """Items that a replica did not do wait again."""
        for item in items:
            if pending.todo and pending.todo[-1][1] == item:
                pending.todo[-1] = (pending.todo[-1][0], item + 1)
            else:
                pending.todo.append((item, item + 1))
            pending.group.num_waiting += 1
        self._push(pending)
        if pending.num_out == 0 and pending.machine.state is QueryState.SERVING:
            pending.machine.to(QueryState.WAITING)

    def move(self, pending: Pending, group: Group) -> None:
        """Others may serve it from now on."""
        count = pending.num_todo
        pending.group.num_waiting -= count
        pending.group = group
        group.num_waiting += count
        pending.queued = False
        self._push(pending)

    def end(self, pending: Pending, state: QueryState) -> None:
        """All is said of it."""
        if state is QueryState.ANSWERED and pending.machine.state is QueryState.WAITING:
            pending.machine.to(QueryState.SERVING)
        pending.machine.to(state)
        pending.group.num_waiting -= pending.num_todo
        pending.todo.clear()
        del self.pending[pending.query_id]

    def _push(self, pending: Pending) -> None:
        if not pending.queued:
            self._serial += 1
            heapq.heappush(pending.group.heap, (pending.urgent_s, self._serial, pending))
            pending.queued = True

    def _sweep(self) -> None:
        """Queues that nobody uses are not kept: each set of variants that was ever asked for would have one."""
        if len(self.groups) >= 64:
            used = {id(pending.group) for pending in self.pending.values()}
            self.groups = {key: group for key, group in self.groups.items() if id(group) in used}
