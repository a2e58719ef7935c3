"""MOTChallenge text: frame, id, left, top, width, height, score, -1, -1, -1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llamapipe.data import Boxes
from llamapipe.errors import UsageError
from llamapipe.media.contract import SinkContext, SinkItem
from llamapipe.media.sinks.files import target
from llamapipe.media.sinks.lines import box_items
from llamapipe.media.sinks.text import TextFile

__all__ = ["MotSink"]


class MotSink:
    """One line a box, frames counted from 1, id -1 where nothing was tracked. Takes one boxes input.

    The format has no labels: parameter ``labels`` keeps boxes of those alone.
    """

    def __init__(self, context: SinkContext, params: Mapping[str, Any], default_path: str) -> None:
        if len(context.inputs) != 1:
            raise UsageError(
                f"the mot sink takes one boxes input, got {len(context.inputs)}: {', '.join(context.inputs) or 'none'}",
                hint="use one mot sink for each, with its own path",
            )
        self._selector = context.inputs[0]
        self._labels = frozenset(params["labels"])
        self._file = TextFile(target(context, default_path), force=context.force, mark=context.mark)

    def write(self, item: SinkItem) -> None:
        """See `Sink.write`."""
        boxes = item.values.get(self._selector)
        if not isinstance(boxes, Boxes) or not len(boxes):
            return
        frame = item.seq + 1
        for found in box_items(boxes):
            if self._labels and found.label not in self._labels:
                continue
            x1, y1, x2, y2 = found.box
            self._file.buffer += (
                f"{frame},{found.track_id},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{found.score:.4f},-1,-1,-1\n"
            ).encode()
        self._file.spill()

    def mark(self) -> Any:
        """See `Sink.mark`."""
        return self._file.mark()

    def close(self) -> Sequence[Path]:
        """See `Sink.close`."""
        return [self._file.commit()]

    def abort(self) -> None:
        """See `Sink.abort`."""
        self._file.abort()
