"""What control wants done. Drivers carry these out and decide nothing themselves."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from llamapipe.control.events import Setting
from llamapipe.control.plan import SinkTally

__all__ = [
    "Action",
    "Capture",
    "Changed",
    "Checkpoint",
    "CloseStream",
    "Deliver",
    "Discard",
    "Dispatch",
    "Finish",
    "Forget",
    "Grant",
    "Hold",
    "KillWorker",
    "Load",
    "Quarantine",
    "Release",
    "Restore",
    "StartWorker",
    "StopSource",
    "StopWorker",
]


class _Action(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    pass


class StartWorker(_Action, frozen=True):
    """Bring a worker up; ``incarnation`` counts those that had the name before."""

    worker: str
    incarnation: int = 0


class StopWorker(_Action, frozen=True):
    """Let a worker finish what it holds and end."""

    worker: str


class KillWorker(_Action, frozen=True):
    """End a worker by force; WorkerLost follows when it is gone."""

    worker: str
    reason: str


class Load(_Action, frozen=True):
    """Load a stage's configuration into a worker, that of its first candidate unless another is named."""

    replica: str
    worker: str
    stage: str
    choice: int = 0


class Dispatch(_Action, frozen=True):
    """Send an invocation: items (stream, seq, index) of one stage to one replica.

    ``chain`` names stages that are to be run after it in the same invocation, each on what the one before gave.
    """

    invocation: int
    replica: str
    worker: str
    stage: str
    items: list[tuple[str, int, int]]
    deadline_s: float | None = None
    snapshot: bool = False  # the stage's state after it is to be kept
    choice: int = 0  # of the stage's candidates
    chain: tuple[str, ...] = ()


class Forget(_Action, frozen=True):
    """Another worker has answered for the same items: whatever this invocation still brings is not wanted."""

    invocation: int


class Restore(_Action, frozen=True):
    """Bring a stage's memory of a stream up in another worker: the last snapshot, and what came since."""

    replica: str
    worker: str
    stage: str
    stream: str


class Capture(_Action, frozen=True):
    """Keep what a stage remembers of a stream when it has seen all before frame ``seq`` and nothing from it on."""

    replica: str
    worker: str
    stage: str
    stream: str
    seq: int


class Checkpoint(_Action, frozen=True):
    """All is there that it takes to go on with a stream at frame ``seq``; ``ended``: nothing is left to go on with."""

    stream: str
    seq: int
    tallies: dict[str, SinkTally]  # by sink
    ended: bool = False


class Quarantine(_Action, frozen=True):
    """An item has failed too often. Keep its inputs, so that somebody can find out why."""

    stage: str
    stream: str
    seq: int
    index: int
    reason: str


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
    mark: bool = False  # the sink is to say how it would go on after it


class Release(_Action, frozen=True):
    """Nobody needs the frame any more: every slot that it holds is free."""

    stream: str
    seq: int


class Discard(_Action, frozen=True):
    """Give back a frame's picture: it was never admitted. Its place in the stream is released in its turn."""

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


class Changed(_Action, frozen=True):
    """Stages are run like this from now on. With ``error`` they are not: one of them cannot be loaded anywhere."""

    settings: list[Setting]
    why: str = ""
    error: str = ""


class Finish(_Action, frozen=True):
    """The run is over. ``outcome``: done, failed or cancelled."""

    outcome: str
    reason: str = ""


Action: TypeAlias = (
    StartWorker
    | StopWorker
    | KillWorker
    | Load
    | Dispatch
    | Forget
    | Restore
    | Capture
    | Checkpoint
    | Quarantine
    | Hold
    | Deliver
    | Discard
    | Release
    | Grant
    | StopSource
    | CloseStream
    | Changed
    | Finish
)
