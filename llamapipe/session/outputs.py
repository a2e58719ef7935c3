"""The output folder: one run a folder, a sub-folder per stream where there are several."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from llamapipe.control.plan import SinkPlan
from llamapipe.errors import OutputError, UsageError
from llamapipe.media import SINKS, SourceSpec

__all__ = [
    "CHECKPOINT_FOLDER",
    "EVENTS_FILE",
    "REPORT_FILE",
    "RESERVED",
    "SUMMARY_FILE",
    "absent_folders",
    "prepare_folders",
    "remove_empty",
]

SUMMARY_FILE = "run.json"
REPORT_FILE = "report.html"
EVENTS_FILE = "events.jsonl"
CHECKPOINT_FOLDER = ".llamapipe"
RESERVED = (SUMMARY_FILE, REPORT_FILE, EVENTS_FILE, CHECKPOINT_FOLDER, "quarantine")
"""What the run itself puts into its folder: no sink and no stream may have such a name there."""


def prepare_folders(
    output: Path | None,
    streams: Mapping[str, SourceSpec],
    sinks: Sequence[SinkPlan],
    *,
    force: bool,
    dry: bool = False,
) -> dict[str, Path | None]:
    """Where each stream's files go; unless ``dry``, the folders exist and can be written when this returns.

    Raises UsageError where two outputs would be one file, or a source would be overwritten, also with ``force``;
    OutputError where the folder holds an earlier run and ``force`` was not given, or cannot be written.
    """
    folders: dict[str, Path] = {}
    if output is not None:
        folders = {stream: output / stream if len(streams) > 1 else output for stream in streams}
    _refuse_clashes(output, folders, streams, sinks)
    if output is None:
        return dict.fromkeys(streams)
    if not force:
        _refuse_used(output, folders, sinks)
    if dry:
        return dict(folders)
    for folder in (output, *folders.values()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = "is a file" if folder.is_file() else (error.strerror or str(error)).lower()
            hint = _right_to_write(folder) if isinstance(error, PermissionError) else "name another with -o"
            raise OutputError(f"output folder {folder} cannot be made: {what}", hint=hint) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(
                f"output folder {folder} cannot be written: permission denied", hint=_right_to_write(folder)
            )
    return dict(folders)


def absent_folders(output: Path, streams: Sequence[str]) -> list[Path]:
    """Folders that `prepare_folders` would have to make, the deepest first."""
    return [path for path in (*(output / stream for stream in streams), output, *output.parents) if not path.exists()]


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove those that nothing was put into."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _right_to_write(folder: Path) -> str:
    """How to get it, for the folder or whichever above it is the first that exists."""
    place = next((path for path in (folder, *folder.parents) if _is_folder(path)), folder)
    try:
        is_ours = place.stat().st_uid == os.geteuid()
    except OSError:
        is_ours = False
    if is_ours:
        return f"chmod u+wx {shlex.quote(str(place))} lets you write there; or name another with -o"
    return f"{place} belongs to somebody else: ask for write permission, or name another with -o"


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # not even to be looked at
        return False


def _refuse_clashes(
    output: Path | None, folders: Mapping[str, Path], streams: Mapping[str, SourceSpec], sinks: Sequence[SinkPlan]
) -> None:
    """Refuse outputs that are one file, or one in the other: whichever comes last would take the other's place."""
    taken: dict[Path, str] = {}
    if output is not None:
        taken = {(output / name).resolve(): "the run itself" for name in RESERVED}
    for spec in streams.values():
        if spec.kind == "file":
            taken[Path(spec.uri).resolve()] = f"source {spec.name}"
    for stream in streams:
        for sink, path in _sink_paths(sinks):
            file = (folders.get(stream, Path()) / path).resolve()
            other = next(
                (whose for place, whose in taken.items() if file.is_relative_to(place) or place.is_relative_to(file)),
                None,
            )
            whose = f"sink {sink.name} of {stream}" if len(streams) > 1 else f"sink {sink.name}"
            if other is not None:
                several = len(streams) > 1 and Path(path).is_absolute()
                raise UsageError(
                    f"{whose} cannot write {path}: that place is taken by {other}",
                    hint="give a path inside the output folder: each source has its own folder there"
                    if several
                    else "give it another name, as in --sink KIND=PATH",
                )
            taken[file] = whose


def _sink_paths(sinks: Sequence[SinkPlan]) -> Iterator[tuple[SinkPlan, str]]:
    """Sinks that write files, each with its path in the stream's folder."""
    for sink in sinks:
        default = SINKS[sink.type].default_path if sink.type in SINKS else None
        if default is not None:
            yield sink, sink.path or default


def _refuse_used(output: Path, folders: dict[str, Path], sinks: Sequence[SinkPlan]) -> None:
    candidates = [output / name for name in (SUMMARY_FILE, REPORT_FILE, EVENTS_FILE)]
    for folder in folders.values():
        candidates += [folder / path for _, path in _sink_paths(sinks)]
    used = next((path for path in candidates if path.exists()), None)
    if used is not None:
        raise OutputError(
            f"output folder {output} holds an earlier run ({used.name} is there)",
            hint="name another folder with -o, or overwrite with --force",
        )
