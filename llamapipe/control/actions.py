"""What control wants done. Drivers carry these out and decide nothing themselves."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

__all__ = [
    "Action",
    "CloseStream",
    "Deliver",
    "Dispatch",
    "Finish",
    "Grant",
    "Hold",
    "Load",
    "Release",
    "StartWorker",
    "StopSource",
    "StopWorker",
]


class _Action(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    pass


class StartWorker(_Action, frozen=True):
    """Bring a worker up."""

    worker: str


class StopWorker(_Action, frozen=True):
    """Let a worker finish what it holds and end."""

    worker: str


class Load(_Action, frozen=True):
    """Load a stage's configuration into a worker."""

    replica: str
    worker: str
    stage: str


class Dispatch(_Action, frozen=True):
    """Send an invocation: items (stream, seq, index) of one stage to one replica."""

    invocation: int
    replica: str
    worker: str
    stage: str
    items: list[tuple[str, int, int]]
    deadline_s: float | None = None


class Hold(_Action, frozen=True):
    """The stage's outputs for ``seq`` are those of ``from_seq`` again."""

    stage: str
    stream: str
    seq: int
    from_seq: int


class Deliver(_Action, frozen=True):
    """A frame has ended at a sink. Given in order of seq, one for every frame and sink."""

    stream: str
    seq: int
    sink: str
    outcome: str  # delivered | filtered | dropped | failed | cancelled
    stage: str = ""  # that ended it
    reason: str = ""


class Release(_Action, frozen=True):
    """Nobody needs the frame any more: every slot that it holds is free."""

    stream: str
    seq: int


class Grant(_Action, frozen=True):
    """The source may send so many more frames."""

    stream: str
    credits: int


class StopSource(_Action, frozen=True):
    """The source should end."""

    stream: str


class CloseStream(_Action, frozen=True):
    """Every frame of the stream is committed: finalise its sinks."""

    stream: str


class Finish(_Action, frozen=True):
    """The run is over. ``outcome``: done, failed or cancelled."""

    outcome: str
    reason: str = ""


Action: TypeAlias = (
    StartWorker | StopWorker | Load | Dispatch | Hold | Deliver | Release | Grant | StopSource | CloseStream | Finish
)
