"""Pipelines that can be run from Python."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

from llamapipe.clock import system_env
from llamapipe.errors import UsageError
from llamapipe.report import PlanView, RunSummary
from llamapipe.session import options as given_options
from llamapipe.session.execute import run as run_request
from llamapipe.session.execute import stream
from llamapipe.session.request import DropPolicy, Progress, RunRequest
from llamapipe.session.resolve import LoadedPipeline, load_pipeline
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
    ops_files: Sequence[str | Path]
    force: bool
    workers: int | str | None
    cores: int | str | None
    invocation_timeout_s: float | None
    record_events: bool
    resume: bool
    prices: str | Path | None
    without: Sequence[str]
    segment_s: float
    shadow: float
    retune: bool
    config: str | Path | Tuning | None


class TuneOptions(TypedDict, total=False):
    """The keywords of `tune`: fields of `TuneRequest`, which says what each means and what it is when left out."""

    params: Mapping[str, str]
    sets: Mapping[str, str]
    slo: str | None
    min_accuracy: float | None
    labels: str | Path | None
    labels_stage: str | None
    budget_s: float | None
    budget_frames: int | None
    knobs: Sequence[str]
    reference: Mapping[str, str]
    workers: int | str | None
    ops_files: Sequence[str | Path]
    prices: str | Path | None
    again: bool
    start_s: float | None
    end_s: float | None
    record_s: float
    seed: int


@overload
def run(
    pipeline: str | Path | PipelineSpec | PipelineBuilder | ReadyPipeline,
    sources: Sources,
    *,
    output: None = None,
    on_progress: Callable[[Progress], None] | None = None,
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
    `RunRequest`: ``sets``, ``slo``, ``start_s``, ``max_frames``, ``realtime``, ``force``, ... ``on_progress`` is told
    how far the run is, by a thread of its own where there is no ``output``.

    Raises UsageError for an option that cannot be; UsageError, SpecError, SourceError, OutputError, AssetError where
    the run cannot begin, without ``output`` when the first result is asked for. An iterator also raises InterruptedRun
    after ``interrupt`` was set, and LlamapipeError at the end of a run that failed.
    """
    request = _run_request(pipeline, sources, {**options, "output": output}, "run")
    if output is None:
        return stream(request, on_progress=on_progress, interrupt=interrupt)
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

    return explain_plan(_run_request(pipeline, sources, options, "plan"))


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

    _check_known(TuneRequest, options, "tune")
    if not isinstance(video, str | Path):
        raise UsageError(f"tune: expected one video, got {video!r}", hint="give the path or the address of one")
    request = TuneRequest(_reference(pipeline), str(video), **_with_own_files(pipeline, options))
    return search(request, on_step=on_step or (lambda _: None), interrupt=interrupt)


def _run_request(pipeline: Any, sources: Sources, given: Mapping[str, Any], what: str) -> RunRequest:
    _check_known(RunRequest, given, what)
    # Paths among the sources are made texts by the request.
    return RunRequest(_reference(pipeline), sources, **_with_own_files(pipeline, given))  # type: ignore[arg-type]


def _check_known(request: type[Any], given: Mapping[str, Any], what: str) -> None:
    fields = [
        field.name for field in dataclasses.fields(request) if field.name not in ("pipeline", "sources", "source")
    ]
    given_options.refuse_unknown(given, fields, what)


def _reference(pipeline: Any) -> str | Path | PipelineSpec:
    if isinstance(pipeline, PipelineBuilder | ReadyPipeline):
        return pipeline.spec()
    if isinstance(pipeline, str | Path | PipelineSpec):
        return pipeline
    raise UsageError(
        f"expected a pipeline, got a {type(pipeline).__name__}",
        hint="give a built-in's name, a YAML file, file.py:name, or what Pipeline(...) and load(...) make",
    )


def _with_own_files(pipeline: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options, and the files with the operators that a pipeline which was loaded is made of."""
    if not isinstance(pipeline, ReadyPipeline) or not pipeline.ops_files:
        return dict(given)
    files = [*pipeline.ops_files, *given_options.paths("ops_files", given.get("ops_files", ()))]
    return {**given, "ops_files": list({file.resolve(): file for file in files}.values())}


class _Runs:
    def spec(self) -> PipelineSpec:
        raise NotImplementedError  # every one that can be run has its own

    @property
    def _whole(self) -> Any:
        return self  # what it is besides its spec counts too: a `Pipeline` or a `ReadyPipeline`

    @overload
    def run(
        self,
        sources: Sources,
        *,
        output: None = None,
        on_progress: Callable[[Progress], None] | None = None,
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
        return run(self._whole, sources, output=output, **options)

    def plan(self, sources: Sources, **options: Unpack[RunOptions]) -> PlanView:
        """What a run would do and why. See `llamapipe.plan`."""
        return plan(self._whole, sources, **options)

    def tune(
        self,
        video: str | Path,
        *,
        on_step: Callable[[Step], None] | None = None,
        interrupt: threading.Event | None = None,
        **options: Unpack[TuneOptions],
    ) -> Tuned:
        """Find the cheapest configuration for a video. See `llamapipe.tune`."""
        return tune(self._whole, video, on_step=on_step, interrupt=interrupt, **options)


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

    def __init__(self, spec: PipelineSpec, ops_files: Sequence[Path] = ()) -> None:
        """``ops_files`` define the operators of it that no package has: every run is given them."""
        self._spec = spec
        self.ops_files = tuple(ops_files)

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
    """A ready pipeline by name, a YAML file, or ``file.py:name``, which remembers ``ops_files``.

    Raises SpecError with all problems, UsageError.
    """
    files = given_options.paths("ops_files", ops_files)
    for name, given in (("params", params), ("sets", sets)):
        given_options.assignments(name, given or {})
    loaded = load_pipeline(_reference(reference), env=system_env(), params=params, sets=sets, ops_files=files)
    return ReadyPipeline(loaded.spec, [*files, *_files_beside(loaded)])


def _files_beside(loaded: LoadedPipeline) -> list[Path]:
    """The file that a pipeline was made in, where that defines operators of it, too."""
    modules = {loaded.registry.get(op.type).__module__ for op in loaded.spec.ops}
    made_in = [sys.modules[name] for name in sorted(modules) if name.startswith("llamapipe_user_pipeline_")]
    return [Path(module.__file__) for module in made_in if module.__file__]
