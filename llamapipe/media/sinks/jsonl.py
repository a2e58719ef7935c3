"""JSON lines: one line a frame and stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from llamapipe.media.contract import SinkContext, SinkItem
from llamapipe.media.sinks.files import target
from llamapipe.media.sinks.lines import Lines
from llamapipe.media.sinks.text import TextFile

__all__ = ["JsonlSink"]


class JsonlSink:
    """Writes what `Lines` makes of each frame."""

    def __init__(self, context: SinkContext, params: Mapping[str, Any], default_path: str) -> None:
        self._lines = Lines(context.inputs, empty=params["empty"])
        self._encoder = msgspec.json.Encoder()
        self._file = TextFile(target(context, default_path), force=context.force, mark=context.mark)

    def write(self, item: SinkItem) -> None:
        """See `Sink.write`."""
        buffer = self._file.buffer
        for line in self._lines(item):
            self._encoder.encode_into(line, buffer, -1)
            buffer += b"\n"
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
