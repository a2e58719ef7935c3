"""Frame arenas: where pixels live while only references travel.

`LocalArena` serves thread workers: a slot holds the decoder's own picture, so nothing is copied. Slots are taken
and given back by the engine's account of each frame; a slot's generation tells a stale reference from a live one.
"""

from __future__ import annotations

import threading

from llamapipe.data import FrameRef, Image, Native, Placement
from llamapipe.errors import LlamapipeError

__all__ = ["LocalArena", "StaleFrame"]


class StaleFrame(LlamapipeError):
    """A reference to a slot that holds another frame by now. Always a bug in llamapipe."""

    code = "stale-frame"


class LocalArena:
    """Pictures of this process by slot and generation. Any thread may use it."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self._pictures: list[Native | None] = []
        self._generations: list[int] = []
        self._free: list[int] = []
        self._lock = threading.Lock()

    @property
    def num_used(self) -> int:
        """Slots that hold a picture."""
        return len(self._pictures) - len(self._free)

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
        with self._lock:
            if self._free:
                slot = self._free.pop()
                self._generations[slot] += 1
                self._pictures[slot] = picture
            else:
                slot = len(self._pictures)
                self._generations.append(1)
                self._pictures.append(picture)
            generation = self._generations[slot]
        return FrameRef(
            self.number,
            slot,
            generation,
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

    def image(self, ref: FrameRef) -> Image:
        """The picture behind a reference. Raises StaleFrame where the slot has gone on to another."""
        picture = self._pictures[ref.slot] if ref.slot < len(self._pictures) else None
        if picture is None or self._generations[ref.slot] != ref.generation:
            raise StaleFrame(f"frame {ref.seq} of {ref.stream}: slot {ref.slot} has left generation {ref.generation}")
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

    def release(self, slot: int, generation: int) -> None:
        """Free a slot. Raises StaleFrame where it was freed before."""
        with self._lock:
            if self._generations[slot] != generation or self._pictures[slot] is None:
                raise StaleFrame(f"slot {slot} of generation {generation} is released twice")
            self._pictures[slot] = None
            self._free.append(slot)
