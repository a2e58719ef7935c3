"""Files of a report: complete under their name, or not there."""

from __future__ import annotations

import os
from pathlib import Path

from llamapipe.errors import OutputError
from llamapipe.report.summary import RunSummary

__all__ = ["write_run_json", "write_whole"]


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
