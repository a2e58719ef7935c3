"""What control is told. An event log is one of these a line."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

__all__ = [
    "Allot",
    "FAILED_ITEM",
    "FILTERED_ITEM",
    "NOT_RUN",
    "Cancel",
    "Chained",
    "Change",
    "Committed",
    "Event",
    "FrameUndecodable",
    "FramesArrived",
    "InvocationDone",
    "ReplicaFailed",
    "ReplicaLoaded",
    "Setting",
    "SinkFailed",
    "SinkMarked",
    "Start",
    "StateCaptured",
    "StateRestored",
    "StreamClosed",
    "StreamEnded",
    "StreamOpened",
    "Paused",
    "Tick",
    "WorkerBack",
    "WorkerJoined",
    "WorkerLost",
    "WorkerSilent",
]

FILTERED_ITEM = -1
FAILED_ITEM = -2
NOT_RUN = -3  # in a chain, after a stage that failed


class _Event(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    pass


class Start(_Event, frozen=True):
    """The run begins: start workers, load replicas."""


class ReplicaLoaded(_Event, frozen=True):
    """A worker has a stage's variant ready."""

    replica: str
    load_s: float = 0.0


class ReplicaFailed(_Event, frozen=True):
    """A worker cannot load a stage's variant."""

    replica: str
    reason: str


class StreamOpened(_Event, frozen=True):
    """A stream that was awaited is there; see `StreamPlan` for what is known of it only now."""

    stream: str
    drop_policy: str
    max_pending: int
    paced: bool


class FramesArrived(_Event, frozen=True):
    """Frames ``first_seq``, ``first_seq + 1``, ... of a stream are in the arena."""

    stream: str
    first_seq: int
    captured_at_s: list[float]
    pts_s: list[float]


class FrameUndecodable(_Event, frozen=True):
    """The source has a place in its order for which no picture could be had."""

    stream: str
    seq: int
    reason: str
    pts_s: float = 0.0


class StreamEnded(_Event, frozen=True):
    """The source gives no more; ``num_frames`` is how many it gave, undecodable ones included."""

    stream: str
    num_frames: int
    error: str | None = None


class Chained(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one more stage of a chain has made of an invocation's items: as in InvocationDone, or NOT_RUN."""

    counts: list[int]
    measures: list[list[float]] = []
    errors: dict[int, str] = {}
    busy_s: float = 0.0


class InvocationDone(_Event, frozen=True):
    """A worker's answer. Per item: how many items came out (1 unless the stage fans out), or

    FILTERED_ITEM or FAILED_ITEM. ``measures`` holds per item the figures that ``when`` expressions ask of it,
    in the order of the stage's probes. ``chain`` has the same of every stage of the dispatch's chain; ``busy_s`` is
    that of the first stage alone.
    """

    invocation: int
    counts: list[int]
    measures: list[list[float]] = []
    errors: dict[int, str] = {}  # item -> reason
    busy_s: float = 0.0
    kept: bool = False  # a snapshot of the stage's state came with it
    chain: list[Chained] = []


class Committed(_Event, frozen=True):
    """A sink has taken every frame of the stream up to and with ``seq``."""

    stream: str
    sink: str
    seq: int


class SinkFailed(_Event, frozen=True):
    """A sink can take no more. ``kept``: what it has confirmed stays; else it is gone with the file."""

    stream: str
    sink: str
    reason: str
    kept: bool = True


class SinkMarked(_Event, frozen=True):
    """A sink has said how it would go on at frame ``seq``, having written all before."""

    stream: str
    sink: str
    seq: int


class StreamClosed(_Event, frozen=True):
    """Every sink of the stream is finalised."""

    stream: str


class WorkerJoined(_Event, frozen=True):
    """A worker has come up."""

    worker: str


class WorkerSilent(_Event, frozen=True):
    """A worker has not been heard of for longer than it should be."""

    worker: str


class WorkerBack(_Event, frozen=True):
    """A silent worker is heard again."""

    worker: str


class StateRestored(_Event, frozen=True):
    """A worker has taken up a stage's memory of a stream; with ``error``, it could not and begins anew."""

    stage: str
    stream: str
    worker: str
    error: str = ""


class StateCaptured(_Event, frozen=True):
    """What a stage remembers of a stream before frame ``seq`` is kept; without ``kept``, it could not say."""

    stage: str
    stream: str
    seq: int
    kept: bool = True


class WorkerLost(_Event, frozen=True):
    """A worker is gone, with everything it held."""

    worker: str
    reason: str


class Cancel(_Event, frozen=True):
    """The user stops the run: nothing new is admitted, what is in flight is finished."""

    reason: str = "interrupted"


class Setting(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a stage is to be run: the number of one of its ways, and how often."""

    stage: str
    choice: int
    sample_fps: float | None = None  # None: every frame
    holds: bool = True  # as its plan's ``hold_unless`` says, where it says something


class Change(_Event, frozen=True):
    """From now on, as soon as everything is loaded, these stages are to be run like this. A later one replaces it."""

    settings: list[Setting]
    why: str = ""


class Allot(_Event, frozen=True):
    """Only so many workers of a kind are given work, 0: all; and all for good once one is lost or lacks something."""

    workers: int


class Paused(_Event, frozen=True):
    """For so long nobody has listened: whoever drives was stopped, or kept from it. What is late by it is not late."""

    pause_s: float


class Tick(_Event, frozen=True):
    """Time has passed."""


Event: TypeAlias = (
    Start
    | ReplicaLoaded
    | ReplicaFailed
    | StreamOpened
    | FramesArrived
    | FrameUndecodable
    | StreamEnded
    | InvocationDone
    | Committed
    | SinkFailed
    | SinkMarked
    | StreamClosed
    | WorkerJoined
    | WorkerSilent
    | WorkerBack
    | StateRestored
    | StateCaptured
    | WorkerLost
    | Cancel
    | Change
    | Allot
    | Paused
    | Tick
)
