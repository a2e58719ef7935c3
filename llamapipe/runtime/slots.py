"""Which slots of an arena are free, and who still needs those that are not. Pure accounting, no pixels.

FREE -> WRITING -> PUBLISHED(leases) -> FREE; the generation goes up by one each time a slot is taken, so that a
reference to what a slot held before can be told from one to what it holds.
"""

from __future__ import annotations

from llamapipe.control.lifecycle import SLOT, SlotState
from llamapipe.errors import InvalidTransition, LlamapipeError

__all__ = ["SlotTable", "StaleFrame"]


class StaleFrame(LlamapipeError):
    """A reference to a slot that holds another frame by now. Always a bug in llamapipe."""

    code = "stale-frame"


class SlotTable:
    """Grows as needed: how many slots are out at once is bounded by the credit that control grants.

    The slot freed last is taken first: its memory is warm, and the others' need never be touched.
    """

    __slots__ = ("_fewest_free", "_free", "_generations", "_leases", "_states")

    def __init__(self) -> None:
        self._states: list[SlotState] = []
        self._generations: list[int] = []
        self._leases: list[int] = []  # above 0 exactly while published
        self._free: list[int] = []
        self._fewest_free = 0  # since `long_free` was last asked

    def __len__(self) -> int:
        return len(self._states)

    @property
    def num_used(self) -> int:
        """Slots that are not free."""
        return len(self._states) - len(self._free)

    def take(self) -> tuple[int, int]:
        """A free slot for somebody to write to: (slot, generation)."""
        if self._free:
            slot = self._free.pop()
            self._fewest_free = min(self._fewest_free, len(self._free))
        else:
            slot = len(self._states)
            self._states.append(SlotState.FREE)
            self._generations.append(0)
            self._leases.append(0)
        self._to(slot, SlotState.WRITING)
        self._generations[slot] += 1
        return slot, self._generations[slot]

    def publish(self, slot: int, generation: int) -> None:
        """It holds a picture; the caller has the first lease."""
        self.check(slot, generation)
        self._to(slot, SlotState.PUBLISHED)
        self._leases[slot] = 1

    def abandon(self, slot: int, generation: int) -> None:
        """Nothing was written to it after all."""
        self.check(slot, generation)
        if self._states[slot] is not SlotState.WRITING:
            raise InvalidTransition(f"slot {slot}", self._states[slot], "abandoned", [])
        self._to(slot, SlotState.FREE)
        self._free.append(slot)

    def lease(self, slot: int, generation: int) -> None:
        """One more needs what it holds."""
        self.check(slot, generation)
        if self._states[slot] is not SlotState.PUBLISHED:
            raise InvalidTransition(f"slot {slot}", self._states[slot], "leased", [])
        self._leases[slot] += 1

    def release(self, slot: int, generation: int) -> bool:
        """One less needs it; True where that was the last one, and it is free."""
        self.check(slot, generation)
        if self._states[slot] is not SlotState.PUBLISHED:
            raise StaleFrame(f"slot {slot} of generation {generation} is released twice")
        self._leases[slot] -= 1
        if self._leases[slot]:
            return False
        self._to(slot, SlotState.FREE)
        self._free.append(slot)
        return True

    def long_free(self) -> list[int]:
        """Slots that have been free all the while since this was last asked."""
        found = self._free[: self._fewest_free]  # what was freed last is taken first
        self._fewest_free = len(self._free)
        return found

    def holds(self, slot: int, generation: int) -> bool:
        """Whether the slot still is of that generation and holds a picture."""
        return (
            slot < len(self._states)
            and self._generations[slot] == generation
            and self._states[slot] is SlotState.PUBLISHED
        )

    def check(self, slot: int, generation: int) -> None:
        """Raise StaleFrame where the slot has gone on to another generation."""
        if slot >= len(self._states) or self._generations[slot] != generation:
            raise StaleFrame(f"slot {slot} has left generation {generation}")

    def check_invariants(self) -> None:
        """Raise StaleFrame where the table contradicts itself. For tests."""
        for slot, (state, leases) in enumerate(zip(self._states, self._leases, strict=True)):
            if (leases > 0) != (state is SlotState.PUBLISHED) or (slot in self._free) != (state is SlotState.FREE):
                raise StaleFrame(f"slot {slot} is {state} with {leases} leases")

    def _to(self, slot: int, state: SlotState) -> None:
        if state not in SLOT[self._states[slot]]:
            raise InvalidTransition(f"slot {slot}", self._states[slot], f"-> {state}", [])
        self._states[slot] = state
