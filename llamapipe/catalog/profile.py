"""What a variant was measured to take: seconds, cores, memory, and how right it is.

Measured once per machine, kept in the catalogue, refined by what runs observe.
"""

from __future__ import annotations

from bisect import bisect_left
from enum import StrEnum
from math import inf

import msgspec

from llamapipe.catalog.variant import Variant
from llamapipe.errors import UsageError

__all__ = ["AccuracyFigure", "BatchPoint", "Profile", "ProfileState"]


class ProfileState(StrEnum):
    """Whether a variant may be chosen."""

    READY = "ready"
    REJECTED = "rejected"  # it does not do what its source does, or cannot be loaded: see `Profile.reason`


class AccuracyFigure(msgspec.Struct, frozen=True, array_like=True):
    """`llamapipe.catalog.Accuracy` as the catalogue keeps it. ``kind`` is a value of `AccuracyKind`."""

    metric: str
    value: float
    dataset: str
    kind: str
    low: float | None = None
    high: float | None = None
    task: str = ""  # that it was measured for; empty: for all that the model does


class BatchPoint(msgspec.Struct, frozen=True, array_like=True):
    """One invocation of ``batch`` items, alone on its cores: seconds of wall clock, core-seconds of work."""

    batch: int
    median_s: float
    p95_s: float
    core_s: float
    count: int = 0  # invocations measured; 0: predicted by the profiler's model
    spread: float = 0.0  # relative standard deviation of the median over repeated sweeps
    peak_memory_bytes: int = 0  # that a replica loaded for this batch adds to its process


class Profile(msgspec.Struct, frozen=True):
    """All that is known of one variant on one kind of machine. ``points`` are in order of batch, one a batch."""

    variant: Variant
    hardware: str  # fingerprint of the machine
    state: str = ProfileState.READY
    reason: str = ""  # of a rejected one, with the figure
    load_s: float = 0.0
    peak_memory_bytes: int = 0  # that a replica adds to its process, at the largest batch of its points
    points: tuple[BatchPoint, ...] = ()
    accuracy: tuple[AccuracyFigure, ...] = ()
    file_sha256: str = ""  # of the network's file that was measured
    tasks: tuple[str, ...] = ()

    @property
    def max_batch(self) -> int:
        """The largest batch that was measured or predicted."""
        return self.points[-1].batch if self.points else 0

    def point(self, batch: int) -> BatchPoint:
        """The point of a batch, between two known ones in a straight line. Raises UsageError beyond the largest."""
        if not self.points or batch > self.max_batch or batch < 1:
            raise UsageError(f"{self.variant.name}: batch {batch} is not profiled, the largest is {self.max_batch}")
        at = bisect_left([point.batch for point in self.points], batch)
        upper = self.points[at]
        if upper.batch == batch or at == 0:
            return upper
        lower = self.points[at - 1]
        share = (batch - lower.batch) / (upper.batch - lower.batch)

        def between(a: float, b: float) -> float:
            return a + share * (b - a)

        return BatchPoint(
            batch,
            between(lower.median_s, upper.median_s),
            between(lower.p95_s, upper.p95_s),
            between(lower.core_s, upper.core_s),
            0,
            max(lower.spread, upper.spread),
            max(lower.peak_memory_bytes, upper.peak_memory_bytes),
        )

    def throughput(self, batch: int) -> float:
        """Items a second that one replica serves with full batches."""
        return batch / self.point(batch).median_s

    def best_batch(self, latency_s: float = inf) -> int:
        """The batch of the highest throughput among those whose p95 fits; 0 where none does."""
        fitting = [point for point in self.points if point.p95_s <= latency_s]
        return max(fitting, key=lambda point: point.batch / point.median_s).batch if fitting else 0

    def core_s_per_item(self, batch: int) -> float:
        """Reserved core-seconds an item: the replica's threads are taken for as long as the invocation lasts."""
        return self.variant.threads * self.point(batch).median_s / batch

    def for_task(self, task: str) -> Profile:
        """With the figures of one task alone: those of others say something else."""
        return msgspec.structs.replace(self, accuracy=tuple(a for a in self.accuracy if a.task in ("", task)))

    def accuracy_of(self, metric: str, kind: str | None = None, task: str | None = None) -> AccuracyFigure | None:
        """The figure of a metric; kinds are never mixed. ``task`` None: for the first of the model's tasks."""
        found = [a for a in self.accuracy if a.metric == metric and (kind is None or a.kind == kind)]
        if task is not None:
            found = [a for a in found if a.task in ("", task)]
        return found[0] if found else None
