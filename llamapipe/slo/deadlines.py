"""An objective becomes a deadline for every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from llamapipe.errors import UsageError

__all__ = ["FrameDeadlines", "JobPace", "LatencyBound"]


class FrameDeadlines(Protocol):
    """When a frame is due, seconds on the run's clock."""

    def due_s(self, captured_at_s: float, seq: int) -> float:
        """``seq`` counts the frames of the job or stream from 0."""
        ...


@dataclass(frozen=True, slots=True)
class LatencyBound:
    """Every frame is due so long after it was captured."""

    latency_s: float

    def due_s(self, captured_at_s: float, seq: int) -> float:
        """See `FrameDeadlines`."""
        return captured_at_s + self.latency_s


@dataclass(frozen=True, slots=True)
class JobPace:
    """Frames of a job are due at an even pace that ends with the job's deadline.

    The first ``fill_s`` are the pipeline's own: loading, tuning, the first frame's way through. It is a pace and no
    cut: a frame that is late by it is late for nobody, as long as the job ends in time. Times are in seconds.
    """

    began_s: float
    deadline_s: float  # from began_s
    num_frames: int  # known, or estimated from duration and rate
    fill_s: float = 0.0

    def __post_init__(self) -> None:
        """Raise UsageError where nothing could be paced."""
        if self.num_frames < 1 or self.deadline_s <= 0:
            raise UsageError(f"a job of {self.num_frames} frames in {self.deadline_s:g} s cannot be paced")

    def due_s(self, captured_at_s: float, seq: int) -> float:
        """See `FrameDeadlines`. Frames beyond the estimated end are due with the job."""
        fill_s = min(self.fill_s, self.deadline_s)
        share = min(1.0, (seq + 1) / self.num_frames)
        return self.began_s + fill_s + share * (self.deadline_s - fill_s)
