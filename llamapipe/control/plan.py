"""What control starts from: stages, sinks, streams, workers. Plain data, part of every event log."""

from __future__ import annotations

import msgspec

from llamapipe.catalog import BatchPoint, Configuration

__all__ = [
    "MECHANISMS",
    "Candidate",
    "EdgePlan",
    "FaultPlan",
    "JobPlan",
    "PolicyPlan",
    "ResumePlan",
    "RunPlan",
    "SinkPlan",
    "SinkTally",
    "StagePlan",
    "StreamPlan",
    "WorkerPlan",
    "choice_name",
    "replica_name",
    "replica_parts",
]


def choice_name(stage: str, choice: int) -> str:
    """``detect``, or ``detect#2`` for the stage's third candidate."""
    return f"{stage}#{choice}" if choice else stage


def replica_name(worker: str, stage: str, choice: int = 0) -> str:
    """``worker-0/detect``, or ``worker-0/detect#2`` for the stage's third candidate."""
    return f"{worker}/{choice_name(stage, choice)}"


def replica_parts(replica: str) -> tuple[str, str, int]:
    """(worker, stage, candidate) of a replica's name."""
    worker, _, rest = replica.rpartition("/")
    stage, _, choice = rest.partition("#")
    return worker, stage, int(choice or 0)


class Candidate(msgspec.Struct, frozen=True):
    """One of the ways in which a stage may be run, with what is known of it beforehand.

    ``accuracy`` is on the one scale of the run's floor. ``price`` is that of a core-second.
    """

    configuration: Configuration
    points: tuple[BatchPoint, ...] = ()  # latency by batch, in order of batch; empty: to be learned
    accuracy: float = 1.0
    price: float = 1.0

    @property
    def cores(self) -> int:
        """That an invocation takes for as long as it lasts."""
        variant = self.configuration.variant
        return 1 if variant is None else max(1, variant.threads)

    @property
    def device(self) -> str:
        """Where it runs; empty: anywhere."""
        variant = self.configuration.variant
        return "" if variant is None else variant.device

    @property
    def max_batch(self) -> int:
        """The most items that one invocation may have."""
        return max(1, self.configuration.batch)

    @property
    def full_batch_cost(self) -> float:
        """Of an item in the largest batch, by the profile; nothing where there is none."""
        if not self.points:
            return 0.0
        last = self.points[-1]
        return self.price * self.cores * last.median_s / last.batch


class EdgePlan(msgspec.Struct, frozen=True, array_like=True):
    """One connection into an input port. ``stage`` is empty for the source itself."""

    port: str  # of the consumer
    stage: str  # producer
    output: str  # producer's port
    kind: str  # PortKind of the producer's port

    @property
    def selector(self) -> str:
        """As written in a pipeline: ``$ops.detect.boxes``."""
        return f"$ops.{self.stage}.{self.output}" if self.stage else f"$source.{self.output}"


class StagePlan(msgspec.Struct, frozen=True):
    """One stage with the configuration that it runs in."""

    name: str
    type: str
    inputs: tuple[EdgePlan, ...]
    outputs: dict[str, str]  # port -> PortKind
    configuration: Configuration
    level: str = ""  # name of the fan-out stage whose items it consumes; empty: one item a frame
    depth: int = 1  # longest way from the source, in stages
    stateful: bool = False
    fan_out: bool = False
    filters: bool = False
    hides: bool = False
    feeds_hiding: bool = False  # a stage that hides lies below it
    when: str | None = None
    sample_fps: float | None = None
    hold_unless: str | None = None  # a condition: where it does not hold, the last outputs are given again
    max_items: int = 64  # fan-out cap per frame
    cuts: bool = False  # its pictures are regions of those that it is given
    placement: str = "thread"  # kind of worker that serves it: thread | process
    candidates: tuple[Candidate, ...] = ()  # ways to run it, the first as ``configuration`` says; empty: only that way
    # More ways, numbered after the candidates: loaded, and taken instead of all others, only when a change says so.
    standby: tuple[Candidate, ...] = ()
    changeable: bool = False  # how it is run, and how often, may be changed while the run goes on

    @property
    def num_choices(self) -> int:
        """In how many ways it may be run without a change."""
        return max(1, len(self.candidates))

    @property
    def ways(self) -> tuple[Candidate, ...]:
        """All ways to run it, by number."""
        return (*(self.candidates or (Candidate(self.configuration),)), *self.standby)

    def choice(self, number: int) -> Configuration:
        """The configuration of a way to run it."""
        if number >= self.num_choices:
            return self.standby[number - self.num_choices].configuration
        return self.candidates[number].configuration if self.candidates else self.configuration


class SinkPlan(msgspec.Struct, frozen=True):
    """One sink; every stream has its own instance of it."""

    name: str
    type: str
    inputs: tuple[EdgePlan, ...]
    hides: bool = False  # a hiding stage lies upstream
    path: str | None = None
    params: dict[str, object] = {}


class SinkTally(msgspec.Struct, frozen=True):
    """What became of a stream's frames at one sink, as far as they were accounted for at a checkpoint."""

    delivered: int = 0
    filtered: dict[str, int] = {}  # by stage
    dropped: dict[str, int] = {}  # by reason
    failed: dict[str, int] = {}  # by reason
    cancelled: int = 0


