"""One picture file a frame."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llamapipe.data import Image
from llamapipe.media.contract import SinkContext, SinkItem
from llamapipe.media.sinks.files import PendingFolder, target, writing

__all__ = ["FramesSink"]

_NAME = re.compile(r"\d{6,}\.(jpg|png)")


class FramesSink:
    """A folder of ``000042.jpg``, named by frame number. A frame that was not delivered has no file.

    With several frames inputs the first that has a picture is written; downstream of a stage that hides something
    only the first input counts.
    """

    def __init__(self, context: SinkContext, params: Mapping[str, Any], default_path: str) -> None:
        import cv2

        self._encode = cv2.imencode
        self._inputs = tuple(context.inputs[:1] if context.hides else context.inputs)
        self._every = params["every"]
        self._suffix = params["format"]
        quality = [cv2.IMWRITE_JPEG_QUALITY, params["quality"]]
        self._options = quality if self._suffix == "jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
        mark = context.mark
        self._next = 0  # frames before it are in the folder
        self._folder = PendingFolder(target(context, default_path), _NAME, force=context.force, go_on=mark is not None)
        if mark is not None:
            with writing(self._folder.path):
                for path in self._folder.partial.iterdir():
                    if _NAME.fullmatch(path.name) and int(path.stem) >= mark["next"]:
                        path.unlink()

    def write(self, item: SinkItem) -> None:
        """See `Sink.write`."""
        self._next = item.seq + 1
        if item.seq % self._every:
            return
        for selector in self._inputs:
            image = item.values.get(selector)
            if isinstance(image, Image):
                done, data = self._encode(f".{self._suffix}", np.ascontiguousarray(image.bgr), self._options)
                assert done
                name = f"{item.seq:06d}.{self._suffix}"
                with writing(self._folder.path / name):
                    (self._folder.partial / name).write_bytes(data.tobytes())
                return

    def mark(self) -> Any:
        """See `Sink.mark`."""
        return {"next": self._next}

    def close(self) -> Sequence[Path]:
        """See `Sink.close`."""
        return [self._folder.commit()]

    def abort(self) -> None:
        """See `Sink.abort`."""
        self._folder.abort()
