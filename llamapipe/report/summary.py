"""What a run did, as plain data: the content of run.json."""

from __future__ import annotations

from typing import Any

import msgspec

from llamapipe.report.plan_view import PlanView
from llamapipe.report.shadowed import ShadowSummary
from llamapipe.report.tuned import TuningSummary

__all__ = [
    "ConfigurationChange",
    "CostSummary",
    "Decided",
    "FrameCounts",
    "Quantiles",
    "RunSummary",
    "ServedBy",
    "SloResult",
    "StageRuns",
    "StageSummary",
    "StreamSummary",
]


class FrameCounts(msgspec.Struct, frozen=True):
    """Where frames ended: decoded = delivered + filtered + dropped + failed + cancelled."""

    decoded: int = 0
    delivered: int = 0
    filtered: dict[str, int] = {}  # by stage
    dropped: dict[str, int] = {}  # by reason
    failed: dict[str, int] = {}  # by reason
    cancelled: int = 0


class Quantiles(msgspec.Struct, frozen=True):
    """Of a latency, milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float
    mean: float


class SloResult(msgspec.Struct, frozen=True):
    """The objective, and whether the run met it."""

    objective: str  # "p95<=200ms", "deadline=30s"
    judged: bool
    met: bool | None = None
    value: float | None = None  # milliseconds for a latency, seconds for a deadline
    limit: float | None = None
    reason: str = ""  # why it is not judged, or what else was missed
    attainment: float | None = None  # share of the frames that were to be delivered that were so in time


class ServedBy(msgspec.Struct, frozen=True):
    """What one of a stage's candidates did, where it had several."""

    variant: str | None
    items: int
    invocations: int
    busy_s: float
    cost: float = 0.0  # marginal
    accuracy: float | None = None  # on the scale of the floor; None without one
    choice: int = 0  # its number among the stage's ways to run


class Decided(msgspec.Struct, frozen=True):
    """How often a stage's next invocation was decided upon in one way, and why."""

    runs: str | None  # the variant, or the operator of a stage without a model; None: nothing was chosen
    code: str  # cheapest, slack-short, overload-late, ...
    why: str
    times: int  # invocations; of waits: times that one began


class CostSummary(msgspec.Struct, frozen=True):
    """What a run cost, in ``unit``: ``core-s``, or the currency of the user's prices.

    Reserved: the time that workers, decoders and encoders were there, times their threads, times the price; no more
    cores at a time than there are. Marginal: the time that invocations took, waiting for a core included.
    """

    unit: str
    reserved: float
    marginal: float
    reserved_by: dict[str, float]  # workers, decode, encode
    reserved_per_1000_frames: float | None  # delivered ones
    device_s: dict[str, float]  # device -> reserved device-seconds; of cpu: core-seconds
    price_per_s: dict[str, float]  # device -> price of a device-second


class StageSummary(msgspec.Struct, frozen=True):
    """What one stage ran with, and what it did."""

    name: str
    type: str
    variant: str | None  # model/backend/device/precision/size/threads
    batch: int
    params: dict[str, Any]  # its operator's, and the knobs that what it finds hangs on
    items: int
    invocations: int
    busy_s: float
    failed: int  # items
    latency_ms: Quantiles | None  # of invocations
    load_s: float  # all replicas together
    replicas: int
    served_by: list[ServedBy] = []  # in order of candidates; empty where there was no choice
    cost: float = 0.0  # marginal, of all invocations
    decisions: list[Decided] = []  # the most frequent first; empty where there was nothing to decide
    budget_ms: float | None = None  # its share of a latency objective; of a deadline, of workers' time for a frame
    through_ms: Quantiles | None = None  # that a frame spent there, waiting included; None without such an objective
    accuracy: float | None = None  # of what served, by items, on the scale of the floor; as tuned: at the sinks
    accuracy_of: str = ""  # what that is, where it is the tuning's; empty: as the candidates are rated
    frame_ms: float | None = None  # that workers spent on a frame there; None without a deadline


