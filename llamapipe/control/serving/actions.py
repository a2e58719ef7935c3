"""What serving wants done. Drivers carry these out and decide nothing themselves."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from llamapipe.control.serving.program import Problem

__all__ = [
    "Answer",
    "KillReplica",
    "Nearest",
    "Part",
    "Probe",
    "Refuse",
    "Serve",
    "ServingAction",
    "Solve",
    "StartReplica",
    "StopReplica",
]


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Items ``first``, ``first + 1``, ... of a query, ``count`` of them."""

    query_id: int
    first: int
    count: int


class Nearest(msgspec.Struct, frozen=True):
    """The closest to a refused query that can be had: all its figures come true together."""

    variant: str
    latency_s: float
    cost: float  # an item
    accuracy: float | None = None  # on the metric that the query asked for; None: it asked for none, or has no figure


class _Action(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    pass


class Serve(_Action, frozen=True):
    """Send a batch to a replica: its items are those of ``parts``, in that order. BatchDone or ReplicaLost follows."""

    batch_id: int
    replica: str
    parts: tuple[Part, ...]
    deadline_s: float | None = None  # the earliest of its queries'


class Probe(_Action, frozen=True):
    """Let a replica work on ``batch`` blank items, only to see how long it takes. BatchDone or ReplicaLost follows."""

    batch_id: int
    replica: str
    batch: int = 1


class Answer(_Action, frozen=True):
    """Every item of a query is done: give the results out. Said once a query, and never of one that was refused."""

    query_id: int
    variant: str  # that served it; several after a replica was lost: the one that served the last item
    why: str
    latency_s: float  # from arrival to now
    late: bool = False  # beyond what it asked for
    cost: float = 0.0  # reserved core-seconds (or their price) an item, of the batches it was in


class Refuse(_Action, frozen=True):
    """A query will not be answered. Said once a query, and never of one that was answered.

    ``code``: "unknown" (no such task, model or variant), "constraint" (nothing on this machine meets it), "cold" (it
    would have to be loaded first, which takes longer than the query may), "overload" (not in time with what is
    running), "failed" (its items failed, or nothing that could serve it can be loaded), "closed".
    """

    query_id: int
    code: str
    reason: str
    nearest: Nearest | None = None


class StartReplica(_Action, frozen=True):
    """Load a variant beside what is serving, on these cores of a host. ReplicaReady, -Failed or -Lost follows."""

    replica: str
    variant: str
    host: str
    cores: tuple[int, ...]  # as many as the variant has threads; nobody else's while the replica lives
    memory_bytes: int


class StopReplica(_Action, frozen=True):
    """End a replica, which holds no work. ReplicaStopped (or -Lost) follows."""

    replica: str
    reason: str


class KillReplica(_Action, frozen=True):
    """End a replica by force; ReplicaLost follows."""

    replica: str
    reason: str


class Solve(_Action, frozen=True):
    """Run `program.solve(problem)` beside everything else; Solved follows."""

    solve_id: int
    problem: Problem
    time_limit_s: float = 1.0


ServingAction: TypeAlias = Serve | Probe | Answer | Refuse | StartReplica | StopReplica | KillReplica | Solve
