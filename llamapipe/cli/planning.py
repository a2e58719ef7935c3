"""``llamapipe plan``: what a run would do, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llamapipe.cli import completion
from llamapipe.cli.options import (
    Json,
    OpsFiles,
    PricesFile,
    Quiet,
    Sets,
    Verbose,
    assignments,
    number_or_word,
    seconds,
    terminal_of,
)

if TYPE_CHECKING:
    from llamapipe.cli.terminal import Terminal
    from llamapipe.report import PlanView

__all__ = ["plan", "show_plan"]


def plan(
    ctx: typer.Context,
    pipeline: Annotated[
        str,
        typer.Argument(
            metavar="PIPELINE", help="Built-in name, YAML file, or file.py:name.", autocompletion=completion.pipelines
        ),
    ],
    sources: Annotated[
        list[str] | None,
        typer.Option("-i", "--input", metavar="SOURCE", help="What it would be run on; repeatable."),
    ] = None,
    slo: Annotated[
        str | None, typer.Option("--slo", metavar="SLO", help="Objective: p95=200ms (p50, p99) or deadline=30s.")
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            "--min-accuracy",
            metavar="SHARE",
            help="Least agreement with the reference. Left out: the pipeline's, if it has one.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="What llamapipe tune found; --set goes before it.")
    ] = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="Files at their own rate, like a camera.")] = False,
    start: Annotated[str | None, typer.Option("--start", metavar="TIME", help="Begin at: seconds or h:mm:ss.")] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", help="Stop before: seconds or h:mm:ss.")] = None,
    max_frames: Annotated[
        int | None, typer.Option("--max-frames", metavar="N", min=1, help="At most N frames a source.")
    ] = None,
    loop: Annotated[int, typer.Option("--loop", metavar="N", min=1, help="Files N times.")] = 1,
    sets: Sets = None,
    ops_files: OpsFiles = None,
    workers: Annotated[str | None, typer.Option("--workers", metavar="KIND", help="As in run.")] = None,
    cores: Annotated[str | None, typer.Option("--cores", metavar="N|all", help="As in run.")] = None,
    prices: PricesFile = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Say what a run would do: the objective of every operation, the variants considered, and why each lost.

    Nothing is run, but for sampled frames where a floor of agreement asks for it, or no stage has a model. Exit code
    3 where the objective cannot be met.

    llamapipe plan blur-faces -i sample:bikes --realtime --slo p95=200ms
    """
    from llamapipe.cli.run import check_machine, sampled
    from llamapipe.session.planning import explain_plan
    from llamapipe.session.request import RunRequest

    terminal = terminal_of(ctx)
    params, given = assignments(sets)
    request = RunRequest(
        pipeline,
        sources or ["sample:bikes"],
        slo=slo,
        min_accuracy=min_accuracy,
        config=config,
        max_frames=max_frames,
        loop=loop,
        realtime=realtime,
        start_s=seconds("--start", start),
        end_s=seconds("--end", end),
        params=params,
        sets=given,
        ops_files=[Path(file) for file in ops_files or ()],
        workers=workers,
        cores=number_or_word(cores),
        prices=prices,
    )
    if config is not None:
        check_machine(config, terminal)
    view = explain_plan(sampled(request, terminal))
    if json:
        terminal.json(view)
    else:
        show_plan(view, terminal)
    if view.feasible is False:
        raise typer.Exit(3)


def show_plan(view: PlanView, terminal: Terminal) -> None:
    """Print it on stdout."""
    rows = [
        (
            stage.name,
            stage.variant or stage.type,
            f"{stage.items:.3g}",
            _ms(stage.budget_ms),
            _ms(stage.takes_ms),
            stage.why,
        )
        for stage in view.stages
    ]
    budget = "budget ms a frame" if view.objective.startswith("deadline") else "budget ms"
    terminal.table(("operation", "runs", "items a frame", budget, "takes ms (p95)", "why"), rows, title=view.pipeline)
    considered = [
        (
            stage.name,
            c.variant,
            c.verdict,
            "-" if c.batch is None else str(c.batch),
            _ms(c.p95_ms),
            _ms(c.core_ms) if view.unit == "core-s" else _money(c.cost),
            "-" if c.accuracy is None else f"{c.accuracy:.3f}",
            c.why,
        )
        for stage in view.stages
        for c in stage.considered
    ]
    per_item = "core-ms an item" if view.unit == "core-s" else f"{view.unit} a thousand items"
    if considered:
        columns = ("operation", "variant", "verdict", "batch", "p95 ms", per_item, "accuracy", "why")
        terminal.data("")
        terminal.table(columns, considered)
    terminal.data("")
    alone = "models alone" if any(stage.variant for stage in view.stages) else "stages alone, on sampled frames"
    facts = [
        ("objective", view.objective or "none"),
        ("feasible", {True: "yes", False: "no", None: "not known"}[view.feasible] + f": {view.reason}"),
        (
            "predicted latency",
            f"p50 {_ms(view.predicted_p50_ms)} ms, p95 {_ms(view.predicted_p95_ms)} ms, {alone}",
        ),
        (
            "predicted rate",
            "-" if view.predicted_fps is None else f"{view.predicted_fps:.1f} frames a second, {alone}",
        ),
        (
            "predicted cost",
            f"{_money(view.predicted_cost)} {view.unit} a thousand frames, {alone}",
        ),
        ("reserved cost", f"{_money(view.predicted_reserved)} {view.unit} a thousand frames, at that rate"),
        ("accuracy", "-" if view.accuracy is None else f"{view.accuracy:.3f} {view.accuracy_of or 'at least'}"),
        ("workers", f"{view.workers}, policy {view.policy}"),
        ("cores", f"{view.cores}" + (f": {view.why_cores}" if view.why_cores else "")),
        *(("note", note) for note in view.notes),
    ]
    terminal.table(("plan", ""), facts)


def _money(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
