"""When a source is told what it may send: each message wakes it up, so not for every frame that leaves."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Granting"]

_PARTS = 4  # a source's window is given back in so many


class Granting:
    """Credits that sources have not been told of yet. ``waits``: whether a stream's source waits for credit at all.

    What is held back is less than a quarter of the window that a source began with: it never runs dry for that.
    One that sends frames as they come is told only that it may begin.
    """

    def __init__(self, waits: Mapping[str, bool]) -> None:
        self._waits = dict(waits)
        self._windows: dict[str, int] = {}
        self._held: dict[str, int] = {}

    def opened(self, stream: str, *, waits: bool) -> None:
        """It is known only now whether the stream's source waits."""
        self._waits[stream] = waits

    def add(self, stream: str, credits: int) -> None:
        """The stream may send so many more. The first credits are its window."""
        if stream not in self._windows or self._waits[stream]:
            self._held[stream] = self._held.get(stream, 0) + credits

    def due(self) -> list[tuple[str, int]]:
        """(stream, credits) of all that are to be told now."""
        if not self._held:
            return []
        due = [
            (stream, credits)
            for stream, credits in self._held.items()
            if credits * _PARTS >= self._windows.setdefault(stream, credits)
        ]
        for stream, _ in due:
            del self._held[stream]
        return due
