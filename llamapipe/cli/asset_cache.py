"""``llamapipe cache``: how much has been fetched, and letting go of it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from llamapipe.cli.models import store
from llamapipe.cli.options import Json, Quiet, Verbose, terminal_of
from llamapipe.errors import UsageError

__all__ = ["app"]

app = typer.Typer(help="Fetched models and clips: size, clear.", no_args_is_help=True)


@app.command()
def size(ctx: typer.Context, json: Json = False, quiet: Quiet = False, verbose: Verbose = 0) -> None:
    """Show what is kept, where, and how large it is."""
    terminal, assets = terminal_of(ctx), store()
    sizes = assets.size()
    if json:
        terminal.json({"folder": str(assets.root), "files": sizes, "total": sum(sizes.values())})
        return
    terminal.note(f"folder: {assets.root}")
    rows = [(name, _megabytes(count)) for name, count in sizes.items()]
    terminal.table(("file", "size"), [*rows, ("in all", _megabytes(sum(sizes.values())))])


@app.command()
def clear(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> int:
    """Delete everything fetched; a later run fetches again what it needs."""
    terminal, assets = terminal_of(ctx), store()
    total = sum(assets.size().values())
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nobody is there to be asked", hint="give --yes to delete without asking")
        if not typer.confirm(f"Delete {_megabytes(total)} in {assets.root}?", err=True):
            terminal.note("kept")
            return 1
    terminal.note(f"freed {_megabytes(assets.clear())}")
    return 0


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
