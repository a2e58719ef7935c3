"""What a user names as input, as one source each: files, folders, globs, URLs, cameras, samples."""

from __future__ import annotations

import difflib
import glob
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from llamapipe.clock import Env
from llamapipe.errors import SourceError, UsageError
from llamapipe.redaction import redacted

__all__ = ["VIDEO_SUFFIXES", "SourceKind", "SourceSpec", "expand_sources"]

VIDEO_SUFFIXES = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".m2ts",
        ".mts",
        ".flv",
        ".wmv",
        ".ogv",
        ".3gp",
        ".h264",
        ".h265",
        ".hevc",
        ".mjpeg",
        ".y4m",
        ".gif",
    ]
)
"""Files of a folder with these suffixes are taken for videos."""

SourceKind = Literal["file", "url", "camera"]


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """One source, not open yet."""

    name: str  # short, safe for a file name, unique within the run
    uri: str  # path, URL with its credentials, or camera device
    kind: SourceKind

    @property
    def shown(self) -> str:
        """The URI as it may be logged."""
        return redacted(self.uri).encode("utf-8", "backslashreplace").decode()  # names of files may be no text


def expand_sources(
    arguments: Sequence[str], *, env: Env, resolve_sample: Callable[[str], Path], reserved: Sequence[str] = ()
) -> list[SourceSpec]:
    """Every source that the arguments name, in their order; files of a folder and of a glob by name.

    ``resolve_sample`` gives the path of ``sample:NAME``; ``reserved`` are names that no source gets.

    Raises UsageError for an argument that names nothing.
    """
    if not arguments:
        raise UsageError("no source was given", hint="add -i FILE, -i rtsp://..., or -i sample:bikes")
    found: list[tuple[str, str, SourceKind]] = []
    for argument in arguments:
        found += _expanded(argument, env, resolve_sample)
    specs: list[SourceSpec] = []
    taken = {name.lower() for name in reserved}
    for stem, uri, kind in found:
        name = stem
        number = 2
        while name.lower() in taken:
            name = f"{stem}-{number}"
            number += 1
        taken.add(name.lower())
        specs.append(SourceSpec(name, uri, kind))
    return specs


def _expanded(argument: str, env: Env, resolve_sample: Callable[[str], Path]) -> list[tuple[str, str, SourceKind]]:
    if argument.startswith("sample:"):
        name = argument.removeprefix("sample:")
        return [(_safe(name), str(resolve_sample(name)), "file")]
    if argument.isdecimal():
        return [(f"camera-{argument}", f"/dev/video{argument}", "camera")]
    if argument.startswith("/dev/video"):
        return [(_safe(argument.removeprefix("/dev/")), argument, "camera")]
    if argument.startswith("file://"):
        argument = urlsplit(argument).path
    if "://" in argument:
        try:
            parts = urlsplit(argument)
        except ValueError as error:  # its text may hold a part of the password
            raise UsageError(
                f"source {redacted(argument)} is no address",
                hint="write %5B for [ and %5D for ] in a login",
            ) from error
        last = Path(parts.path).stem
        if not last or "=" in last:  # cameras that take a login in the path: names go into every line of results
            last = parts.hostname or "stream"
        return [(_safe(last), argument, "url")]
    path = Path(argument)
    if argument.startswith("~"):
        path = Path(env.get("HOME", "~") + argument[1:])
    if path.is_dir():
        return _folder(path)
    if path.exists():
        return [(_safe(path.stem), _opened_as(path), "file")]
    if any(char in argument for char in "*?["):
        matches = sorted(file for file in glob.glob(str(path), recursive=True) if Path(file).is_file())
        if not matches:
            raise UsageError(f"no file matches {argument}", hint="quote the pattern if the shell is to leave it alone")
        return [(_safe(Path(file).stem), _opened_as(Path(file)), "file") for file in matches]
    raise SourceError(f"source {argument} does not exist", hint=_near(path))


def _folder(path: Path) -> list[tuple[str, str, SourceKind]]:
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file())
    if not files:
        raise UsageError(
            f"folder {path} holds no video",
            hint=f"expected files such as *{', *'.join(sorted(VIDEO_SUFFIXES)[:6])}, ...",
        )
    return [(_safe(file.stem), _opened_as(file), "file") for file in files]


def _opened_as(path: Path) -> str:
    """With a colon in it, FFmpeg would take a bare name for an address: ``2026-05-01T12:30:00.mp4``."""
    return str(path.absolute() if ":" in str(path) else path)


def _near(path: Path) -> str | None:
    try:
        names = [file.name for file in path.parent.iterdir()]
    except OSError:
        return f"folder {path.parent} does not exist either"
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {path.parent / near[0]}?" if near else None


def _safe(text: str) -> str:
    kept = re.sub(r"[^\w.-]+", "-", text).strip("-.")
    return kept[:80] or "stream"
