"""A scenario: what is to be simulated, as a user writes it down.

    version: 1
    name: junction
    duration_s: 120
    machines:
      - {type: cpu-node, device: cpu, workers: 8, price_per_hour: 0.66, source: "list price, May 2021"}
    pipeline:
      slo: {latency_p95_ms: 500}
      accuracy: {min: 0.8}
      stages:
        - name: detect
          finds: {mean: 2.0}              # boxes a frame, over time: [[0, 1.0], [60, 4.0]]
          candidates:
            - {variant: nano, device: cpu, points: [[1, 45]], accuracy: 0.28, source: "..."}
        - {name: crops, after: detect, crops: detect, item_ms: 0.3, source: "..."}
        - {name: faces, after: crops, when: detect, candidates: [...]}
    streams: {count: 10, fps: 25}

Every figure that is not measured on this machine has a ``source``. Latencies in milliseconds, as people quote them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llamapipe.spec.checked import read_checked
from llamapipe.spec.model import AccuracyFloor, SloSpec

__all__ = [
    "ArrivalSpec",
    "CandidateSpec",
    "ContentSpec",
    "FailureSpec",
    "MachineSpec",
    "NetworkSpec",
    "PipelineScenario",
    "Scenario",
    "StageSpec",
    "StreamsSpec",
    "load_scenario",
]

Policy = Literal["fixed", "static", "llamapipe", "llama", "grandslam", "nexus", "inferline", "infaas", "gg"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MachineSpec(_Strict):
    """A kind of worker: a core, a GPU, a slice of either."""

    type: str
    device: str = "cpu"  # that candidates name
    workers: int = Field(default=1, ge=0)
    price_per_hour: float = Field(default=1.0, ge=0, description="of one worker")
    start_s: float = Field(default=0.0, ge=0)
    source: str = Field(description="where price and times come from")


class CandidateSpec(_Strict):
    """One way to run a stage. ``points`` are [batch, median milliseconds of the whole batch], rising in batch."""

    variant: str
    device: str = "cpu"
    points: tuple[tuple[int, float], ...] = Field(min_length=1)
    p95_factor: float = Field(default=1.1, ge=1, description="95th percentile over median")
    accuracy: float = Field(default=1.0, ge=0, le=1)
    load_s: float = Field(default=0.0, ge=0)
    source: str = Field(description="where the figures come from")

    @model_validator(mode="after")
    def _rising(self) -> CandidateSpec:
        batches = [batch for batch, _ in self.points]
        if batches != sorted(set(batches)) or batches[0] < 1 or any(ms <= 0 for _, ms in self.points):
            raise ValueError("points: expected [batch, milliseconds] with rising batches from 1 up and times above 0")
        return self


class ContentSpec(_Strict):
    """How many things are seen in a frame: a Poisson number that lasts ``persists_s``.

    ``over`` gives its mean in time: [seconds, mean], straight lines between.
    """

    mean: float = Field(default=1.0, ge=0)
    over: tuple[tuple[float, float], ...] = ()
    persists_s: float = Field(default=1.0, gt=0)


class StageSpec(_Strict):
    """An operation. ``after`` names the stages that it takes its items from; none: the source."""

    name: str
    after: tuple[str, ...] = ()
    finds: ContentSpec | None = None
    crops: str | None = Field(default=None, description="its items are what that stage has found in the frame")
    when: str | None = Field(default=None, description="taken only where that stage has found something")
    stateful: bool = False
    item_ms: float | None = Field(default=None, ge=0, description="of a stage without candidates")
    candidates: tuple[CandidateSpec, ...] = ()
    source: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("after"), str):
            return {**data, "after": [data["after"]]}
        return data

    @model_validator(mode="after")
    def _has_times(self) -> StageSpec:
        if bool(self.candidates) == (self.item_ms is not None):
            raise ValueError(f"stage {self.name}: expected either candidates or item_ms")
        if self.item_ms is not None and not self.source:
            raise ValueError(f"stage {self.name}: item_ms needs a source")
        return self


class PipelineScenario(_Strict):
    """The pipeline and its objective."""

    slo: SloSpec | None = None
    accuracy: AccuracyFloor | None = None
    second_accuracy: float = Field(default=0.0, ge=0, le=1, description="below which even `degrade` does not go")
    on_overload: Literal["late", "degrade", "drop"] = "late"
    stages: tuple[StageSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _known_names(self) -> PipelineScenario:
        seen: set[str] = set()
        for stage in self.stages:
            for what, names in (("after", stage.after), ("crops", (stage.crops,)), ("when", (stage.when,))):
                for name in names:
                    if name is not None and name not in seen:
                        raise ValueError(
                            f"stage {stage.name}: {what}: {name} is no stage above it; there are "
                            f"{', '.join(sorted(seen)) or 'none'}"
                        )
            if stage.name in seen:
                raise ValueError(f"stage {stage.name} is there twice")
            seen.add(stage.name)
        finders = {stage.name for stage in self.stages if stage.finds is not None}
        for stage in self.stages:
            for name in (stage.crops, stage.when):
                if name is not None and name not in finders:
                    raise ValueError(f"stage {stage.name}: {name} finds nothing: give it `finds`")
        return self


class ArrivalSpec(_Strict):
    """When the frames of a stream come, if not evenly."""

    kind: Literal["constant", "poisson", "ramp", "spike", "diurnal", "recorded"] = "constant"
    low: float | None = Field(default=None, ge=0, description="frames a second of ramp, spike and diurnal; high is fps")
    start_s: float = Field(default=0.0, ge=0, description="of the spike")
    length_s: float = Field(default=10.0, gt=0, description="of the spike")
    period_s: float = Field(default=60.0, gt=0, description="of diurnal")
    times_s: tuple[float, ...] = ()  # recorded


class StreamsSpec(_Strict):
    """Cameras, or with ``job`` files that are read as fast as they can be."""

    count: int = Field(default=1, ge=1)
    fps: float = Field(default=25.0, gt=0)
    arrivals: ArrivalSpec = ArrivalSpec()
    job: bool = False
    frames: int | None = Field(default=None, ge=1, description="of each; else duration_s times fps")
    decode_ms: float = Field(default=0.0, ge=0)
    drop: Literal["block", "drop-oldest", "drop-newest"] | None = None


class FailureSpec(_Strict):
    """What goes wrong."""

    fail_share: float = Field(default=0.0, ge=0, lt=1, description="of invocations, all their items")
    slow_share: float = Field(default=0.0, ge=0, lt=1, description="of invocations")
    slow_factor: float = Field(default=10.0, ge=1)
    worker_mtbf_s: float | None = Field(default=None, gt=0, description="mean life of a worker")


class NetworkSpec(_Strict):
    """Between engine and workers. An invocation holds its worker while its pictures are sent."""

    latency_ms: float = Field(default=0.0, ge=0)
    mb_per_s: float | None = Field(default=None, gt=0)
    item_mb: float = Field(default=0.0, ge=0)


class Scenario(_Strict):
    """The whole of it."""

    version: Literal[1] = 1
    name: str
    description: str = ""
    seed: int = Field(default=0, ge=0)
    duration_s: float = Field(gt=0)
    cores: float | None = Field(
        None, gt=0, description="that workers, sources and sinks share; none: all have their own"
    )
    sink_ms: float = Field(default=0.0, ge=0)
    machines: tuple[MachineSpec, ...] = Field(min_length=1)
    pipeline: PipelineScenario
    streams: StreamsSpec = StreamsSpec()
    failures: FailureSpec = FailureSpec()
    network: NetworkSpec = NetworkSpec()
    policy: Policy = "llamapipe"

    @model_validator(mode="after")
    def _served(self) -> Scenario:
        devices = {machine.device for machine in self.machines if machine.workers}
        for stage in self.pipeline.stages:
            if stage.candidates and not any(candidate.device in devices for candidate in stage.candidates):
                wanted = ", ".join(sorted({candidate.device for candidate in stage.candidates}))
                there = ", ".join(sorted(devices)) or "none"
                raise ValueError(f"stage {stage.name}: its candidates want {wanted}, the machines have {there}")
        return self


def load_scenario(path: Path) -> Scenario:
    """Read a file. Raises SpecError with all problems, each with its line, and UsageError where it is not there."""
    return read_checked(path, Scenario, "scenario", "docs/simulation.md")
