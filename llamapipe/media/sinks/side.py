"""Files beside an output, of which it is made when all of it is there."""

from __future__ import annotations

import os
from pathlib import Path

from llamapipe.errors import OutputError
from llamapipe.media.sinks.files import writing

__all__ = ["SideFile"]

_BUFFER = 1 << 18  # bytes


class SideFile:
    """A file that is appended to, and read from its beginning at the end. It stays: its folder goes with the run.

    ``size`` bytes of what an earlier process has written are kept. Raises OutputError where they are not there.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path = path
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "r+b" if size else "w+b", buffering=_BUFFER)  # noqa: SIM115 - has its own life
            there = os.fstat(self._file.fileno()).st_size
            if there < size:
                self._file.close()
                raise OutputError(
                    f"cannot go on with {path}: {there} bytes are there of {size}", hint="begin anew with --force"
                )
            self._file.truncate(size)
            self._file.seek(size)

    def write(self, data: bytes) -> None:
        """Append. Raises OutputError."""
        with writing(self.path):
            self._file.write(data)

    def mark(self) -> int:
        """Bring all to the disk; how many bytes. Raises OutputError."""
        with writing(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()

    def seek(self, offset: int) -> None:
        """Go on reading there. Raises OutputError where what was written does not fit the disk."""
        with writing(self.path):
            self._file.seek(offset)

    def read(self, size: int) -> bytes:
        """The next bytes, fewer only at the end."""
        with writing(self.path):
            return self._file.read(size)

    def close(self) -> None:
        """Let go of the file; may be called twice, and after an error."""
        try:
            self._file.close()
        except OSError:  # what could not be written has been said before, or is not wanted
            return
