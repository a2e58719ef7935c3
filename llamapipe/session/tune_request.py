"""What a tuning is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llamapipe.session import options
from llamapipe.session.request import RunRequest

__all__ = ["TuneRequest"]

_CHECKS: Mapping[str, options.Check] = {
    "source": options.word("street.mp4"),
    "params": options.assignments,
    "sets": options.assignments,
    "slo": options.word("p95=200ms"),
    "min_accuracy": options.number("a share from 0 to 1", optional=True, any_range=True),
    "labels": options.path,
    "labels_stage": options.word("detect"),
    "budget_s": options.number("seconds", optional=True, any_range=True),
    "budget_frames": options.number("a whole number from 1 up", least=1, whole=True, optional=True),
    "knobs": options.texts,
    "reference": options.assignments,
    "workers": options.words_or_number("a number, a text as in 'process:3', or None"),
    "ops_files": options.paths,
    "prices": options.path,
    "again": options.flag,
    "start_s": options.number("seconds, 0 or more", most=1e9, optional=True),
    "end_s": options.number("seconds, 0 or more", most=1e9, optional=True),
    "record_s": options.number("seconds", any_range=True),
    "seed": options.number("a whole number, 0 or more", least=0, whole=True),
}


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """One tuning. Everything but the pipeline and the video has a sensible default."""

    pipeline: Any  # as in RunRequest
    source: str
    params: Mapping[str, str] = field(default_factory=dict)
    sets: Mapping[str, str] = field(default_factory=dict)
    slo: str | None = None  # replaces the pipeline's
    min_accuracy: float | None = None  # replaces the pipeline's
    labels: Path | None = None  # ground truth of the video: accuracy is AP at IoU 0.5 then
    labels_stage: str | None = None  # whose boxes are compared with it
    budget_s: float | None = None  # None: a tenth of the video, 10 s of one below 30 s
    budget_frames: int | None = None  # worked on in all trials together; None: as many as the seconds allow
    knobs: Sequence[str] = ()  # "STAGE.KNOB=V1,V2": more to try
    reference: Mapping[str, str] = field(default_factory=dict)  # "STAGE.KNOB" -> value of the reference
    workers: int | str | None = None
    ops_files: Sequence[Path] = ()
    prices: Path | None = None  # price list; None: the user's own, else core-seconds
    again: bool = False  # search even where a like video is known
    start_s: float | None = None  # of the part of the video that it is for; None: its beginning
    end_s: float | None = None
    record_s: float = 20.0  # of a live source, that is recorded to be tuned on
    before_run: bool = False  # what it takes counts against the deadline of the run that waits for it
    variants_alone: bool = False  # how right variants are is asked, at any latency; batch and rate stay
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises UsageError for an option that is of another type than it should be, or beyond what it can be."""
        options.made_right(self, _CHECKS)

    @classmethod
    def of_run(cls, run: RunRequest, source: str) -> TuneRequest:
        """For a source of a run, with all that a run and a tuning are both told but the objective."""
        return cls(
            run.pipeline,
            source,
            params=run.params,
            sets=run.sets,
            min_accuracy=run.min_accuracy,
            workers=run.workers,
            ops_files=run.ops_files,
            prices=run.prices,
            start_s=run.start_s,
            end_s=run.end_s,
        )
