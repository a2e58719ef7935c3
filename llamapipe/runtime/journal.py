"""What it takes to bring a stage's memory of a stream up again: its last snapshot, and the items seen since.

Journaled pictures stay in the arena until a snapshot covers them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from llamapipe.data import FrameRef
from llamapipe.runtime.arena import Arena
from llamapipe.wire import ItemInputs

__all__ = ["Journal", "references"]


def references(items: Iterable[ItemInputs]) -> set[tuple[int, int]]:
    """Slots (slot, generation) of the pictures that items refer to."""
    return {
        (payload.slot, payload.generation)
        for item in items
        for edge in item.inputs
        for payload in edge
        if isinstance(payload, FrameRef)
    }


@dataclass(slots=True)
class _Memory:
    snapshot: bytes | None = None
    items: list[ItemInputs] = field(default_factory=list)  # seen since the snapshot
    able: bool = True  # the operator can tell what it remembers


class Journal:
    """Memories by stage and stream."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._memories: dict[tuple[str, str], _Memory] = {}

    def done(self, stage: str, stream: str, items: Sequence[ItemInputs], asked: bool, state: bytes | None) -> bool:
        """Items were seen; ``state``, if it was asked for, is what the stage remembers after them.

        True where a snapshot was kept.
        """
        memory = self._memories.setdefault((stage, stream), _Memory())
        if not memory.able:
            return False
        if asked:
            self._clear(memory)
            memory.snapshot, memory.able = state, state is not None
            return memory.able
        memory.items += items
        for item in items:
            for slot, generation in references([item]):
                self._arena.lease(slot, generation)
        return False

    def seed(self, stage: str, stream: str, state: bytes) -> None:
        """What the stage remembers from an earlier process."""
        self._memories[stage, stream] = _Memory(state)

    def recall(self, stage: str, stream: str) -> tuple[bytes | None, list[ItemInputs], bool]:
        """(snapshot, items since, whether they are all that there was)."""
        memory = self._memories.get((stage, stream), _Memory())
        return memory.snapshot, memory.items, memory.able

    def forget(self, stage: str, stream: str) -> None:
        """The stage begins the stream anew."""
        memory = self._memories.pop((stage, stream), None)
        if memory is not None:
            self._clear(memory)

    def _clear(self, memory: _Memory) -> None:
        for item in memory.items:
            for slot, generation in references([item]):
                self._arena.release(slot, generation)
        memory.items = []