class ResumePlan(msgspec.Struct, frozen=True):
    """Where a stream goes on that an earlier process has begun."""

    seq: int  # of the first frame that is still to come; all before are committed
    tallies: dict[str, SinkTally]  # by sink, of those before
    states: tuple[str, ...] = ()  # stages that remember something of them
    ended: bool = False  # its outputs are complete: it is not read again


class StreamPlan(msgspec.Struct, frozen=True):
    """One source as control sees it."""

    stream: str
    drop_policy: str = "block"  # block | drop-oldest | drop-newest
    max_pending: int = 4  # frames that may wait for admission under a dropping policy
    paced: bool = False  # its clock starts with its first credit: not before somebody can work on its frames
    segment_frames: int = 0  # a run can be taken up again at every so manieth frame; 0: it cannot
    resume: ResumePlan | None = None
    awaited: str = ""  # not there yet: "others", for as long as others go on; "limit", for as long as its source tries


class WorkerPlan(msgspec.Struct, frozen=True, array_like=True):
    """One worker's place. ``cores`` are the processors that it is bound to; empty: any."""

    name: str
    kind: str = "thread"  # thread | process
    cores: tuple[int, ...] = ()
    device: str = "cpu"  # that candidates must name to be loaded there; empty: any

    def has(self, device: str) -> bool:
        """Whether candidates for the device can be loaded there; those for none can be anywhere."""
        return not device or not self.device or device == self.device


class FaultPlan(msgspec.Struct, frozen=True):
    """When something counts as gone wrong, and how often it is tried again. Times in seconds.

    An invocation that runs longer than ``straggler_factor`` times the stage's 95th percentile (``straggler_floor_s``
    at least, or ``straggler_share`` of a latency objective if that is less: later, a second attempt would not come in
    time) is given to a second worker as well; one that exceeds ``hang_factor`` times (``hang_floor_s`` at least)
    never returns, and its worker is replaced. Until a stage has answered once, ``first_hang_s`` is what it may take.
    """

    max_attempts: int = 3  # of an item, before it is put into quarantine
    straggler_factor: float = 3.0
    straggler_floor_s: float = 0.25
    straggler_share: float = 0.25
    hang_factor: float = 20.0
    hang_floor_s: float = 10.0
    first_hang_s: float = 120.0
    warm_hang_s: float = 10.0  # that a worker's first invocation of a stage may take at least
    load_hang_s: float = 900.0  # that a worker may load one network, of which some are compiled then
    silent_after_s: float = 1.5  # without a heartbeat of a process
    dead_after_s: float = 8.5  # of silence on top of that
    backoff_s: float = 0.1  # before a lost worker's place is filled again; doubles with every loss in a row
    max_backoff_s: float = 5.0
    max_losses: int = 6  # of a worker in a row, without one answer between, before its place stays empty
    snapshot_items: int = 32  # items between two snapshots of a stage that remembers
    snapshot_frames: int = 8  # the same where its inputs are pictures, which are kept until then


class JobPlan(msgspec.Struct, frozen=True):
    """A job's objective: all of it done ``deadline_s`` after ``began_s``, a moment on the run's clock."""

    began_s: float
    deadline_s: float
    num_frames: dict[str, int]  # by stream, as far as known or estimated
    fill_s: float = 0.0  # before the first frame can be expected


class PolicyPlan(msgspec.Struct, frozen=True):
    """How candidates are chosen among, per invocation. Every mechanism can be switched off by itself.

    ``fixed`` takes every stage's first candidate as work comes, whatever happens.
    """

    name: str = "fixed"  # fixed | llamapipe | one of `llamapipe.control.policies`
    floor: float = 0.0  # the least accuracy of a candidate
    second_floor: float = 0.0  # below which even `degrade` does not go
    on_overload: str = "late"  # late | degrade | drop
    quantile: float = 0.95  # share of frames that are to meet a latency
    feedback: bool = True  # latencies, and the margin to the objective, follow what is observed
    late_commit: bool = True  # work waits uncommitted for the candidate that it is best for
    delayed_batching: bool = True
    deep_first: bool = True
    stragglers: bool = True
    budgets_s: tuple[float, ...] = ()  # of every stage, where the objective was split beforehand


MECHANISMS = ("feedback", "late-commit", "delayed-batching", "deep-first", "stragglers", "fusing")
"""What a run can be asked to do without, to see what it brings: fields of `PolicyPlan`, and chains."""


class RunPlan(msgspec.Struct, frozen=True):
    """Initial state of a run: with the event log it determines every action."""

    pipeline: str
    stages: tuple[StagePlan, ...]  # in topological order
    sinks: tuple[SinkPlan, ...]
    streams: tuple[StreamPlan, ...]
    workers: tuple[WorkerPlan, ...]
    max_in_flight: int = 16  # frames between admission and commit, all streams together
    max_queued: int = 2  # invocations that a worker may hold, the running one included
    latency_slo_s: float | None = None
    job: JobPlan | None = None
    policy: PolicyPlan = PolicyPlan()
    faults: FaultPlan = FaultPlan()
    checkpoint_every_s: float = 5.0  # at most one checkpoint of a stream in that time
    chains: tuple[tuple[str, ...], ...] = ()  # stages that are run in one invocation, see `llamapipe.control.chains`
    seed: int = 0
    allotted: int = 0  # workers of a kind that are given work at first; 0: all, see `llamapipe.control.events.Allot`
    version: int = 5
