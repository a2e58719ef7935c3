"""A few pictures of a video, spread over it: what a variant is measured or calibrated with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llamapipe.errors import SourceError

__all__ = ["sample_frames"]


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
