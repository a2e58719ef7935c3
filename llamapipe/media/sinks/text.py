"""A file written in pieces, through a buffer."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

from llamapipe.errors import OutputError
from llamapipe.media.sinks.files import PendingFile, writing

__all__ = ["TextFile"]

_FLUSH_AT = 1 << 16  # bytes
_TAIL = 1 << 12  # bytes before a mark by which it is known again


class TextFile:
    """Collects bytes and writes them in large pieces to a `PendingFile`. Fill ``buffer``, then call `spill`.

    ``mark`` is what `mark` gave in an earlier process: the file goes on there. Raises OutputError where it is another.
    """

    def __init__(self, path: Path, *, force: bool, mark: Any = None) -> None:
        size = None if mark is None else int(mark["bytes"])
        self._file = PendingFile(path, force=force, keep_bytes=size)
        self._size = size or 0
        self.buffer = bytearray()
        if mark is not None and self._tail() != mark["tail"]:
            self._file.abort()
            raise OutputError(
                f"cannot go on with {path}: it is not what the run has left", hint="begin anew with --force"
            )

    def _tail(self) -> int:
        with writing(self._file.path):
            length = min(self._size, _TAIL)
            return zlib.crc32(os.pread(self._file.fd, length, self._size - length))

    def mark(self) -> dict[str, int]:
        """Bring all to the disk; where it ends. Raises OutputError."""
        self.flush()
        with writing(self._file.path):
            os.fsync(self._file.fd)
        return {"bytes": self._size, "tail": self._tail()}

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
        self._size += len(self.buffer)
        self.buffer.clear()

    def commit(self) -> Path:
        """Write what is left and give the file its final name."""
        self.flush()
        return self._file.commit()

    def abort(self) -> None:
        """Remove the file, unless it was gone on with."""
        self.buffer.clear()
        self._file.abort()
