"""What all sinks do after an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llamapipe.media.contract import Sink, SinkItem

__all__ = ["FailsOnce"]


class FailsOnce:
    """A sink that gives up at its first error: nothing of it remains, and later calls raise that error again.

    Without this, a sink closed after a full disk might finish a file with a hole in it.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._error: Exception | None = None

    def write(self, item: SinkItem) -> None:
        """See `Sink.write`."""
        if self._error is not None:
            raise self._error
        try:
            self._sink.write(item)
        except Exception as error:
            self._fail(error)
            raise

    def mark(self) -> Any:
        """See `Sink.mark`."""
        if self._error is not None:
            raise self._error
        try:
            return self._sink.mark()
        except Exception as error:
            self._fail(error)
            raise

    def close(self) -> Sequence[Path]:
        """See `Sink.close`."""
        if self._error is not None:
            raise self._error
        try:
            return self._sink.close()
        except Exception as error:
            self._fail(error)
            raise

    def abort(self) -> None:
        """See `Sink.abort`."""
        self._sink.abort()

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._sink.abort()
