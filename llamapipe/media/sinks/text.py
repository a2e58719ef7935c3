"""A file written in pieces, through a buffer."""

from __future__ import annotations

import os
from pathlib import Path

from llamapipe.media.sinks.files import PendingFile, writing

__all__ = ["TextFile"]

_FLUSH_AT = 1 << 16  # bytes


class TextFile:
    """Collects bytes and writes them in large pieces to a `PendingFile`. Fill ``buffer``, then call `spill`."""

    def __init__(self, path: Path, *, force: bool) -> None:
        self._file = PendingFile(path, force=force)
        self.buffer = bytearray()

    def spill(self) -> None:
        """Write the buffer if it has grown large. Raises OutputError."""
        if len(self.buffer) >= _FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Write the buffer. Raises OutputError."""
        with writing(self._file.path):
            start = 0
            while start < len(self.buffer):
                with memoryview(self.buffer) as view:
                    start += os.write(self._file.fd, view[start:])
        self.buffer.clear()

    def commit(self) -> Path:
        """Write what is left and give the file its final name."""
        self.flush()
        return self._file.commit()

    def abort(self) -> None:
        """Remove the file."""
        self.buffer.clear()
        self._file.abort()
