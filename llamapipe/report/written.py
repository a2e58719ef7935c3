"""Files of a report: complete under their name, or not there."""

from __future__ import annotations

import os
from pathlib import Path

from llamapipe.errors import OutputError, UsageError
from llamapipe.report.summary import RunSummary

__all__ = ["PAGE", "check_replaceable", "write_run_json", "write_whole"]

PAGE = "<!doctype html>"
"""How pages begin."""


def check_replaceable(path: Path, head: str, what: str) -> None:
    """Raise UsageError where ``path`` is taken by something that does not begin with ``head``: not ``what``.

    OutputError where nothing can be written there: better told before the work than after it.
    A file that a user names may be a slip for the video beside it, which nothing would bring back.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(len(head.encode()))
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise OutputError(f"{path} cannot be written: there is no folder {path.parent}", hint="make it") from None
        if not os.access(path.parent, os.W_OK):
            raise OutputError(f"{path} cannot be written: permission denied") from None
        return
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from error
    if begins and begins != head.encode():
        raise UsageError(f"{path} is there already, and is no {what}", hint="name another file, or remove that one")


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path``, then put it in place. Raises OutputError; nothing half-written remains."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from error
    finally:
        partial.unlink(missing_ok=True)  # also when interrupted; in place already, there is none


def write_run_json(path: Path, summary: RunSummary) -> None:
    """Write run.json. Raises OutputError."""
    write_whole(path, summary.to_json())
