"""``llamapipe tune``: the cheapest configuration for a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llamapipe.cli import completion
from llamapipe.cli.options import Json, OpsFiles, PricesFile, Quiet, Sets, Verbose, assignments, seconds, terminal_of
from llamapipe.cli.terminal import Terminal
from llamapipe.errors import UsageError

if TYPE_CHECKING:
    from llamapipe.session.searching import Step
    from llamapipe.session.tune_request import TuneRequest
    from llamapipe.tune import Predicted, Tried, Tuning

__all__ = ["TrialLines", "tune"]

_INFEASIBLE = 3
_ACCURACY = "Accuracy and objective"
_BUDGET = "Budget"


def tune(
    ctx: typer.Context,
    pipeline: Annotated[
        str,
        typer.Argument(
            metavar="PIPELINE", help="Built-in name, YAML file, or file.py:name.", autocompletion=completion.pipelines
        ),
    ],
    source: Annotated[str, typer.Option("-i", "--input", metavar="VIDEO", help="The video file to tune for.")],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="Where the configuration is written. Left out: PIPELINE.tuned.yaml."
        ),
    ] = None,
    sets: Sets = None,
    slo: Annotated[
        str | None,
        typer.Option(
            "--slo", metavar="SLO", help="Objective: p95=200ms (p50, p99) or deadline=30s.", rich_help_panel=_ACCURACY
        ),
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            "--min-accuracy",
            metavar="SHARE",
            help="Least agreement with the reference (or AP, with --labels). Left out: the pipeline's, else 0.9.",
            rich_help_panel=_ACCURACY,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="Ground truth of the video: MOTChallenge text or COCO JSON.",
            rich_help_panel=_ACCURACY,
        ),
    ] = None,
    labels_stage: Annotated[
        str | None,
        typer.Option(
            "--labels-stage", metavar="STAGE", help="Whose boxes the labels are of.", rich_help_panel=_ACCURACY
        ),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            metavar="STAGE.KNOB=VALUE",
            help="What the reference runs with, if not the most accurate that is known; repeatable.",
            rich_help_panel=_ACCURACY,
        ),
    ] = None,
    start: Annotated[str | None, typer.Option("--start", metavar="TIME", help="Begin at: seconds or h:mm:ss.")] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", help="Stop before: seconds or h:mm:ss.")] = None,
    record_s: Annotated[
        float,
        typer.Option("--record-s", metavar="SECONDS", help="Of a live source: record so much of it, and tune on that."),
    ] = 20.0,
    knobs: Annotated[
        list[str] | None,
        typer.Option(
            "--knob", metavar="STAGE.KNOB=V,V", help="One more knob to tune; the reference takes its first value."
        ),
    ] = None,
    budget_s: Annotated[
        float | None,
        typer.Option(
            "--budget-s",
            metavar="SECONDS",
            help="All that tuning may take. Left out: a tenth of the video's length, 10 below 30 s.",
            rich_help_panel=_BUDGET,
        ),
    ] = None,
    budget_frames: Annotated[
        int | None,
        typer.Option(
            "--budget-frames",
            metavar="N",
            min=1,
            help="Frames that all trials together may work on.",
            rich_help_panel=_BUDGET,
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Search even where a like video was tuned for.", rich_help_panel=_BUDGET)
    ] = False,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Of the search.", rich_help_panel=_BUDGET)
    ] = 0,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the search as a page too.")] = None,
    ops_files: OpsFiles = None,
    prices: PricesFile = None,
    workers: Annotated[str | None, typer.Option("--workers", metavar="KIND", help="As in run.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> int:
    """Find the cheapest configuration for a video that is right and fast enough, and write it to a file for run.

    Exit code 3 where nothing that was tried fits. A video like one that was tuned for before takes no search.

    llamapipe tune people -i sample:bikes --config people.tuned.yaml
    """
    from llamapipe.report import PAGE, check_replaceable
    from llamapipe.session.pinned import check_pinnable, pin
    from llamapipe.session.refusing import nearest, refusal
    from llamapipe.session.tune_request import TuneRequest
    from llamapipe.session.tuning import tune as search

    terminal = terminal_of(ctx)
    params, given = assignments(sets)
    request = TuneRequest(
        pipeline,
        source,
        params=params,
        sets=given,
        slo=slo,
        min_accuracy=min_accuracy,
        labels=labels,
        labels_stage=labels_stage,
        budget_s=budget_s,
        prices=prices,
        budget_frames=budget_frames,
        knobs=knobs or (),
        reference=assignments(reference, "--reference")[1],
        workers=workers,
        ops_files=[Path(file) for file in ops_files or ()],
        again=again,
        start_s=seconds("--start", start),
        end_s=seconds("--end", end),
        record_s=record_s,
        seed=seed,
    )
    # Before the search: a slip for the video itself must cost neither the video nor the time.
    file = config if config is not None else Path(f"{_name_of(request)}.tuned.yaml")
    check_pinnable(file)
    if html is not None:
        if html.resolve() == file.resolve():
            raise UsageError(f"the configuration and --html both go to {html}", hint="give each a file of its own")
        check_replaceable(html, PAGE, "page")
    with TrialLines(terminal) as progress:
        tuned = search(request, on_step=progress.show)
    tuning = tuned.tuning
    if html is not None:
        from llamapipe.report.tuning import write_tuning_html

        write_tuning_html(html, tuning)
    if tuning.feasible:
        pin(tuning, file)
    if tuned.cached_from is not None:  # on stderr, so with --json as well
        terminal.note(f"{tuned}; --again searches")
    if json:
        terminal.json(tuning)
    else:
        _show(terminal, tuned.tuning)
    if not tuning.feasible:
        near = nearest(tuning)
        terminal.error(refusal(tuning), None if near is None else f"the nearest that can be had: {near}")
        return _INFEASIBLE
    terminal.note(f"{file}: use it with llamapipe run {pipeline} -i VIDEO -o DIR --config {file}")
    return 0


def _name_of(request: TuneRequest) -> str:
    """Of its pipeline, which is not always that of the file. Raises SpecError."""
    from llamapipe.clock import system_env
    from llamapipe.session.resolve import load_pipeline

    loaded = load_pipeline(request.pipeline, env=system_env(), params=request.params, ops_files=request.ops_files)
    return loaded.spec.name


class TrialLines:
    """A line a trial; on a terminal, a live one of what is being tried."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._live: Any = None

    def __enter__(self) -> TrialLines:
        if not self._terminal.quiet and self._terminal.drawn:
            from rich.live import Live

            self._live = Live(console=self._terminal.stderr, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, step: Step) -> None:
        """Show a trial, or what comes before the first."""
        if not step.points:
            self._terminal.note(step.what)
            return
        best = "" if step.best_core_ms is None else f", best {step.best_core_ms:.1f} core-ms a frame"
        spent = f"{step.spent_s:.1f} of {step.budget_s:.1f} s{best}"
        if step.tried is None:
            if self._live is not None:
                self._live.update(f"trying {step.number} ({step.what or 'search'}), {spent}", refresh=True)
            return
        line = f"{step.number} {step.what or 'tried'}: {_line(step.tried)}; {spent}"
        if self._live is not None:
            self._live.console.print(line, soft_wrap=True)
        else:
            self._terminal.note(line)


