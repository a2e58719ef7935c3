"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llamapipe.cli import completion
from llamapipe.cli.logs import set_up_logging
from llamapipe.cli.terminal import Terminal
from llamapipe.errors import UsageError

__all__ = [
    "Json",
    "LeastAgreement",
    "ModelNames",
    "ModelsOfTask",
    "OpsFiles",
    "PricesFile",
    "Quiet",
    "Sets",
    "Verbose",
    "assignments",
    "number_or_word",
    "seconds",
    "terminal_of",
]


def terminal_of(ctx: typer.Context) -> Terminal:
    """The terminal of this call."""
    terminal = ctx.find_object(Terminal)
    if terminal is None:
        terminal = ctx.find_root().obj = Terminal()
    return terminal


def _verbose(ctx: typer.Context, value: int) -> int:
    terminal = terminal_of(ctx)
    terminal.verbosity = max(terminal.verbosity, value)
    set_up_logging(terminal.verbosity, quiet=terminal.quiet)
    return value


def _quiet(ctx: typer.Context, value: bool) -> bool:
    if value:
        terminal = terminal_of(ctx)
        terminal.quiet = True
        set_up_logging(terminal.verbosity, quiet=True)
    return value


# Eager, so that they hold while the other options are still being read.
Verbose = Annotated[
    int,
    typer.Option(
        "-v",
        "--verbose",
        count=True,
        metavar="",
        show_default=False,
        is_eager=True,
        callback=_verbose,
        help="Say more, and show tracebacks; -vv for debugging.",
    ),
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", is_eager=True, callback=_quiet, help="Say nothing but errors on stderr.")
]
ModelNames = Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", autocompletion=completion.models)]
ModelsOfTask = Annotated[
    str | None, typer.Option("--task", metavar="TASK", help="All models for it.", autocompletion=completion.tasks)
]
LeastAgreement = Annotated[
    float,
    typer.Option(
        "--least-agreement",
        metavar="F1",
        min=0,
        max=1,
        help="With its source, 0 to 1, on real pictures: variants below are kept as rejected.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
OpsFiles = Annotated[
    list[Path] | None,
    typer.Option("--ops", metavar="FILE.py", help="Python file with your own operators; repeatable."),
]
PricesFile = Annotated[
    Path | None,
    typer.Option("--prices", metavar="FILE", help="Price list (YAML). Left out: your own, else core-seconds."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="STAGE.KNOB=VALUE",
        help="Set a parameter or knob of a stage, or a pipeline parameter (params.NAME=VALUE); repeatable.",
    ),
]


def assignments(pairs: list[str] | None, flag: str = "--set") -> tuple[dict[str, str], dict[str, str]]:
    """Values of ``--set``, or of another flag of stages alone, as (pipeline parameters, stage settings).

    Raises UsageError for one that is no ``NAME=VALUE``, or that is set twice.
    """
    expected = "STAGE.KNOB=VALUE" + (" or params.NAME=VALUE" if flag == "--set" else "")
    params: dict[str, str] = {}
    sets: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        key = key.strip()
        of_pipeline = key.startswith("params.")
        if not equals or "." not in key.strip(".") or (of_pipeline and flag != "--set"):
            example = "detect.min_score=0.3" if flag == "--set" else "detect.model=yolox-nano"
            raise UsageError(f"{flag} {pair!r}: expected {expected}", hint=f"for example: {flag} {example}")
        target, name = (params, key.removeprefix("params.")) if of_pipeline else (sets, key)
        if name in target:
            raise UsageError(f"{flag} {key} is given twice: {target[name]!r} and {value!r}", hint="keep one of them")
        target[name] = value
    return params, sets


def number_or_word(text: str | None) -> int | str | None:
    """``4`` as a number, anything else as it is."""
    return int(text) if text is not None and text.isdecimal() else text


def seconds(flag: str, text: str | None) -> float | None:
    """A point in time: ``90``, ``90.5``, ``90s``, ``1:30``, ``0:01:30.5``. Raises UsageError for anything else."""
    if text is None:
        return None
    total = 0.0
    parts = text.strip().removesuffix("s").split(":")
    try:
        for part in parts:
            total = total * 60 + float(part)
        if len(parts) > 3 or total < 0 or total == float("inf") or total != total:
            raise ValueError(text)
    except ValueError:
        raise UsageError(
            f"{flag} {text!r}: expected a time", hint="write seconds (90 or 90.5), mm:ss or hh:mm:ss"
        ) from None
    return total
