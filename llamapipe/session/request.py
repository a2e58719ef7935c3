"""What a caller asks of a run, and what it is told while the run goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from llamapipe.catalog import Variant
from llamapipe.spec.model import PipelineSpec
from llamapipe.tune.tuning import Tuning

__all__ = ["Agreements", "DropPolicy", "Progress", "RunRequest"]

DropPolicy = Literal["block", "drop-oldest", "drop-newest"]


@dataclass(frozen=True, slots=True)
class Agreements:
    """How far the variants of each stage agree with the reference on a video, in 0..1; others are not known to."""

    by_stage: Mapping[str, Mapping[Variant, float]]
    note: str  # where that comes from, in a sentence
    warns: bool = False  # nothing was tried on this video, and the note says why


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One run. Everything but the pipeline and its sources has a sensible default."""

    pipeline: str | Path | PipelineSpec  # built-in name, YAML path, "file.py:name", or the spec itself
    sources: Sequence[str]
    output: Path | None = None  # folder for files; None: results are streamed, nothing is written
    params: Mapping[str, str] = field(default_factory=dict)  # pipeline parameters
    sets: Mapping[str, str] = field(default_factory=dict)  # "stage.knob": value; "params.NAME" too
    slo: str | None = None  # "p95=200ms", "deadline=30s"; replaces the pipeline's
    min_accuracy: float | None = None  # 0..1, least agreement with the reference; replaces the pipeline's floor
    start_s: float | None = None
    end_s: float | None = None
    max_frames: int | None = None
    loop: int = 1
    realtime: bool = False  # pace files at their own rate
    reconnect_for_s: float | None = None  # 0: never; None: 60, and as long as others for the first connection
    stall_timeout_s: float = 5.0  # after which a live source that sends nothing is called back
    drop_policy: DropPolicy | None = None  # None: block for files, drop-oldest for live sources
    sinks: Sequence[str] = ()  # "KIND=PATH" or "KIND", beside the pipeline's own
    ops_files: Sequence[Path] = ()
    force: bool = False
    workers: int | str | None = None  # how many, "thread", "process" or "process:3"; None: threads, one more than cores
    cores: int | str | None = None  # that it may use, or "all"; None: with an objective, as few as meet it
    invocation_timeout_s: float | None = None  # after which a worker that does not answer is replaced
    record_events: bool = False  # write events.jsonl
    resume: bool = False  # go on with a run that was killed, where its folder holds one
    prices: Path | None = None  # price list; None: the user's own, else core-seconds
    without: Sequence[str] = ()  # mechanisms that are switched off, to see what they bring: `control.MECHANISMS`
    segment_s: float = 10.0  # media time between two places where a run can be gone on with
    shadow: float = 0.0  # share of frames on which a configuration is compared with its reference meanwhile
    retune: bool = True  # where that finds it too far off: go over to the reference, and search anew meanwhile
    config: Path | Tuning | None = None  # what `tune` found, or its file; ``sets`` go before it
    agreed: Agreements | None = None  # None: found out where the floor needs it and the catalogue does not know
    remarks: Sequence[str] = ()  # found out beforehand, for the notes of whatever comes of it
    waited_s: float = 0.0  # since the user asked: tuning and sampling count against a deadline


@dataclass(frozen=True, slots=True)
class Progress:
    """A run at one moment."""

    state: str  # "fetching", "loading", "running", "draining", "done"
    frames_done: int
    frames_total: int | None
    fps: float
    x_realtime: float | None
    p95_ms: float | None
    slo: str | None  # "p95<=200ms"
    dropped: int
    failed: int
    eta_s: float | None
    elapsed_s: float
    fetching: str = ""  # the model or clip that is being fetched
