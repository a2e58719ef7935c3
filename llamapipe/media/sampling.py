"""A few pictures of a video, spread over it: what a variant is measured, calibrated or tuned with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llamapipe.errors import SourceError

__all__ = ["activity", "sample_frames"]

_MOST_PACKETS = 50_000


def activity(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When every frame is shown and how much happens in it, (n,) each, in order: seconds from the first, and bytes.

    Bytes are those that it took to tell a frame from others: nothing is decoded. A picture that is told whole counts
    like those around it. Empty for a file that is longer than can be looked at in passing, or that does not say when
    its pictures are shown. Raises SourceError.
    """
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            packets: list[tuple[int, int, bool]] = []
            for packet in container.demux(stream):
                if packet.size and packet.pts is not None:
                    packets.append((packet.pts, packet.size, bool(packet.is_keyframe)))
                if len(packets) > _MOST_PACKETS:
                    return np.empty(0), np.empty(0)
            time_base = float(stream.time_base or 0)
    except (av.FFmpegError, OSError, IndexError) as error:
        raise SourceError(f"{path}: it cannot be read: {error}") from error
    packets.sort()
    times = np.array([pts for pts, _, _ in packets], float)
    times_s: NDArray[np.float64] = (times - times[0]) * time_base if len(times) else times
    sizes = np.array([size for _, size, _ in packets], float)
    told = np.array([not whole for *_, whole in packets], bool)
    if not told.any():
        return times_s, sizes
    places = np.arange(len(sizes))
    found: NDArray[np.float64] = np.interp(places, places[told], sizes[told])
    return times_s, found


def sample_frames(path: Path, count: int = 16) -> NDArray[np.uint8]:
    """At most ``count`` frames, evenly spread: (n, height, width, 3) uint8, blue first. Raises SourceError."""
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            total = stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
            container.seek(0)
            wanted = set(np.linspace(0, max(0, total - 1), count).round().astype(int).tolist())
            found = [
                frame.to_ndarray(format="bgr24") for at, frame in enumerate(container.decode(stream)) if at in wanted
            ]
    except (av.FFmpegError, OSError, IndexError) as error:
        raise SourceError(f"{path}: no pictures can be read: {error}") from error
    if not found:
        raise SourceError(f"{path}: no pictures can be read")
    return np.stack(found)
