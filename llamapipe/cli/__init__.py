"""The command line."""

from __future__ import annotations

__all__ = ["main"]

_COLLECT_AFTER = 50_000  # objects that may hold others; 700 is usual


def main() -> None:
    """Run the command line."""
    import gc

    # Imports make next to nothing that is thrown away again, and a collection walks over all that is there.
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])
    from llamapipe.cli.app import run_cli

    run_cli()
