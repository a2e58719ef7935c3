"""Lifecycles as tables: replica, worker link, run, item, arena slot.

docs/architecture.md draws them; a test holds the drawing equal to these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from llamapipe.errors import InvalidTransition

__all__ = [
    "ITEM",
    "LINK",
    "REPLICA",
    "RUN",
    "SLOT",
    "ItemState",
    "LinkState",
    "Machine",
    "ReplicaState",
    "RunState",
    "SlotState",
]


class ReplicaState(StrEnum):
    """A variant loaded in a worker."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"
    BACKOFF = "backoff"


class LinkState(StrEnum):
    """What the engine believes of a worker."""

    UNKNOWN = "unknown"
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"


class RunState(StrEnum):
    """A run as a whole."""

    PLANNED = "planned"
    DEPLOYING = "deploying"
    RUNNING = "running"
    DEGRADED = "degraded"
    RECONFIGURING = "reconfiguring"
    DRAINING = "draining"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ItemState(StrEnum):
    """What became of a frame at a stage."""

    WAITING = "waiting"  # for its inputs
    QUEUED = "queued"
    DISPATCHED = "dispatched"
    DONE = "done"
    SKIPPED = "skipped"  # its `when` was false
    FILTERED = "filtered"
    DROPPED = "dropped"
    FAILED = "failed"
    CANCELLED = "cancelled"


class SlotState(StrEnum):
    """One place for a picture in a frame arena."""

    FREE = "free"
    WRITING = "writing"  # given to somebody who may write to it
    PUBLISHED = "published"  # holds a picture; somebody has a lease


REPLICA: Mapping[ReplicaState, frozenset[ReplicaState]] = {
    ReplicaState.STARTING: frozenset({ReplicaState.LOADING, ReplicaState.FAILED, ReplicaState.STOPPED}),
    ReplicaState.LOADING: frozenset({ReplicaState.READY, ReplicaState.FAILED, ReplicaState.STOPPED}),
    ReplicaState.READY: frozenset({ReplicaState.DRAINING, ReplicaState.FAILED}),
    ReplicaState.DRAINING: frozenset({ReplicaState.STOPPED, ReplicaState.FAILED}),
    ReplicaState.STOPPED: frozenset(),
    ReplicaState.FAILED: frozenset({ReplicaState.BACKOFF, ReplicaState.STOPPED}),
    ReplicaState.BACKOFF: frozenset({ReplicaState.STARTING, ReplicaState.STOPPED}),
}

LINK: Mapping[LinkState, frozenset[LinkState]] = {
    LinkState.UNKNOWN: frozenset({LinkState.ALIVE, LinkState.SUSPECT, LinkState.DEAD}),
    LinkState.ALIVE: frozenset({LinkState.SUSPECT, LinkState.DEAD}),
    LinkState.SUSPECT: frozenset({LinkState.ALIVE, LinkState.DEAD}),
    LinkState.DEAD: frozenset(),
}

_ENDING = {RunState.DRAINING, RunState.FAILED, RunState.CANCELLED}
RUN: Mapping[RunState, frozenset[RunState]] = {
    RunState.PLANNED: frozenset({RunState.DEPLOYING, RunState.FAILED, RunState.CANCELLED}),
    RunState.DEPLOYING: frozenset({RunState.RUNNING, *_ENDING}),
    RunState.RUNNING: frozenset({RunState.DEGRADED, RunState.RECONFIGURING, *_ENDING}),
    RunState.DEGRADED: frozenset({RunState.RUNNING, RunState.RECONFIGURING, *_ENDING}),
    RunState.RECONFIGURING: frozenset({RunState.RUNNING, RunState.DEGRADED, *_ENDING}),
    RunState.DRAINING: frozenset({RunState.DONE, RunState.FAILED, RunState.CANCELLED}),
    RunState.DONE: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
}

_ITEM_ENDS = {ItemState.DONE, ItemState.FILTERED, ItemState.DROPPED, ItemState.FAILED, ItemState.CANCELLED}
ITEM: Mapping[ItemState, frozenset[ItemState]] = {
    ItemState.WAITING: frozenset({ItemState.QUEUED, ItemState.SKIPPED, *_ITEM_ENDS}),
    ItemState.QUEUED: frozenset({ItemState.DISPATCHED, ItemState.DROPPED, ItemState.FAILED, ItemState.CANCELLED}),
    ItemState.DISPATCHED: frozenset({ItemState.QUEUED, *_ITEM_ENDS}),
    ItemState.DONE: frozenset(),
    ItemState.SKIPPED: frozenset(),
    ItemState.FILTERED: frozenset(),
    ItemState.DROPPED: frozenset(),
    ItemState.FAILED: frozenset(),
    ItemState.CANCELLED: frozenset(),
}

SLOT: Mapping[SlotState, frozenset[SlotState]] = {
    SlotState.FREE: frozenset({SlotState.WRITING}),
    SlotState.WRITING: frozenset({SlotState.PUBLISHED, SlotState.FREE}),
    SlotState.PUBLISHED: frozenset({SlotState.FREE}),
}

S = TypeVar("S", bound=StrEnum)

_HISTORY = 20


class Machine(Generic[S]):
    """One lifecycle in progress; remembers its last twenty states for the error that names them."""

    __slots__ = ("_history", "_name", "_table", "state")

    def __init__(self, name: str, table: Mapping[S, frozenset[S]], state: S) -> None:
        self._name = name
        self._table = table
        self._history: list[str] = [state]
        self.state = state

    def to(self, state: S) -> None:
        """Go to ``state``; raises InvalidTransition where the table forbids it."""
        if state not in self._table[self.state]:
            raise InvalidTransition(self._name, self.state, f"-> {state}", self._history)
        self.state = state
        self._history = [*self._history[-_HISTORY + 1 :], state]
