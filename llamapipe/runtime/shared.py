"""Picture memory that processes share.

One anonymous file in memory (memfd), cut into slots of one size. It has no name in any file system: the processes
that use it are given its descriptor, and it is gone with the last of them, however they end. Only pages that were
written to take up memory, so slots may be cut large and many.

    slot k, at k * slot_bytes
    +--------------------+------------------+-----------------------------+------------------------------+
    | generation  u64 LE | header bytes u64 | header: msgpack of a layout | pixels, from HEADER_BYTES on |
    +--------------------+------------------+-----------------------------+------------------------------+

Whoever writes sets the generation to 0 first and to its number last, after pixels and header: a reader that finds
its reference's generation before and after looking has seen one whole picture.

Slots are mapped many together: every mapping takes one of the descriptors that a process may have open. Memory of
slots that nobody needed while a thousand pictures came and went is given back.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import struct
import threading
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from llamapipe.data import FrameRef, Image, Native, Placement
from llamapipe.errors import LlamapipeError, OutputError
from llamapipe.media import BgrPicture, PictureLayout, layout_of, pack, renewed, unpack
from llamapipe.runtime.arena import image_of, reference_to
from llamapipe.runtime.slots import SlotTable, StaleFrame

__all__ = ["HEADER_BYTES", "LentArena", "SharedArena", "SharedMemory"]

HEADER_BYTES = 4096
_PREFIX = struct.Struct("<QQ")
_KEPT_PICTURES = 8  # whose conversions a process remembers
_CHUNK_SLOTS = 64  # that are mapped together, or more where they are small
_CHUNK_BYTES = 1 << 24
_LOOK_EVERY = 1000  # pictures come and go from one look at what was not needed meanwhile to the next
_GIVE_EVERY = 4  # of them one slot is given back: that takes half a millisecond a megabyte, in which nothing else runs
_layout_decoder = msgspec.msgpack.Decoder(PictureLayout)


@lru_cache(64)
def _header_of(layout: PictureLayout) -> tuple[bytes, int]:
    """A layout as bytes, and what a picture takes with it: the same for a whole stream."""
    return msgspec.msgpack.encode(layout), HEADER_BYTES + layout.num_bytes


class SharedMemory:
    """Reads and writes slots. Makes the file, or takes the descriptor of one."""

    def __init__(self, slot_bytes: int, fd: int | None = None) -> None:
        page = mmap.PAGESIZE
        self.slot_bytes = -(-(HEADER_BYTES + slot_bytes) // page) * page if fd is None else slot_bytes
        self._owns = fd is None
        self.fd = os.memfd_create("llamapipe-frames", os.MFD_CLOEXEC) if fd is None else fd
        self._chunk_slots = max(_CHUNK_SLOTS, -(-_CHUNK_BYTES // self.slot_bytes))
        self._chunks: dict[int, tuple[mmap.mmap, memoryview]] = {}
        self._slots: dict[int, memoryview] = {}  # parts of them
        self._reserved: dict[int, int] = {}  # slot -> bytes that are known to be there
        self._size = 0
        self._pictures: dict[int, tuple[int, Native]] = {}  # slot -> generation, picture
        self._shown: dict[int, tuple[bytes, Native]] = {}  # slot -> header, what is to be renewed
        self._lock = threading.Lock()

    def write(self, slot: int, generation: int, picture: Native) -> None:
        """Put a picture into a slot. Raises OutputError where memory is short or the slot too small."""
        layout = layout_of(picture)
        header, total = _header_of(layout)
        if total > self.slot_bytes or len(header) > HEADER_BYTES - _PREFIX.size:
            raise OutputError(
                f"a picture of {layout.width}x{layout.height} ({layout.num_bytes} bytes) does not fit into a frame "
                f"slot of {self.slot_bytes - HEADER_BYTES}",
                hint="run the stage that makes it in threads: --set STAGE.placement=thread",
            )
        view = self._slot(slot)
        self._make_sure_of(slot, total, view)
        _PREFIX.pack_into(view, 0, 0, 0)
        pack(picture, layout, view[HEADER_BYTES:total])
        view[_PREFIX.size : _PREFIX.size + len(header)] = header
        _PREFIX.pack_into(view, 0, generation, len(header))

    def read(self, slot: int, generation: int, *, private: bool = False) -> Native:
        """The picture in a slot, where it lies; ``private``: its plain pixels copied.

        Raises StaleFrame where the slot has gone on to another.
        """
        kept = self._pictures.get(slot)
        if kept is not None and kept[0] == generation:
            return kept[1]
        view = self._slot(slot)
        found, length = _PREFIX.unpack_from(view, 0)
        if found != generation:
            raise StaleFrame(f"slot {slot} holds generation {found}, expected {generation}")
        picture = self._look(slot, bytes(view[_PREFIX.size : _PREFIX.size + length]), view)
        if private and isinstance(picture, BgrPicture):
            picture = BgrPicture(picture.bgr().copy())
        with self._lock:
            self._pictures[slot] = generation, picture
            while len(self._pictures) > _KEPT_PICTURES:
                del self._pictures[next(iter(self._pictures))]
        return picture

    def _look(self, slot: int, header: bytes, view: memoryview) -> Native:
        """What lies in the slot: mostly the next picture of the same stream."""
        shown = self._shown.get(slot)
        if shown is not None and shown[0] == header and (again := renewed(shown[1])) is not None:
            return again
        layout = _layout_decoder.decode(header)
        picture = unpack(layout, view[HEADER_BYTES : HEADER_BYTES + layout.num_bytes])
        if (blank := renewed(picture)) is not None:  # not itself, which will keep its pixels converted as well
            self._shown[slot] = header, blank
        return picture

    def still(self, slot: int, generation: int) -> bool:
        """Whether the slot has not been written to since."""
        found, _ = _PREFIX.unpack_from(self._slot(slot), 0)
        return bool(found == generation)

    def forget(self, slot: int) -> None:
        """Let go of what was kept of a slot's picture."""
        with self._lock:
            self._pictures.pop(slot, None)

    def close(self) -> None:
        """Unmap what nobody looks at any more, and close the file."""
        self._pictures.clear()
        self._shown.clear()
        self._slots.clear()
        self._chunks.clear()  # unmapped with the last array that points there
        if self._owns and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def give_back(self, slot: int) -> None:
        """Have a slot take its first page alone, in all processes. Nobody may be writing to it or need what it holds.

        Whoever writes to it next finds neither generation nor header there, and has the pages made anew.
        """
        with contextlib.suppress(OSError):  # a kernel that cannot: it is kept then
            if any(os.pread(self.fd, _PREFIX.size, slot * self.slot_bytes)):  # a look at the map would make a page
                _PREFIX.pack_into(self._slot(slot), 0, 0, 0)
                self._reserved.pop(slot, None)
                (chunk, _), start = self._place(slot)
                chunk.madvise(mmap.MADV_REMOVE, start + mmap.PAGESIZE, self.slot_bytes - mmap.PAGESIZE)

    def _make_sure_of(self, slot: int, num_bytes: int, view: memoryview) -> None:
        """Have the pages there before they are written to: a write without them would end the process."""
        if self._reserved.get(slot, 0) >= num_bytes and _PREFIX.unpack_from(view, 0) != (0, 0):
            return
        try:
            os.posix_fallocate(self.fd, slot * self.slot_bytes, num_bytes)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.ENOMEM):
                raise
            raise OutputError(
                f"no memory for another frame of {num_bytes} bytes: {(error.strerror or '').lower()}",
                hint="fewer workers or a smaller batch need fewer frames; see docs/memory.md",
            ) from error
        self._reserved[slot] = num_bytes

    def extend(self, num_slots: int) -> None:
        """Have room for so many slots, before others are told of them."""
        chunks = -(-num_slots // self._chunk_slots)
        end = chunks * self._chunk_slots * self.slot_bytes
        if self._size < end:
            os.ftruncate(self.fd, end)
            self._size = end

    def _slot(self, slot: int) -> memoryview:
        found = self._slots.get(slot)
        if found is None:
            (_, view), start = self._place(slot)
            found = self._slots[slot] = view[start : start + self.slot_bytes]
        return found

    def _place(self, slot: int) -> tuple[tuple[mmap.mmap, memoryview], int]:
        """The chunk that a slot lies in, and where."""
        number, place = divmod(slot, self._chunk_slots)
        found = self._chunks.get(number)
        if found is None:
            size = self._chunk_slots * self.slot_bytes
            made = mmap.mmap(self.fd, size, offset=number * size)
            found = self._chunks.setdefault(number, (made, memoryview(made)))  # another thread's, if it was first
        return found, place * self.slot_bytes


class SharedArena:
    """See `llamapipe.runtime.arena.Arena`. ``slot_bytes`` is what the largest picture takes."""

    def __init__(self, slot_bytes: int, number: int = 1) -> None:
        self.number = number
        self.memory = SharedMemory(slot_bytes)
        self._table = SlotTable()
        self._num_freed = 0
        self._unneeded: dict[int, None] = {}  # free slots whose memory is to be given back
        self._hollow: set[int] = set()  # those whose memory has been
        self._lock = threading.Lock()

    @property
    def num_used(self) -> int:
        """Slots that are not free."""
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
            slot, generation = self._take()
            self.memory.extend(len(self._table))
        try:
            self.memory.write(slot, generation, picture)
        except BaseException:
            with self._lock:
                self._table.abandon(slot, generation)
            raise
        with self._lock:
            self._table.publish(slot, generation)
        return reference_to(
            picture, (self.number, slot, generation), stream, seq, pts, time_base, captured_at_s, placement
        )

    def image(self, ref: FrameRef) -> Image:
        """See `PictureSpace.image`."""
        return image_of(ref, self.memory.read(ref.slot, ref.generation))

    def withdraw(self, ref: FrameRef) -> None:
        """See `PictureSpace.withdraw`."""
        self.release(ref.slot, ref.generation)

    def still_whole(self, ref: FrameRef) -> bool:
        """See `PictureSpace.still_whole`."""
        return self.memory.still(ref.slot, ref.generation)

    def lease(self, slot: int, generation: int) -> None:
        """See `Arena.lease`."""
        with self._lock:
            self._table.lease(slot, generation)

    def release(self, slot: int, generation: int) -> None:
        """See `Arena.release`."""
        with self._lock:
            free = self._table.release(slot, generation)
            if free:
                self._give_back()
        if free:
            self.memory.forget(slot)

    def lend(self, count: int) -> list[tuple[int, int]]:
        """See `Arena.lend`."""
        with self._lock:
            lent = [self._take() for _ in range(count)]
            self.memory.extend(len(self._table))
        return lent

    def take_back(self, lent: list[tuple[int, int]], used: set[tuple[int, int]]) -> None:
        """See `Arena.take_back`."""
        with self._lock:
            for slot, generation in lent:
                if (slot, generation) in used:
                    self._table.publish(slot, generation)
                else:
                    self._table.abandon(slot, generation)

    def close(self) -> None:
        """See `Arena.close`."""
        self.memory.close()

    def _take(self) -> tuple[int, int]:
        slot, generation = self._table.take()
        self._unneeded.pop(slot, None)
        self._hollow.discard(slot)
        return slot, generation

    def _give_back(self) -> None:
        """A slot is free again: see to those that were free all the while. The lock is held, so that none is taken."""
        self._num_freed += 1
        if self._num_freed % _LOOK_EVERY == 0:
            self._unneeded = {slot: None for slot in self._table.long_free() if slot not in self._hollow}
        if self._unneeded and self._num_freed % _GIVE_EVERY == 0:
            slot, _ = self._unneeded.popitem()
            self.memory.give_back(slot)
            self._hollow.add(slot)


class LentArena:
    """See `llamapipe.runtime.arena.PictureSpace`, of a process that was given the memory's descriptor."""

    def __init__(self, fd: int, slot_bytes: int, number: int = 1) -> None:
        self._memory = SharedMemory(slot_bytes, fd)
        self._number = number
        self._lent: list[tuple[int, int]] = []

    def lent(self, slots: Sequence[tuple[int, int]]) -> None:
        """These slots, and no others, may be written to from now on."""
        self._lent = list(reversed(slots))

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
        if not self._lent:
            raise LlamapipeError("a stage made more pictures than its manifest lets expect")
        slot, generation = self._lent.pop()
        try:
            self._memory.write(slot, generation, picture)
        except BaseException:
            self._lent.append((slot, generation))
            raise
        return reference_to(
            picture, (self._number, slot, generation), stream, seq, pts, time_base, captured_at_s, placement
        )

    def image(self, ref: FrameRef) -> Image:
        """See `PictureSpace.image`. Pixels that were made by an operator are copied: others may keep theirs."""
        return image_of(ref, self._memory.read(ref.slot, ref.generation, private=True))

    def withdraw(self, ref: FrameRef) -> None:
        """See `PictureSpace.withdraw`."""
        self._lent.append((ref.slot, ref.generation))

    def still_whole(self, ref: FrameRef) -> bool:
        """See `PictureSpace.still_whole`."""
        return self._memory.still(ref.slot, ref.generation)
