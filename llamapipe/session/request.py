"""What a caller asks of a run, and what it is told while the run goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from llamapipe.catalog import Variant
from llamapipe.session import options
from llamapipe.spec.model import PipelineSpec
from llamapipe.tune.tuning import Tuning

__all__ = ["Agreements", "DropPolicy", "Progress", "RunRequest"]

DropPolicy = Literal["block", "drop-oldest", "drop-newest"]

_OBJECTIVE = "p95=200ms"
_SECONDS = "seconds, 0 or more"
_AGES_S = 1e9


def _config(name: str, given: Any) -> Path | Tuning | None:
    if isinstance(getattr(given, "tuning", None), Tuning):  # what `tune` returns, whole
        return given.tuning  # type: ignore[no-any-return]  # as was just seen
    return given if isinstance(given, Tuning) else options.path(name, given)


def _cores(name: str, given: Any) -> int | str | None:
    found: int | str | None = options.words_or_number("a number, 'all', or None")(name, given)
    return int(found) if isinstance(found, str) and found.isdecimal() else found


_CHECKS: Mapping[str, options.Check] = {
    "sources": options.texts,
    "output": options.path,
    "params": options.assignments,
    "sets": options.assignments,
    "slo": options.word(_OBJECTIVE),
    "min_accuracy": options.number("a share from 0 to 1", optional=True, any_range=True),
    "start_s": options.number(_SECONDS, most=_AGES_S, optional=True),
    "end_s": options.number(_SECONDS, optional=True),
    "max_frames": options.number("a whole number from 1 up", least=1, whole=True, optional=True),
    "loop": options.number("a whole number from 1 up", least=1, whole=True),
    "realtime": options.flag,
    "reconnect_for_s": options.number("seconds, 0 (never) or more", least=0, optional=True),
    "stall_timeout_s": options.number("seconds, over 0", over=0, most=_AGES_S),
    "drop_policy": options.choice(*get_args(DropPolicy)),
    "sinks": options.texts,
    "ops_files": options.paths,
    "force": options.flag,
    "workers": options.words_or_number("a number, a text as in 'process:3', or None"),
    "cores": _cores,
    "invocation_timeout_s": options.number("seconds, over 0", over=0, most=_AGES_S, optional=True),
    "record_events": options.flag,
    "resume": options.flag,
    "prices": options.path,
    "without": options.texts,
    "segment_s": options.number(_SECONDS, least=0, most=_AGES_S),
    "shadow": options.number("a share of frames", any_range=True),
    "retune": options.flag,
    "config": _config,
}


@dataclass(frozen=True, slots=True)
class Agreements:
    """How far the variants of each stage agree with the reference on a video, in 0..1; others are not known to."""

    by_stage: Mapping[str, Mapping[Variant, float]]
    note: str  # where that comes from, in a sentence
    warns: bool = False  # nothing was tried on this video, and the note says why


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One run. Everything but the pipeline and its sources has a sensible default.

    Texts are taken where a path is meant, and a single one where a list is.
    """

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

    def __post_init__(self) -> None:
        """Raises UsageError for an option that is of another type than it should be, or beyond what it can be."""
        options.made_right(self, _CHECKS)


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
