"""The command line."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    from llamapipe.cli.app import run_cli

    run_cli()
