"""What engine, workers, sources and sinks say to each other. The same for threads, processes and hosts.

source  -> engine   Opened, NewFrames, Undecoded, Ended  engine -> source   Granted, Stop
worker  -> engine   Hello, Loaded, Done, Restored,       engine -> worker   NewStream, LoadReplica, Invoke,
                    Captured, Pulse                                         RestoreState, CaptureState, Stop
sink    -> engine   Taken, Marked, Closed                engine -> sink     Deliveries, Close
replica -> server   Hello, Loaded, Predicted, Pulse      server -> replica  Predict, Stop
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from llamapipe.data import FrameRef
from llamapipe.wire.values import Payload

__all__ = [
    "PROTOCOL",
    "CaptureState",
    "Captured",
    "ChainInputs",
    "ChainOutputs",
    "Close",
    "Closed",
    "Deliveries",
    "Delivery",
    "Done",
    "Ended",
    "Granted",
    "Hello",
    "Invoke",
    "ItemInputs",
    "ItemOutputs",
    "LoadReplica",
    "Loaded",
    "Marked",
    "Message",
    "NewFrames",
    "NewStream",
    "Opened",
    "Predict",
    "Predicted",
    "Pulse",
    "RestoreState",
    "Restored",
    "Stop",
    "Taken",
    "Undecoded",
    "Wanted",
]

PROTOCOL = 7
"""Version of the messages below; both ends must speak the same."""


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


class Hello(_Message, frozen=True):
    """A peer is there."""

    peer: str
    role: str  # worker | source | sink
    protocol: int = PROTOCOL
    token: str = ""  # of a process: proves that this run's engine started it


class LoadReplica(_Message, frozen=True):
    """Make a stage ready to run, in the configuration of one of its candidates."""

    replica: str
    stage: str
    choice: int = 0


class Loaded(_Message, frozen=True):
    """The stage is ready, or cannot be had (``error``)."""

    replica: str
    load_s: float
    error: str | None = None
    hint: str | None = None
    variant: str | None = None


class ItemInputs(_Message, frozen=True):
    """One item: its identity, and per input port (in the stage's order of edges) the payloads that make it up."""

    stream: str
    seq: int
    index: int
    inputs: list[list[Payload]]


class ChainInputs(_Message, frozen=True):
    """One more stage to run on the same items. What the stage before gives it is left empty in ``items``."""

    replica: str
    items: list[ItemInputs]


class Invoke(_Message, frozen=True):
    """Run a batch of one stage, then those of ``chain``, each on what the one before gave."""

    invocation: int
    replica: str
    items: list[ItemInputs]
    snapshot: bool = False  # send the stage's state after these items along
    reserved: list[tuple[int, int]] = []  # arena slots (slot, generation) that new pictures may be written to
    chain: list[ChainInputs] = []


class ItemOutputs(_Message, frozen=True):
    """One item's outputs: per output port (in the stage's order) its payloads, one unless the stage fans out.

    ``count`` as in llamapipe.control.events.InvocationDone.
    """

    count: int
    outputs: list[list[Payload]]
    measures: list[float]
    error: str | None = None


class ChainOutputs(_Message, frozen=True):
    """What a further stage of a chain gave; None for an item that did not come to it."""

    items: list[ItemOutputs | None]
    started_s: float
    ended_s: float


class Done(_Message, frozen=True):
    """The answer to Invoke. Items and times are those of the first stage, ``chain`` has those of the others.

    Of an item only the last stage that has not failed has outputs: nobody reads those before it.
    """

    invocation: int
    items: list[ItemOutputs]
    started_s: float
    ended_s: float
    state: bytes | None = None  # msgpack of what the operator's snapshot gave
    chain: list[ChainOutputs] = []


class RestoreState(_Message, frozen=True):
    """Take up a stream's state: the snapshot (None: begin anew), then the items seen since, answering for none."""

    replica: str
    stage: str
    stream: str
    state: bytes | None
    journal: list[ItemInputs]


class Restored(_Message, frozen=True):
    """The answer to RestoreState; with ``error`` the stream begins anew."""

    stage: str
    stream: str
    error: str = ""


class CaptureState(_Message, frozen=True):
    """Say what the stage remembers of a stream, having run all that came before this."""

    replica: str
    stage: str
    stream: str
    seq: int  # of the first frame that it has seen nothing of


class Captured(_Message, frozen=True):
    """The answer to CaptureState; None where the operator cannot say."""

    stage: str
    stream: str
    seq: int
    state: bytes | None  # as that of Done


class Pulse(_Message, frozen=True):
    """A process is alive, whatever it is working on."""

    worker: str


class Opened(_Message, frozen=True):
    """A source that was not there when the run began is there. Sizes in pixels; the rest as in StreamPlan."""

    stream: str
    width: int
    height: int
    fps: float  # 0: unknown
    drop_policy: str
    max_pending: int
    paced: bool


class NewStream(_Message, frozen=True):
    """A stream that the worker was told nothing of when it started, or only that it may come."""

    stream: str
    width: int
    height: int
    fps: float


class NewFrames(_Message, frozen=True):
    """Consecutive frames of a stream, in the arena."""

    stream: str
    frames: list[FrameRef]


class Undecoded(_Message, frozen=True):
    """A place in the stream without a picture."""

    stream: str
    seq: int
    reason: str
    pts_s: float


class Ended(_Message, frozen=True):
    """The source gives no more."""

    stream: str
    num_frames: int
    error: str | None = None
    lost: bool = False


class Granted(_Message, frozen=True):
    """The source may send so many more."""

    credits: int


class Stop(_Message, frozen=True):
    """Finish and end."""


class Delivery(_Message, frozen=True):
    """One frame at one sink; ``values`` per input of the sink, None where a stage was skipped."""

    sink: str
    seq: int
    pts: int
    pts_s: float
    captured_at_s: float
    outcome: str
    stage: str
    reason: str
    values: list[list[Payload] | None]
    mark: bool = False  # say how the sink would go on after it


class Deliveries(_Message, frozen=True):
    """Frames in order of seq per sink."""

    items: list[Delivery]


class Taken(_Message, frozen=True):
    """A sink has written every frame up to and with ``seq``; ``latencies`` are those of delivered ones, (t, s)."""

    stream: str
    sink: str
    seq: int
    latencies: list[tuple[float, float]]
    error: str | None = None


class Marked(_Message, frozen=True):
    """How a sink would go on at frame ``seq``, having written all before."""

    stream: str
    sink: str
    seq: int
    mark: bytes  # msgpack of what the sink's mark gave


class Wanted(_Message, frozen=True):
    """What is asked of one picture: ``labels`` keeps only these, empty: all; ``min_score`` None: the model's own."""

    picture: FrameRef
    labels: tuple[str, ...] = ()
    min_score: float | None = None


class Predict(_Message, frozen=True):
    """Look at pictures with the one variant that the replica has.

    ``blanks`` more are made up, to see how long it takes.
    """

    batch: int
    items: list[Wanted]
    blanks: int = 0


class Predicted(_Message, frozen=True):
    """The answer to Predict: per picture its boxes (see `encode_value`), or why there are none."""

    batch: int
    boxes: list[bytes]  # empty bytes where there is an error
    errors: dict[int, str]  # by the picture's place in the batch
    started_s: float
    ended_s: float


class Close(_Message, frozen=True):
    """Finalise every sink of the stream. ``abort``: leave nothing."""

    abort: bool = False


class Closed(_Message, frozen=True):
    """The stream's outputs are under their final names."""

    stream: str
    files: list[str]
    errors: dict[str, str]


Message: TypeAlias = (
    Hello
    | LoadReplica
    | Loaded
    | Invoke
    | Done
    | RestoreState
    | Restored
    | CaptureState
    | Captured
    | Pulse
    | Opened
    | NewStream
    | NewFrames
    | Undecoded
    | Ended
    | Granted
    | Stop
    | Deliveries
    | Taken
    | Marked
    | Close
    | Closed
    | Predict
    | Predicted
)
