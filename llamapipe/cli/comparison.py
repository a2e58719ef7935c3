"""``llamapipe compare``: two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llamapipe.cli.options import Json, Quiet, Verbose, terminal_of

if TYPE_CHECKING:
    from llamapipe.session.comparing import Comparison, Figure

__all__ = ["compare"]


def compare(
    ctx: typer.Context,
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="Folder of a run, or its run.json.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another one; ratios are RUN_B over RUN_A.")],
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Compare two runs: objective, latency, throughput, cost, what became of frames, stages, and their boxes.

    llamapipe compare out-before out-after
    """
    from llamapipe.session.comparing import compare_runs

    terminal = terminal_of(ctx)
    found = compare_runs(run_a, run_b)
    for warning in found.warnings:
        terminal.warning(warning)
    if json:
        terminal.json(found)
    else:
        _show(ctx, found)


def _show(ctx: typer.Context, found: Comparison) -> None:
    terminal = terminal_of(ctx)
    first = [("outcome", *found.outcomes, ""), ("objective", *found.objectives, "")]
    if found.units[0] == found.units[1]:
        first.append(("cost is in", *found.units, ""))
    rows = [*first, *_rows(found.figures), *_rows(found.frames, prefix="frames ")]
    terminal.table(("run", found.a, found.b, "ratio"), rows)
    for stage in found.stages:
        served = tuple(", ".join(variants) or "-" for variants in stage.variants)
        terminal.data("")
        terminal.table((f"stage {stage.name}", "a", "b", "ratio"), [("runs as", *served, ""), *_rows(stage.figures)])
    if found.agreement:
        columns = ("stream", "stage", "frames", "boxes a", "boxes b", "F1 at IoU 0.5", "interval")
        terminal.data("")
        terminal.table(
            columns,
            [
                (
                    same.stream,
                    same.stage,
                    same.frames,
                    same.boxes_a,
                    same.boxes_b,
                    "-" if same.f1 is None else f"{same.f1:.3f}",
                    "-" if same.low is None or same.high is None else f"{same.low:.3f} to {same.high:.3f}",
                )
                for same in found.agreement
            ],
        )


def _rows(figures: list[Figure], *, prefix: str = "") -> list[tuple[str, str, str, str]]:
    """A row a figure; those that neither run has are left out."""
    return [
        (
            f"{prefix}{figure.name}",
            _number(figure.a),
            _number(figure.b),
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
        )
        for figure in figures
        if figure.a is not None or figure.b is not None
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e9 else f"{value:.4g}"
