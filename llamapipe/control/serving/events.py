"""What serving is told. An event log is one of these a line."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from llamapipe.catalog import Profile, Query
from llamapipe.control.serving.program import Solution

__all__ = [
    "BatchDone",
    "Close",
    "HostJoined",
    "HostLost",
    "Prepare",
    "ProfilesChanged",
    "QueryArrived",
    "QueryCancelled",
    "ReplicaFailed",
    "ReplicaLost",
    "ReplicaReady",
    "ReplicaStopped",
    "ServingEvent",
    "Solved",
    "Tick",
]


class _Event(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    pass


class QueryArrived(_Event, frozen=True):
    """Somebody asks. Ids are the driver's and never used twice, by `Prepare` neither."""

    query_id: int
    query: Query
    arrived_at_s: float | None = None  # when it was due, where that was before now: its latency counts from there


class QueryCancelled(_Event, frozen=True):
    """Nobody waits for it any more: nothing is said of it again."""

    query_id: int


class Prepare(_Event, frozen=True):
    """Such queries will come: have something ready for them for ``hold_s``, even if none comes.

    Answered (`Answer`) as soon as a replica is ready that can serve the query in time, refused where none ever can.
    """

    query_id: int
    query: Query
    items_per_s: float = 0.0  # how much load is expected; 0: one at a time
    hold_s: float = 10.0


class ReplicaReady(_Event, frozen=True):
    """A replica is loaded. ``load_s`` is what that took."""

    replica: str
    load_s: float = 0.0


class ReplicaFailed(_Event, frozen=True):
    """A replica cannot be loaded; it holds nothing any more."""

    replica: str
    reason: str


class ReplicaLost(_Event, frozen=True):
    """A replica is gone with what it was working on; it holds nothing any more."""

    replica: str
    reason: str


class ReplicaStopped(_Event, frozen=True):
    """A replica has ended as it was told to; its cores and memory are free."""

    replica: str


class BatchDone(_Event, frozen=True):
    """A replica's answer to `Serve` or `Probe`: wall-clock seconds of the work, without time in transit."""

    batch_id: int
    seconds: float
    failed: dict[int, str] = {}  # position of an item in the batch -> reason


class Solved(_Event, frozen=True):
    """The integer program's answer to `Solve`. Without ``solution``: it found none in its time."""

    solve_id: int
    solution: Solution | None = None
    seconds: float = 0.0


class HostJoined(_Event, frozen=True):
    """There are more cores and memory to put replicas on."""

    host: str
    cores: tuple[int, ...]
    memory_bytes: int


class HostLost(_Event, frozen=True):
    """A host is gone, with every replica on it."""

    host: str
    reason: str


class ProfilesChanged(_Event, frozen=True):
    """Variants that are new, or measured anew; ``removed`` are no longer to be chosen."""

    profiles: tuple[Profile, ...] = ()
    removed: tuple[str, ...] = ()


class Close(_Event, frozen=True):
    """No more queries: what waits is served, then every replica is stopped. ``now``: what waits is refused."""

    now: bool = False


class Tick(_Event, frozen=True):
    """Time has passed."""


ServingEvent: TypeAlias = (
    QueryArrived
    | QueryCancelled
    | Prepare
    | ReplicaReady
    | ReplicaFailed
    | ReplicaLost
    | ReplicaStopped
    | BatchDone
    | Solved
    | HostJoined
    | HostLost
    | ProfilesChanged
    | Close
    | Tick
)
