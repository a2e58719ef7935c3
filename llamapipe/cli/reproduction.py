"""``llamapipe reproduce``: run an item again that a run has put into quarantine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llamapipe.cli.options import Quiet, Verbose, terminal_of

__all__ = ["reproduce"]

_FAILED = 1


def reproduce(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of DIR/quarantine, such as cam-12-faces-0.zip.")],
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> int:
    """Run an item that failed once more, alone and in this process. Exit code 1 if it fails again."""
    from llamapipe.clock import system_env
    from llamapipe.session import reproduce as run_again

    terminal = terminal_of(ctx)
    kept, outputs = run_again(file, env=system_env())
    terminal.note(f"stage {kept.stage.name}, frame {kept.item.seq} of {kept.item.stream}, had failed: {kept.reason}")
    if outputs.error is not None:
        terminal.error(f"it fails again: {outputs.error}")
        return _FAILED
    terminal.note(f"it comes through now: {outputs.count} out")
    return 0
