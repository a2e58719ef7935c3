"""``llamapipe models build``: build and check the variants of models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llamapipe.cli.options import Json, LeastAgreement, ModelNames, ModelsOfTask, Quiet, Verbose, terminal_of

if TYPE_CHECKING:
    from llamapipe.inference.building import Built, Result

__all__ = ["build"]


def build(
    ctx: typer.Context,
    names: ModelNames = None,
    task: ModelsOfTask = None,
    calibrate: Annotated[
        list[str] | None,
        typer.Option(
            "--calibrate",
            metavar="VIDEO|FOLDER",
            help="Pictures like those that the models will see; repeatable. Else sample clips.",
        ),
    ] = None,
    ground_truth: Annotated[
        Path | None,
        typer.Option("--ground-truth", metavar="FILE", help="Boxes of that video: MOTChallenge text or COCO JSON."),
    ] = None,
    least_agreement: LeastAgreement = 0.8,
    again: Annotated[bool, typer.Option("--again", help="Build and judge anew what is known already.")] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the intervals.")] = 0,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Build the variants of models (int8, other input sizes, any batch), and check what each finds in real pictures.

    What passes can be chosen from then on, by pipelines and queries; what does not is kept as rejected, and why.
    Interrupted, it goes on where it was.
    """
    from llamapipe.clock import system_env
    from llamapipe.session.building import build as run

    terminal = terminal_of(ctx)
    result = run(
        names or (),
        task=task,
        calibrate=calibrate or (),
        ground_truth=ground_truth,
        least_agreement=least_agreement,
        again=again,
        seed=seed,
        env=system_env(),
        on_step=terminal.note,
    )
    if json:
        terminal.json(_described(result))
        return
    labelled = any(one.ap50 is not None for one in result.built)
    columns = ("variant", "state", "agreement", *(("ap50",) if labelled else ()), "with", "how")
    terminal.table(columns, [_row(one, labelled) for one in result.built])
    for one in result.built:
        if one.reason:
            terminal.note(f"{_name(one)} is rejected: {one.reason}")
    for skipped in result.skipped:
        terminal.note(f"skipped {skipped.what}: {skipped.reason}")


def _name(one: Built) -> str:
    return one.variant.name.rpartition("/")[0]


def _row(one: Built, labelled: bool) -> tuple[object, ...]:
    found = one.agreement
    return (
        _name(one),
        one.state.value,
        "-" if found is None or not found.num_reference else f"{found.f1:.3f} ({found.low:.3f} to {found.high:.3f})",
        *((("-" if one.ap50 is None else f"{one.ap50:.3f}"),) if labelled else ()),
        "-" if one.source is None else one.source.name.rpartition("/")[0],
        one.note or "-",
    )


def _described(result: Result) -> dict[str, Any]:
    return {
        "variants": [
            {
                "variant": _name(one),
                "state": one.state.value,
                "reason": one.reason,
                "agreement": None
                if one.agreement is None or not one.agreement.num_reference
                else {
                    "f1": one.agreement.f1,
                    "low": one.agreement.low,
                    "high": one.agreement.high,
                    "boxes": one.agreement.num_reference,
                    "frames": one.agreement.num_frames,
                },
                "with": None if one.source is None else one.source.name.rpartition("/")[0],
                "ap50": one.ap50,
                "how": one.note,
                "known": one.known,
            }
            for one in result.built
        ],
        "skipped": [{"what": skipped.what, "reason": skipped.reason} for skipped in result.skipped],
    }
