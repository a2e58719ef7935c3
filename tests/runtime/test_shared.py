"""Memory that processes share: how many files it keeps open, what it takes, and what it gives back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from llamapipe.data import FrameRef
from llamapipe.media import AvPicture, BgrPicture
from llamapipe.runtime import SharedArena
from llamapipe.runtime.arena import StaleFrame
from llamapipe.runtime.shared import LentArena

SIZE = 64  # pixels


@pytest.fixture
def arena() -> Iterator[SharedArena]:
    made = SharedArena(1 << 20)
    yield made
    made.close()


def pixels(value: int) -> BgrPicture:
    return BgrPicture(np.full((SIZE, SIZE, 3), value % 256, np.uint8))


def put(space: Any, value: int) -> FrameRef:
    ref = space.put(pixels(value), stream="cam0", seq=value, pts=value, time_base=(1, 10), captured_at_s=0.0)
    assert isinstance(ref, FrameRef)
    return ref


def taken_bytes(arena: SharedArena) -> int:
    return os.fstat(arena.memory.fd).st_blocks * 512


def circulate(arena: SharedArena, count: int) -> None:
    for value in range(count):
        ref = put(arena, value)
        arena.release(ref.slot, ref.generation)


def test_many_pictures_take_few_open_files(arena: SharedArena) -> None:
    before = len(os.listdir("/proc/self/fd"))
    refs = [put(arena, value) for value in range(1500)]
    other = LentArena(arena.memory.fd, arena.memory.slot_bytes)
    for value, ref in enumerate(refs):
        for space in (arena, other):
            assert space.image(ref).bgr[0, 0, 0] == value % 256
    assert len(os.listdir("/proc/self/fd")) < before + 60


def test_memory_is_taken_when_it_is_written_to_not_when_it_is_mapped(arena: SharedArena) -> None:
    put(arena, 1)
    other = LentArena(arena.memory.fd, arena.memory.slot_bytes)
    other.lent(arena.lend(1))
    put(other, 2)
    assert os.fstat(arena.memory.fd).st_size >= 1 << 24
    assert taken_bytes(arena) < 1 << 16


@pytest.mark.parametrize("lent", [False, True])
def test_memory_that_a_burst_took_is_given_back(arena: SharedArena, lent: bool) -> None:
    space: Any = arena
    if lent:
        space = LentArena(arena.memory.fd, arena.memory.slot_bytes)
        places = arena.lend(200)
        space.lent(places)
    burst = [put(space, value) for value in range(200)]
    if lent:
        arena.take_back(places, set(places))
    kept = burst[:3]
    for ref in burst[3:]:
        arena.release(ref.slot, ref.generation)
    full = taken_bytes(arena)
    assert full >= 200 * SIZE * SIZE * 3
    circulate(arena, 3000)
    assert taken_bytes(arena) < full / 2
    for value, ref in enumerate(kept):
        assert arena.image(ref).bgr[0, 0, 0] == value
        assert arena.still_whole(ref)
    for ref in burst[3:]:
        assert not arena.still_whole(ref)
        with pytest.raises(StaleFrame):
            arena.image(ref)


def test_a_slot_whose_memory_was_given_back_has_its_pages_made_before_it_is_written_to(
    arena: SharedArena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write to a page that cannot be had ends the process: another than the one that gave it back must know, too."""
    other = LentArena(arena.memory.fd, arena.memory.slot_bytes)
    made: list[int] = []
    allocate = os.posix_fallocate
    monkeypatch.setattr(os, "posix_fallocate", lambda fd, at, size: (made.append(at), allocate(fd, at, size))[1])
    for round_, told in enumerate([1, 1, 2]):
        [(slot, generation)] = arena.lend(1)
        other.lent([(slot, generation)])
        ref = put(other, 5)
        arena.take_back([(slot, generation)], {(slot, generation)})
        assert len(made) == told
        assert arena.image(ref).bgr[0, 0, 0] == 5
        arena.release(slot, generation)
        if round_ == 1:
            arena.memory.give_back(slot)


def test_memory_that_cannot_be_given_back_is_kept(arena: SharedArena) -> None:
    ref = put(arena, 1)
    arena.release(ref.slot, ref.generation)
    arena.memory.close()
    arena.memory.give_back(ref.slot)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "bgr24"])
def test_pictures_of_a_stream_differ_in_colours_and_rotation_and_keep_them(
    arena: SharedArena, pixel_format: str
) -> None:
    bgr = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    for colorspace, rotation in ((1, 0), (5, 0), (1, 90), (1, 0)):
        frame = av.VideoFrame.from_ndarray(bgr, format="bgr24").reformat(format=pixel_format)
        frame.colorspace, frame.time_base = colorspace, Fraction(1, 10)
        picture = AvPicture(frame, rotation)
        ref = arena.put(picture, stream="cam0", seq=0, pts=0, time_base=(1, 10), captured_at_s=0.0)
        assert np.array_equal(arena.image(ref).bgr, picture.bgr())


def planar(value: int, height: int = SIZE) -> AvPicture:
    frame = av.VideoFrame(SIZE, height, "yuv420p")
    for plane in frame.planes:
        np.frombuffer(plane, np.uint8)[:] = value
    return AvPicture(frame)


@pytest.mark.parametrize("height", [SIZE, SIZE - 2])  # one that FFmpeg is shown where it lies, and one that is copied
def test_a_slot_that_goes_on_to_the_next_picture_shows_it_and_no_earlier_one(arena: SharedArena, height: int) -> None:
    other = LentArena(arena.memory.fd, arena.memory.slot_bytes)
    slots: set[int] = set()
    for value in (40, 90, 140):
        ref = arena.put(planar(value, height), stream="cam0", seq=value, pts=0, time_base=(1, 10), captured_at_s=0.0)
        slots.add(ref.slot)
        for space in (arena, other):
            picture = space.image(ref).native
            assert picture is not None
            assert np.frombuffer(picture.frame().planes[0], np.uint8)[0] == value
            expected = planar(value, height).bgr()
            assert (picture.bgr() == expected).all()
        arena.release(ref.slot, ref.generation)
    assert len(slots) == 1


def test_a_slot_may_go_on_to_a_picture_of_another_kind(arena: SharedArena) -> None:
    other = LentArena(arena.memory.fd, arena.memory.slot_bytes)
    for value, picture in enumerate((planar(40), pixels(7), planar(90, SIZE - 8), pixels(8), planar(140))):
        ref = arena.put(picture, stream="cam0", seq=value, pts=0, time_base=(1, 10), captured_at_s=0.0)
        assert ref.slot == 0
        for space in (arena, other):
            found = space.image(ref)
            assert (found.width, found.height) == (picture.width, picture.height)
            assert (found.bgr == picture.bgr()).all()
        arena.release(ref.slot, ref.generation)
