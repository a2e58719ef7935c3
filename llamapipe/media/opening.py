"""Opening a source: what is checked first, options of live sources, and what errors say."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamapipe.errors import SourceError
from llamapipe.media.expand import SourceSpec

if TYPE_CHECKING:
    import av.container
    import av.video.stream

__all__ = ["check_file", "is_live_address", "may_block", "open_video", "reason_of"]

_OPEN_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 10.0
_LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "udp", "rtp", "srt", "tcp")


def is_live_address(spec: SourceSpec) -> bool:
    """Whether the protocol alone says that the source cannot be paused."""
    return spec.kind == "camera" or spec.uri.split("://", 1)[0].lower() in _LIVE_SCHEMES


def may_block(spec: SourceSpec) -> bool:
    """Whether a read can wait for somebody else: anything but a file that holds its own pictures."""
    return spec.kind != "file" or spec.uri.lower().endswith((".m3u8", ".m3u")) or not Path(spec.uri).is_file()


def check_file(path: Path) -> None:
    """Raises SourceError for what is no readable file; a decoder would only say "invalid data"."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise SourceError(f"source {path} does not exist") from None
    except OSError as error:
        raise SourceError(f"source {path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    if stat.S_ISDIR(status.st_mode):
        raise SourceError(f"source {path} is a folder, expected a video")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise SourceError(f"source {path} is empty: expected a video, it has 0 bytes")
    if not os.access(path, os.R_OK):
        raise SourceError(f"source {path} cannot be read: permission denied", hint="chmod u+r lets its owner read it")


def open_video(
    spec: SourceSpec, threads: int, *, read_timeout_s: float | None = None, known: bool = False
) -> tuple[av.container.InputContainer, av.video.stream.VideoStream]:
    """The container and its first video stream that is no cover picture. Raises SourceError.

    ``known``: its frame rate has been learnt before; waiting to learn it takes a second of stream.
    """
    import av

    live = is_live_address(spec)
    options: dict[str, str] = {}
    if live and spec.kind == "url":
        # Not "nobuffer": it throws away what was read to learn the format, the first keyframe with it.
        options = {"rtsp_transport": "tcp"}
    if known:
        options["fpsprobesize"] = "0"
    try:
        container = av.open(
            spec.uri,
            format="v4l2" if spec.kind == "camera" else None,
            options=options,
            timeout=(_OPEN_TIMEOUT_S, read_timeout_s or _READ_TIMEOUT_S) if may_block(spec) else None,
            metadata_errors="replace",
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _cannot_open(spec, error) from error
    try:
        videos = container.streams.video
        if not videos:
            kinds = sorted({stream.type for stream in container.streams})
            came = f"only {' and '.join(kinds)}" if kinds else "no streams"
            raise SourceError(f"source {spec.shown}: expected a video, it has {came}")
        stream = next((video for video in videos if not _is_cover(video)), videos[0])
        # Decoding frames side by side holds back one picture per thread: too late for what is happening now.
        stream.thread_type = "SLICE" if live else "AUTO"
        stream.codec_context.thread_count = threads
        return container, stream
    except BaseException:
        container.close()
        raise


def reason_of(error: Exception) -> str:
    """The error in one line, without the address that some errors repeat."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0].lower()


def _is_cover(stream: Any) -> bool:
    """Whether a video stream is a picture on the cover of a piece of music."""
    return "attached_pic" in str(stream.disposition)


def _cannot_open(spec: SourceSpec, error: Exception) -> SourceError:
    reason = reason_of(error)
    if spec.kind == "camera":
        return SourceError(f"camera {spec.shown} cannot be opened: {reason}", hint="is it plugged in and not in use?")
    if spec.kind == "url":
        return SourceError(
            f"source {spec.shown} cannot be opened: {reason}", hint="is the address right and the server up?"
        )
    if "invalid data" in reason:
        return SourceError(
            f"source {spec.shown} is no video that can be read: {reason}",
            hint="expected MP4, MKV, MPEG-TS, AVI, ...; a recording that was cut off may lack its index",
        )
    return SourceError(f"source {spec.shown} cannot be opened: {reason}")
