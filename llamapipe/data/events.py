"""Things that happened: a line crossed, a zone entered, motion seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

__all__ = ["Event", "Events"]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One happening in one frame."""

    kind: str  # "line-crossed", "zone-entered", "zone-left", "zone-count", "motion", or an operator's own
    name: str = ""  # which line or zone
    label: str = ""
    track_id: int = -1
    value: float = 0.0  # a count, a share, a direction: the operator's docs say which
    x: float = 0.0  # source pixels
    y: float = 0.0


class Events:
    """The events of one frame."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence[Event] = ()) -> None:
        self.items = tuple(items)

    @classmethod
    def concat(cls, parts: Sequence[Events]) -> Events:
        """All events in order."""
        return cls([event for part in parts for event in part.items])

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for event in self.items:
            yield msgspec.to_builtins(event)

    def __repr__(self) -> str:
        return f"Events({', '.join(event.kind for event in self.items) or 'none'})"
