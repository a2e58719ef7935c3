"""Items that have failed, or were with a worker that was lost: how often, and with whom last.

Such an item goes alone, to another worker than before where there is one, and has that worker to itself: where it is
lost again, nobody else can be to blame. In company nobody could tell, for a lost worker may take the answer to the item
before with it.
"""

from __future__ import annotations

from typing import TypeAlias

from llamapipe.control.queues import Item

__all__ = ["Suspects"]

_Key: TypeAlias = tuple[int, str, int, int]  # stage, stream, seq, index


class Suspects:
    """Of one run, mostly nobody: every question is answered at once then."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[_Key, tuple[int, str]] = {}  # failures so far, the last seat

    def __bool__(self) -> bool:
        return bool(self._known)

    def has(self, stage: int, item: Item | None) -> bool:
        """Whether the item is one."""
        return bool(self._known) and item is not None and _key(stage, item) in self._known

    def last_seat(self, stage: int, item: Item | None) -> str:
        """Name of the seat where it failed last; empty of any other item."""
        if not self._known or item is None:
            return ""
        return self._known.get(_key(stage, item), (0, ""))[1]

    def failed(self, stage: int, item: Item, seat: str) -> int:
        """It has failed there once more; how often that makes."""
        key = _key(stage, item)
        failures = self._known.get(key, (0, ""))[0] + 1
        self._known[key] = failures, seat
        return failures

    def acquit(self, stage: int, item: Item) -> None:
        """It has been worked on, or never will be."""
        if self._known:
            self._known.pop(_key(stage, item), None)


def _key(stage: int, item: Item) -> _Key:
    frame, index = item
    return stage, frame.stream, frame.seq, index