def _line(tried: Tried) -> str:
    from llamapipe.session.refusing import described

    return described(tried) + ("" if tried.fits or tried.predicted is None else ", does not fit")


def _show(terminal: Terminal, tuning: Tuning) -> None:
    from llamapipe.cli.plots import plot
    from llamapipe.report.search_charts import best_so_far
    from llamapipe.report.tuned import difference, rows_of, shown

    rows = [
        (
            number,
            tried.what if tried.predicted is not None else "failed",
            *_figures(tried.predicted),
            _fit(tried),
            difference(tried, tuning) or "-",
        )
        for number, tried in enumerate(tuning.tried, 1)
    ]
    columns = (
        "trial",
        "",
        "core-ms a frame",
        "fps",
        "accuracy",
        "low",
        "p95 ms",
        "fits",
        "what differs from the reference",
    )
    terminal.table(columns, rows, title=tuning.pipeline)
    course = best_so_far(rows_of(tuning))
    if len(course) > 1:
        terminal.data("")
        terminal.data(plot([("best that fits", course)], across="trials", up="core-ms", height=8))
    for note in tuning.notes:
        terminal.note(f"note: {note}")
    if tuning.predicted is not None:
        terminal.data("")
        values = [(key, shown(value)) for key, value in tuning.values.items()]
        terminal.table(("knob", "value"), [*values, *_prediction(tuning)])


def _prediction(tuning: Tuning) -> list[tuple[str, str]]:
    p = tuning.predicted
    assert p is not None
    found = [("predicted cost", f"{p.cost_core_ms:.1f} core-ms a frame, +- {p.cost_deviation:.0%}")]
    if p.accuracy is not None:
        interval = f"{p.accuracy:.3f} ({p.accuracy_low:.3f} to {p.accuracy_high:.3f})"
        found.append(("predicted accuracy", f"{tuning.metric} {interval}, floor {tuning.floor:g}"))
    if p.p95_ms is not None:
        found.append(("predicted latency", f"p50 {p.p50_ms:.0f} ms, p95 {p.p95_ms:.0f} ms ({tuning.objective})"))
    took = f"{tuning.took_s:.1f} of {tuning.budget_s:.1f} s"
    found.append(("tuning", f"{took}, {len(tuning.tried)} of {tuning.points} configurations, {tuning.frames} frames"))
    return found


def _figures(p: Predicted | None) -> tuple[str, ...]:
    if p is None:
        return ("-",) * 5
    return (
        f"{p.cost_core_ms:.1f}",
        f"{p.frames_per_s:.0f}",
        "-" if p.accuracy is None else f"{p.accuracy:.3f}",
        "-" if p.accuracy_low is None else f"{p.accuracy_low:.3f}",
        "-" if p.p95_ms is None else f"{p.p95_ms:.0f}",
    )


def _fit(tried: Tried) -> str:
    return "yes" if tried.fits else "no"
