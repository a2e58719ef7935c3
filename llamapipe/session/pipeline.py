"""Pipelines that can be run from Python."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

from llamapipe.clock import system_env
from llamapipe.report import PlanView, RunSummary
from llamapipe.session.execute import run as run_request
from llamapipe.session.execute import stream
from llamapipe.session.request import DropPolicy, Progress, RunRequest
from llamapipe.session.resolve import load_pipeline
from llamapipe.session.results import FrameResult
from llamapipe.spec import PipelineBuilder, PipelineSpec
from llamapipe.tune.tuning import Tuning

if TYPE_CHECKING:
    from llamapipe.session.searching import Step
    from llamapipe.session.tuning import Tuned

__all__ = ["Pipeline", "ReadyPipeline", "RunOptions", "TuneOptions", "load", "plan", "run", "tune"]

Sources = str | Path | Sequence[str | Path]


class RunOptions(TypedDict, total=False):
    """The keywords of `run`: the fields of `RunRequest`, which says what each means and what it is when left out."""

    params: Mapping[str, str]
    sets: Mapping[str, str]
    slo: str | None
    min_accuracy: float | None
    start_s: float | None
    end_s: float | None
    max_frames: int | None
    loop: int
    realtime: bool
    reconnect_for_s: float | None
    stall_timeout_s: float
    drop_policy: DropPolicy | None
    sinks: Sequence[str]
    ops_files: Sequence[Path]
    force: bool
    workers: int | str | None
    cores: int | str | None
    invocation_timeout_s: float | None
    record_events: bool
    resume: bool
    prices: Path | None
    without: Sequence[str]
    segment_s: float
    shadow: float
    retune: bool
    config: Path | Tuning | None


class TuneOptions(TypedDict, total=False):
    """The keywords of `tune`: fields of `TuneRequest`, which says what each means and what it is when left out."""

    params: Mapping[str, str]
    sets: Mapping[str, str]
    slo: str | None
    min_accuracy: float | None
    labels: Path | None
    labels_stage: str | None
    budget_s: float | None
    budget_frames: int | None
    knobs: Sequence[str]
    reference: Mapping[str, str]
    workers: int | str | None
    ops_files: Sequence[Path]
    prices: Path | None
    again: bool
    start_s: float | None
    end_s: float | None
    seed: int


@overload
def run(
    pipeline: str | Path | PipelineSpec | PipelineBuilder | ReadyPipeline,
    sources: Sources,
    *,
    output: None = None,
    interrupt: threading.Event | None = None,
    **options: Unpack[RunOptions],
) -> Iterator[FrameResult]: ...


@overload
def run(
    pipeline: str | Path | PipelineSpec | PipelineBuilder | ReadyPipeline,
    sources: Sources,
    *,
    output: str | Path,
    on_progress: Callable[[Progress], None] | None = None,
    interrupt: threading.Event | None = None,
    **options: Unpack[RunOptions],
) -> RunSummary: ...


def run(
    pipeline: str | Path | PipelineSpec | PipelineBuilder | ReadyPipeline,
    sources: Sources,
    *,
    output: str | Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    interrupt: threading.Event | None = None,
    **options: Unpack[RunOptions],
) -> Iterator[FrameResult] | RunSummary:
    """Run a pipeline on files or streams.

    With ``output`` (a folder) files are written, and the summary is returned when all is done. Without, an iterator
    gives every frame's results as they are ready; leaving the loop ends the run. ``options`` are the fields of
    `RunRequest`: ``sets``, ``slo``, ``start_s``, ``max_frames``, ``realtime``, ``force``, ...

    Raises UsageError, SpecError, SourceError, OutputError, AssetError where the run cannot begin; without ``output``
    that is when the first result is asked for. An iterator also raises InterruptedRun after ``interrupt`` was set,
    and LlamapipeError at the end of a run that failed.
    """
    request = RunRequest(
        _reference(pipeline),
        _several(sources),
        output=None if output is None else Path(output),
        **options,
    )
    if output is None:
        return stream(request, interrupt=interrupt)
    return run_request(request, on_progress=on_progress, interrupt=interrupt)


def plan(
    pipeline: str | Path | PipelineSpec | PipelineBuilder | ReadyPipeline,
    sources: Sources,
    **options: Unpack[RunOptions],
) -> PlanView:
    """What a run would do and why, and whether it can meet its objective. ``options`` are those of `run`.

    Nothing is run, but for sampled frames where a floor of agreement asks for it, or no stage has a model. Raises what
    `run` raises where the run could not begin.
    """
    from llamapipe.session.planning import explain_plan

    return explain_plan(RunRequest(_reference(pipeline), _several(sources), **options))


def tune(
    pipeline: str | Path | PipelineSpec | PipelineBuilder | ReadyPipeline,
    video: str | Path,
    *,
    on_step: Callable[[Step], None] | None = None,
    interrupt: threading.Event | None = None,
    **options: Unpack[TuneOptions],
) -> Tuned:
    """Find the cheapest configuration for a video that is right and fast enough.

    ``tuning`` of what comes back is for ``config`` of `run`, where its ``feasible`` says that something fits.
    ``options`` are fields of `TuneRequest`: ``slo``, ``min_accuracy``, ``labels``, ``budget_s``, ... ``on_step`` is
    told of every trial.

    Raises UsageError, SpecError, SourceError, AssetError, and InterruptedRun after ``interrupt`` was set.
    """
    from llamapipe.session.tune_request import TuneRequest
    from llamapipe.session.tuning import tune as search

    request = TuneRequest(_reference(pipeline), str(video), **options)
    return search(request, on_step=on_step or (lambda _: None), interrupt=interrupt)


def _reference(
    pipeline: str | Path | PipelineSpec | PipelineBuilder | ReadyPipeline,
) -> str | Path | PipelineSpec:
    return pipeline.spec() if isinstance(pipeline, PipelineBuilder | ReadyPipeline) else pipeline


def _several(sources: Sources) -> list[str]:
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    return [str(source) for source in given]


class _Runs:
    def spec(self) -> PipelineSpec:
        raise NotImplementedError  # every one that can be run has its own

    @overload
    def run(
        self,
        sources: Sources,
        *,
        output: None = None,
        interrupt: threading.Event | None = None,
        **options: Unpack[RunOptions],
    ) -> Iterator[FrameResult]: ...

    @overload
    def run(
        self,
        sources: Sources,
        *,
        output: str | Path,
        on_progress: Callable[[Progress], None] | None = None,
        interrupt: threading.Event | None = None,
        **options: Unpack[RunOptions],
    ) -> RunSummary: ...

    def run(self, sources: Sources, *, output: str | Path | None = None, **options: Any) -> Any:
        """Run on files or streams. See `llamapipe.run`."""
        if output is None:
            return run(self.spec(), sources, **options)
        return run(self.spec(), sources, output=output, **options)

    def plan(self, sources: Sources, **options: Unpack[RunOptions]) -> PlanView:
        """What a run would do and why. See `llamapipe.plan`."""
        return plan(self.spec(), sources, **options)

    def tune(
        self,
        video: str | Path,
        *,
        on_step: Callable[[Step], None] | None = None,
        interrupt: threading.Event | None = None,
        **options: Unpack[TuneOptions],
    ) -> Tuned:
        """Find the cheapest configuration for a video. See `llamapipe.tune`."""
        return tune(self.spec(), video, on_step=on_step, interrupt=interrupt, **options)


class Pipeline(PipelineBuilder, _Runs):
    """A pipeline made in Python.

    with Pipeline("count", slo="p95<=200ms") as pipeline:
        people = detect(pipeline.frames, task="person-detection")

    for result in pipeline.run("cam.mp4"):
        print(result.frame, len(result.boxes("detect")))
    """

    def spec(self) -> PipelineSpec:
        """The pipeline so far, as data."""
        return PipelineBuilder.spec(self)


class ReadyPipeline(_Runs):
    """A pipeline read from a file, or one of the ready ones. Made by `load`."""

    def __init__(self, spec: PipelineSpec) -> None:
        self._spec = spec

    def spec(self) -> PipelineSpec:
        """The pipeline as data."""
        return self._spec


def load(
    reference: str | Path,
    *,
    params: Mapping[str, str] | None = None,
    sets: Mapping[str, str] | None = None,
    ops_files: Sequence[str | Path] = (),
) -> ReadyPipeline:
    """A ready pipeline by name, a YAML file, or ``file.py:name``. Raises SpecError with all problems, UsageError."""
    return ReadyPipeline(load_pipeline(reference, env=system_env(), params=params, sets=sets, ops_files=ops_files).spec)
