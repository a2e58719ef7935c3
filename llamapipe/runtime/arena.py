"""Frame arenas: where pixels live while only references travel.

`LocalArena` serves thread workers: a slot holds the decoder's own picture, so nothing is copied. `SharedArena` serves
processes: a slot is a piece of memory that all of them map. Both are kept by the engine's process, which alone
says which slot is free; a process is lent the slots that it may write to (`llamapipe.runtime.lent`).
"""

from __future__ import annotations

import threading
from typing import Protocol

from llamapipe.data import FrameRef, Image, Native, Placement
from llamapipe.runtime.slots import SlotTable, StaleFrame

__all__ = ["Arena", "LocalArena", "PictureSpace", "StaleFrame", "image_of", "reference_to"]


class PictureSpace(Protocol):
    """What operators' hosts need of an arena: look at a picture, publish a new one."""

    def put(
        self,
        picture: Native,
        *,
        stream: str,
        seq: int,
        pts: int,
        time_base: tuple[int, int],
        captured_at_s: float,
        placement: Placement | None = None,
    ) -> FrameRef:
        """Publish a picture; the caller must not change it from here on."""
        ...

    def image(self, ref: FrameRef) -> Image:
        """The picture behind a reference. Raises StaleFrame where the slot has gone on to another."""
        ...

    def withdraw(self, ref: FrameRef) -> None:
        """Take back what `put` gave: nobody has seen it."""
        ...

    def still_whole(self, ref: FrameRef) -> bool:
        """Whether the slot was not given to another picture while this one was looked at."""
        ...


class Arena(PictureSpace, Protocol):
    """What the engine needs of it besides. Whoever publishes a picture has the first lease on it."""

    def lease(self, slot: int, generation: int) -> None:
        """One more needs the picture."""
        ...

    def release(self, slot: int, generation: int) -> None:
        """One less needs it; the last one frees the slot."""
        ...

    def lend(self, count: int) -> list[tuple[int, int]]:
        """Slots for a process to write to: (slot, generation)."""
        ...

    def take_back(self, lent: list[tuple[int, int]], used: set[tuple[int, int]]) -> None:
        """Of slots that were lent, publish those that were used and free the rest."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class LocalArena:
    """Pictures of this process by slot and generation. Any thread may use it."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self._table = SlotTable()
        self._pictures: dict[int, Native] = {}
        self._lock = threading.Lock()

    @property
    def num_used(self) -> int:
        """Slots that hold a picture."""
        return self._table.num_used

    def put(
        self,
        picture: Native,
        *,
        stream: str,
        seq: int,
        pts: int,
        time_base: tuple[int, int],
        captured_at_s: float,
        placement: Placement | None = None,
    ) -> FrameRef:
        """See `PictureSpace.put`."""
        with self._lock:
            slot, generation = self._table.take()
            self._pictures[slot] = picture
            self._table.publish(slot, generation)
        return reference_to(
            picture, (self.number, slot, generation), stream, seq, pts, time_base, captured_at_s, placement
        )

    def image(self, ref: FrameRef) -> Image:
        """See `PictureSpace.image`."""
        picture = self._pictures.get(ref.slot)
        if picture is None or not self._table.holds(ref.slot, ref.generation):
            raise StaleFrame(f"frame {ref.seq} of {ref.stream}: slot {ref.slot} has left generation {ref.generation}")
        return image_of(ref, picture)

    def withdraw(self, ref: FrameRef) -> None:
        """See `PictureSpace.withdraw`."""
        self.release(ref.slot, ref.generation)

    def still_whole(self, ref: FrameRef) -> bool:
        """Always: whoever looks at a picture holds it."""
        return True

    def lease(self, slot: int, generation: int) -> None:
        """See `Arena.lease`."""
        with self._lock:
            self._table.lease(slot, generation)

    def release(self, slot: int, generation: int) -> None:
        """See `Arena.release`. Raises StaleFrame where it was freed before."""
        with self._lock:
            if self._table.release(slot, generation):
                del self._pictures[slot]

    def lend(self, count: int) -> list[tuple[int, int]]:
        """Threads publish by themselves: nothing is lent."""
        return []

    def take_back(self, lent: list[tuple[int, int]], used: set[tuple[int, int]]) -> None:
        """Nothing was lent."""

    def close(self) -> None:
        """The pictures go with the last reference to them."""


def reference_to(
    picture: Native,
    place: tuple[int, int, int],
    stream: str,
    seq: int,
    pts: int,
    time_base: tuple[int, int],
    captured_at_s: float,
    placement: Placement | None,
) -> FrameRef:
    """A reference to a picture that was put at ``place`` (arena, slot, generation)."""
    return FrameRef(
        *place,
        picture.width,
        picture.height,
        picture.format,
        stream,
        seq,
        pts,
        time_base,
        captured_at_s,
        None,
        placement if placement is not None else Placement(),
    )


def image_of(ref: FrameRef, picture: Native) -> Image:
    """What an operator sees of a reference to a picture, or to a part of it."""
    return Image(
        width=ref.width,
        height=ref.height,
        native=picture,
        region=ref.region,
        placement=ref.placement,
        stream=ref.stream,
        seq=ref.seq,
        pts_s=ref.pts_s,
        ref=ref,
    )
