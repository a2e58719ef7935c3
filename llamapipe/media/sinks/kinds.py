"""Every type of sink: what it takes, its parameters, how to open one."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from llamapipe.errors import UsageError
from llamapipe.media.contract import Sink, SinkContext
from llamapipe.media.sinks.failing import FailsOnce
from llamapipe.operator.manifest import REQUIRED, Param, PortKind

__all__ = ["SINKS", "SinkType", "parse_sink", "shown_url", "sink_type"]

_BOXES = frozenset({PortKind.BOXES, PortKind.TRACKS, PortKind.CLASSES})


@dataclass(frozen=True, slots=True)
class SinkType:
    """One type of sink.

    ``make(context)`` opens one for a stream. It raises UsageError for parameters or a path that cannot be, and
    OutputError where the output cannot be written or, without ``context.force``, is already there.
    """

    type: str  # "llamapipe/video@v1"
    doc: str
    params: Mapping[str, Param] = field(hash=False)
    default_path: str | None  # in the stream's output folder; None: writes no file
    accepts: frozenset[PortKind]
    make: Callable[[SinkContext], Sink]
    max_inputs: int | None = None  # None: as many as there are
    light: bool = False  # a frame's work is some text in memory, written to a file in large pieces
    suffixes: tuple[str, ...] = ()  # that its file may have; empty: any
    needs: str = ""  # the package that it takes, where that is not one of the usual ones

    def problem(self, num_inputs: int, path: str | None) -> str | None:
        """Why it cannot be opened on so many inputs and with that path, or None."""
        if self.max_inputs is not None and num_inputs > self.max_inputs:
            return f"takes {self.max_inputs} input, got {num_inputs}: use one for each, with its own path"
        name = path or self.default_path or ""
        if self.suffixes and PurePath(name).suffix.lower() not in self.suffixes:
            return f"cannot write {name!r}: expected a name in {', '.join(self.suffixes)}"
        return None

    @property
    def missing(self) -> str | None:
        """What it needs and is not installed, with what to do about it; None: nothing."""
        if self.needs and importlib.util.find_spec(self.needs) is None:
            return f"needs {self.needs}, which is not installed: pip install 'llamapipe[{self.short_name}]'"
        return None

    @property
    def short_name(self) -> str:
        """``video`` of ``llamapipe/video@v1``."""
        return self.type.split("/", 1)[1].split("@", 1)[0]


def _settle(kind: str, params: Mapping[str, Param], given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` checked, with defaults for the rest. Raises UsageError naming every parameter that is wrong."""
    problems = []
    for name, value in given.items():
        if name not in params:
            near = difflib.get_close_matches(name, params, 1)
            known = f"did you mean {near[0]}?" if near else f"it takes {', '.join(params) or 'none'}"
            problems.append(f"{kind} sink has no parameter {name!r}: {known}")
        elif value is REQUIRED:
            problems.append(f"{kind} sink: parameter {name} is missing")
        elif (wrong := params[name].problem(value)) is not None:
            problems.append(f"{kind} sink, parameter {name}: {wrong}")
    problems += [
        f"{kind} sink: parameter {name} is missing"
        for name, param in params.items()
        if param.default is REQUIRED and name not in given
    ]
    if problems:
        raise UsageError("; ".join(problems))
    return {name: given.get(name, param.default) for name, param in params.items()}


def _sink(
    name: str,
    class_name: str,
    doc: str,
    accepts: frozenset[PortKind],
    default_path: str | None,
    module: str,
    params: Mapping[str, Param],
    max_inputs: int | None = None,
    *,
    light: bool = False,
    suffixes: tuple[str, ...] = (),
    needs: str = "",
) -> SinkType:
    def make(context: SinkContext) -> Sink:
        settled = _settle(name, params, context.params)
        # Looked up late: the modules behind bring codecs and table formats with them.
        opener = getattr(importlib.import_module(f"llamapipe.media.sinks.{module}"), class_name)
        return FailsOnce(opener(context, settled, default_path or ""))

    return SinkType(
        f"llamapipe/{name}@v1", doc, params, default_path, accepts, make, max_inputs, light, suffixes, needs
    )


def _url_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:  # whose text may hold a login
        return "expected http://HOST/... or https://HOST/..., got no address"
    try:
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        has_port = False
    if any(char.isspace() or not char.isprintable() for char in url):
        return f"expected no blanks (write %20 for one), got some in {shown_url(url)!r}"
    if parts.scheme in ("http", "https") and parts.hostname and has_port:
        return None
    return f"expected http://HOST/... or https://HOST/..., got {shown_url(url)!r}"


def shown_url(url: str) -> str:
    """Logins, queries and, with many services, the path are secrets: only the host is ever shown."""
    parts = urlsplit(url)
    rest = "…" if parts.path.strip("/") or parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{rest}"


_EMPTY = Param(bool, True, "Also write lines of frames in which nothing was found.")

