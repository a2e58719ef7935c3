"""The output folder: one run a folder, a sub-folder per stream where there are several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from llamapipe.control.plan import SinkPlan
from llamapipe.errors import OutputError
from llamapipe.media import SINKS

__all__ = ["EVENTS_FILE", "REPORT_FILE", "SUMMARY_FILE", "prepare_folders"]

SUMMARY_FILE = "run.json"
REPORT_FILE = "report.html"
EVENTS_FILE = "events.jsonl"


def prepare_folders(
    output: Path | None, streams: Sequence[str], sinks: Sequence[SinkPlan], *, force: bool, dry: bool = False
) -> dict[str, Path | None]:
    """Where each stream's files go; unless ``dry``, the folders exist and can be written when this returns.

    Raises OutputError where the folder holds an earlier run and ``force`` was not given, or cannot be written.
    """
    if output is None:
        return dict.fromkeys(streams)
    folders = {stream: output / stream if len(streams) > 1 else output for stream in streams}
    if not force:
        _refuse_used(output, folders, sinks)
    if dry:
        return dict(folders)
    for folder in (output, *folders.values()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = "is a file" if folder.is_file() else (error.strerror or str(error)).lower()
            raise OutputError(f"output folder {folder} cannot be made: {what}", hint="name another with -o") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(
                f"output folder {folder} cannot be written: permission denied", hint="name another with -o"
            )
    return dict(folders)


def _refuse_used(output: Path, folders: dict[str, Path], sinks: Sequence[SinkPlan]) -> None:
    candidates = [output / name for name in (SUMMARY_FILE, REPORT_FILE, EVENTS_FILE)]
    for folder in folders.values():
        for sink in sinks:
            path = sink.path or (SINKS[sink.type].default_path if sink.type in SINKS else None)
            if path:
                candidates.append(folder / path)
    used = next((path for path in candidates if path.exists()), None)
    if used is not None:
        raise OutputError(
            f"output folder {output} holds an earlier run ({used.name} is there)",
            hint="name another folder with -o, or overwrite with --force",
        )
