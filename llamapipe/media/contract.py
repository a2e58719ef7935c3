"""What sources give and sinks take: the seam between media and the runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from llamapipe.data import Native

__all__ = [
    "Decoded",
    "Outcome",
    "Sink",
    "SinkContext",
    "SinkItem",
    "SourceInfo",
    "SourceStats",
    "Undecodable",
    "VideoSource",
]


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source once it is open."""

    name: str  # short and safe for a file name; unique within a run
    uri: str  # credentials redacted
    width: int  # pixels, after rotation
    height: int
    fps: Fraction | None  # nominal; None where the container gives none
    num_frames: int | None  # expected to be delivered (after start/end/max_frames/loop); None unknown
    duration_s: float | None
    time_base: Fraction
    live: bool  # cannot be paused: RTSP, cameras
    has_audio: bool
    codec: str = ""
    rotation: int = 0  # degrees that the source applies itself, so that pictures come upright
    start_s: float = 0.0  # media time at which reading begins (--start)


@dataclass(frozen=True, slots=True)
class SourceStats:
    """What happened to a source while it was read."""

    reconnects: int = 0  # times that it came back
    offline_s: float = 0.0  # without pictures, from the last before a loss to the first after it


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded picture. ``seq`` counts from 0 without gaps, undecodable pictures included."""

    seq: int
    pts: int  # in units of SourceInfo.time_base; never lower than the one before
    picture: Native
    captured_at_s: float | None = None  # on the run's clock, where the source knows: live, or paced in real time


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A packet that gave no picture: it goes into the ledger as failed, the stream goes on."""

    seq: int
    reason: str  # short, stable: "corrupt-packet"
    detail: str = ""


class VideoSource(Protocol):
    """An open source. One thread reads it; ``close`` may be called from another to stop a blocked read."""

    @property
    def info(self) -> SourceInfo:
        """Facts of the source."""
        ...

    @property
    def stats(self) -> SourceStats:
        """What happened so far; may be asked from any thread."""
        ...

    def __iter__(self) -> Iterator[Decoded | Undecodable]:
        """Pictures in presentation order. Raises SourceError / SourceLostError."""
        ...

    def close(self) -> None:
        """Stop reading and free the decoder; may be called twice."""
        ...


class Outcome(StrEnum):
    """How a frame ended at a sink."""

    DELIVERED = "delivered"
    FILTERED = "filtered"
    DROPPED = "dropped"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class SinkItem:
    """One frame at a sink, in order of seq. ``values`` holds a Value per selector (``$ops.detect.boxes``)

    in source pixels; it is empty unless the outcome is DELIVERED. A stage that was skipped for this frame
    (its ``when`` was false) has no entry.
    """

    stream: str
    seq: int
    pts: int
    pts_s: float
    outcome: Outcome
    values: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""  # of anything but delivered: "blur: ValueError", "overload"
    stage: str = ""  # that ended it
    selectors: Sequence[str] = ()  # all that the sink may be given, of whichever frame


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a sink is told when it opens."""

    info: SourceInfo
    directory: Path | None  # output folder of this stream; None for sinks that need no files
    inputs: Sequence[str]  # selectors, in order
    hides: bool = False  # a hiding stage lies upstream: an undelivered frame must be written blank or not at all
    force: bool = False  # may overwrite
    params: Mapping[str, Any] = field(default_factory=dict)
    source_uri: str = ""  # with credentials, for copying audio; never logged
    end_s: float | None = None
    loop: int = 1
    path: str | None = None  # relative to directory, from the spec; None: the sink's default_path
    segment_frames: int = 0  # the output can be gone on with at every so manieth frame; 0: it need not be
    keep: Path | None = None  # folder of its own, for what has to outlive the process until the run is over
    mark: Any = None  # of an earlier process's sink: go on there instead of beginning


class Sink(Protocol):
    """A sink of one stream. One thread uses it."""

    def write(self, item: SinkItem) -> None:
        """Take the next frame. Raises OutputError (disk full, endpoint gone)."""
        ...

    def mark(self) -> Any:
        """Put what was written so far into files; plain data (dict, list, str, numbers) from which to go on.

        Asked between two segments only. Raises OutputError.
        """
        ...

    def close(self) -> Sequence[Path]:
        """Finish, move every output to its final name, return those names. Safe after an error in write."""
        ...

    def abort(self) -> None:
        """Give up: nothing remains under a final name, and no temporary file either.

        But what an earlier process had written, where ``SinkContext.mark`` went on with it: that can be tried again.
        """
        ...