class StreamSummary(msgspec.Struct, frozen=True):
    """What became of one source."""

    name: str
    source: str  # credentials redacted
    width: int
    height: int
    fps: float | None
    outcome: str  # done, failed, cancelled, lost
    error: str | None
    frames: FrameCounts
    media_s: float  # length of what was read
    outputs: list[str]
    reconnects: int = 0  # times that a live source came back
    offline_s: float = 0.0  # that it gave no pictures
    joined_s: float = 0.0  # after the run began that it was there; 0: from the beginning


class StageRuns(msgspec.Struct, frozen=True):
    """How a stage was run from a change on."""

    stage: str
    variant: str | None
    batch: int
    sample_fps: float | None  # None: every frame
    skips_still: bool = False  # frames without motion

    def __str__(self) -> str:
        rate = f" at {self.sample_fps:g} fps" if self.sample_fps is not None else ""
        still = " where something moves" if self.skips_still else ""
        return f"{self.stage} as {self.variant}, batch {self.batch}{rate}{still}"


class ConfigurationChange(msgspec.Struct, frozen=True):
    """Stages were run in another way from then on; with ``error`` they should have been, and were not."""

    at_s: float  # since the run began
    frame: int  # that came first after it, about
    why: str
    runs: list[StageRuns]
    error: str = ""

    def __str__(self) -> str:
        runs = "; ".join(map(str, self.runs))
        what = f"could not be changed ({self.error}) to" if self.error else "changed to"
        return f"at {self.at_s:.1f} s, frame {self.frame}, {what} {runs}: {self.why}"


class CoresHeld(msgspec.Struct, frozen=True):
    """From ``at_s`` on, in seconds of the run, it was held on so many cores."""

    at_s: float
    cores: int
    why: str = ""

    def __str__(self) -> str:
        cores = f"{self.cores} core" + ("" if self.cores == 1 else "s")
        return f"from {self.at_s:.1f} s on held on {cores}: {self.why}"


class RunSummary(msgspec.Struct, frozen=True):
    """The whole run."""

    pipeline: str
    outcome: str  # done, failed, cancelled
    error: str | None
    exit_code: int
    started_at: str  # ISO 8601, UTC
    wall_s: float
    load_s: float  # of wall_s, until the first frame was worked on
    fps: float  # frames delivered a second, loading left out
    x_realtime: float | None  # frames worked off a second against the sources' own rates; None where they have none
    frames: FrameCounts
    latency_ms: Quantiles | None  # capture to commit; None where frames have no time of capture
    slo: SloResult | None
    cost_core_s: float  # core-seconds reserved, whatever they cost
    cpu_s: float  # processor time used
    workers: int
    stages: list[StageSummary]
    streams: list[StreamSummary]
    outputs: list[str]
    versions: dict[str, str]
    notes: list[str] = []  # what went wrong on the way and was mended, or not quite
    first_frame_s: float | None = None  # from enter to the first frame delivered
    cost: CostSummary | None = None  # None: of a release that did not count it
    plan: PlanView | None = None  # what was to be done, and why
    changes: list[ConfigurationChange] = []  # while it ran, in order of time
    observed: dict[str, int] = {}  # variant -> invocations that its profile was refined by
    hardware: str = ""  # fingerprint of the machine
    waited_s: float = 0.0  # before ``wall_s``, since the user asked: tuning, sampling
    cores: list[CoresHeld] = []  # that an objective was met on, in order of time; empty: all, all of the time
    tuning: TuningSummary | None = None  # the search that its configuration comes from; None: it was not tuned
    shadow: ShadowSummary | None = None  # how that held; None: nobody looked
    foreign: float = 0.0  # share of the cores' time that other processes, or other machines of the host, took
    fingerprint: dict[str, str] = {}  # what the results hang on; digests, but for flags and versions
    folder: str = ""  # that it was written to, as it was named; empty: none, or a release that did not say
    version: int = 1  # of this format

    def to_json(self) -> bytes:
        """Indented JSON, keys in the order above."""
        return msgspec.json.format(msgspec.json.encode(self, enc_hook=str), indent=2) + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> RunSummary:
        """Raises msgspec.ValidationError for anything else than such a summary."""
        return msgspec.json.decode(data, type=cls)
