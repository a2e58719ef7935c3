"""What the controller knows of each stream: its frames in flight, and how far each of its sinks has come."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from llamapipe.control.dataflow import FrameRecord
from llamapipe.control.plan import StreamPlan

__all__ = ["Cursor", "StreamState"]


@dataclass(slots=True)
class Cursor:
    """One sink of one stream: frames leave in order of seq."""

    next_seq: int = 0  # the next to deliver
    committed: int = -1  # the sink has confirmed all up to this
    waiting: dict[int, tuple[str, str, str]] = field(default_factory=dict)  # ended out of order
    unconfirmed: deque[tuple[str, str, str]] = field(default_factory=deque)  # delivered, from committed + 1 on
    failed: str | None = None  # reason, once the sink can take no more


@dataclass(slots=True)
class StreamState:
    """One stream's frames on their way through the run."""

    plan: StreamPlan
    index: int
    window: int  # frames that may be in flight
    cursors: list[Cursor]
    pending: deque[FrameRecord] = field(default_factory=deque)  # arrived, not admitted (dropping policies)
    frames: dict[int, FrameRecord] = field(default_factory=dict)  # arrived, not released
    released: int = -1  # every frame up to this is released
    in_flight: int = 0
    next_order: int = 0
    num_frames: int | None = None  # known once ended
    stopping: bool = False
    closing: bool = False
    closed: bool = False
    error: str | None = None