_ALL = (
    _sink(
        "jsonl",
        "JsonlSink",
        "JSON lines: one line a frame and stage, with boxes in source pixels.",
        _BOXES | {PortKind.EVENTS},
        "detections.jsonl",
        "jsonl",
        {"empty": _EMPTY},
        light=True,
    ),
    _sink(
        "video",
        "VideoSink",
        "H.264 video with the source's timing and audio (.mp4 or .mkv, by the path's suffix).",
        frozenset({PortKind.FRAMES}),
        "annotated.mp4",
        "video",
        {
            "codec": Param(str, "h264", "Video codec.", ("h264", "hevc")),
            "crf": Param(int, 23, "Quality: lower is better and larger; 18 looks like the source.", (), 0, 51),
            "preset": Param(
                str,
                "quick",
                "Effort: slower makes smaller files. quick is ultrafast with the tools that cost little.",
                ("quick", "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"),
            ),
            "bitrate": Param(int, None, "Bits per second, instead of crf.", (), 1000),
            "fps": Param(float, None, "At most so many frames a second are written.", (), 0.001),
            "threads": Param(int, 2, "Encoder threads.", (), 1, 64),
            "audio": Param(bool, True, "Keep the source's audio. Live sources have none kept."),
        },
        suffixes=(".mp4", ".m4v", ".mov", ".mkv"),
    ),
    _sink(
        "csv",
        "CsvSink",
        "Comma-separated table: one row a box.",
        _BOXES,
        "detections.csv",
        "table",
        {},
    ),
    _sink(
        "parquet",
        "ParquetSink",
        "Parquet table: one row a box. Needs the parquet extra.",
        _BOXES,
        "detections.parquet",
        "table",
        {"compression": Param(str, "snappy", "Of the column pages.", ("snappy", "zstd", "gzip", "none"))},
        needs="pyarrow",
    ),
    _sink(
        "mot",
        "MotSink",
        "MOTChallenge text: frame (from 1), id, left, top, width, height, score. One input.",
        _BOXES,
        "mot.txt",
        "mot",
        {"labels": Param(list, [], "Keep only boxes of these labels.")},
        max_inputs=1,
        light=True,
    ),
    _sink(
        "coco",
        "CocoSink",
        "COCO JSON: images, annotations with scores, categories.",
        _BOXES,
        "coco.json",
        "coco",
        {},
    ),
    _sink(
        "frames",
        "FramesSink",
        "One picture file a frame, in a folder.",
        frozenset({PortKind.FRAMES}),
        "frames",
        "frames",
        {
            "every": Param(int, 1, "Write every so manieth frame of the source.", (), 1),
            "format": Param(str, "jpg", "Picture format.", ("jpg", "png")),
            "quality": Param(int, 90, "Of jpg.", (), 1, 100),
        },
    ),
    _sink(
        "webhook",
        "WebhookSink",
        "Posts the JSON lines to a URL as they come, several in one array.",
        _BOXES | {PortKind.EVENTS},
        None,
        "webhook",
        {
            "url": Param(
                str, doc="http:// or https:// address; user:password@ in it becomes a login.", check=_url_problem
            ),
            "batch": Param(int, 16, "At most so many lines in a request.", (), 1, 10_000),
            "timeout_s": Param(float, 5.0, "For each request.", (), 0.01),
            "retries": Param(int, 3, "Further tries when the endpoint does not answer or is overloaded.", (), 0),
            "backoff_s": Param(float, 0.5, "Wait before the second try; doubles each time.", (), 0.0),
            "headers": Param(dict, {}, "Further request headers, such as Authorization."),
            "empty": _EMPTY,
        },
    ),
)

SINKS: dict[str, SinkType] = {sink.type: sink for sink in _ALL}
"""Sink types by full name."""


def sink_type(name: str) -> SinkType:
    """The type called ``video``, ``llamapipe/video`` or ``llamapipe/video@v1``; UsageError with the nearest name."""
    for sink in _ALL:
        if name in (sink.type, sink.short_name, sink.type.split("@")[0]):
            return sink
    known = [sink.short_name for sink in _ALL]
    near = difflib.get_close_matches(name.removeprefix("llamapipe/").lower(), known, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise UsageError(f"unknown sink {name!r}", hint=hint)


def parse_sink(text: str) -> tuple[str, str | None, dict[str, Any]]:
    """Read KIND or KIND=PATH, as of ``--sink``: the full type, the path or None, and parameters.

    A sink without a file takes its main parameter in place of a path: ``webhook=https://example.org/hook``.
    """
    name, equals, path = text.partition("=")
    kind = sink_type(name.strip())
    path = path.strip()
    if equals and not path:
        raise UsageError(f"sink {text!r}: nothing after '='", hint=f"{kind.short_name}=PATH, or {kind.short_name}")
    if kind.default_path is not None:
        return kind.type, path or None, {}
    needed = next((key for key, param in kind.params.items() if param.required), None)
    if needed is not None and not path:
        raise UsageError(f"sink {text!r} needs its {needed}", hint=f"{kind.short_name}={needed.upper()}")
    return kind.type, None, {needed: path} if needed is not None else {}
