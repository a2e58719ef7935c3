"""A chain within a worker: what is passed on, what is published, and what becomes of an item that a stage fails on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from llamapipe.control import StagePlan
from llamapipe.control.events import FAILED_ITEM
from llamapipe.data import FrameRef
from llamapipe.errors import OutputError
from llamapipe.media import BgrPicture
from llamapipe.runtime import LocalArena
from llamapipe.runtime.chaining import PassingSpace, run_chain
from llamapipe.runtime.host import failed_item
from llamapipe.testing import FakeClock
from llamapipe.wire import ChainInputs, Done, Invoke, ItemInputs, ItemOutputs
from tests.control.plans import frames, stage

PICTURES = {"frames": "frames"}


class Full(LocalArena):
    """Has no room from the given picture on."""

    def __init__(self, after: int = 1 << 30) -> None:
        super().__init__()
        self._after = after

    def put(self, picture: Any, **facts: Any) -> FrameRef:
        if self._after == 0:
            raise OutputError("no memory for another frame")
        self._after -= 1
        return super().put(picture, **facts)


class Brighter:
    """A stage that adds 1 to its picture; ``fails`` and ``gives_on`` are places of items."""

    def __init__(self, plan: StagePlan, space: PassingSpace, clock: FakeClock, fails: int = -1, gives_on: int = -1):
        self.plan, self._space, self._clock = plan, space, clock
        self._fails, self._gives_on = fails, gives_on
        self.saw: list[int] = []

    def run(self, items: Sequence[ItemInputs]) -> list[ItemOutputs]:
        self._clock.advance(0.25)
        self.saw += [item.seq for item in items]
        return [self._one(item) for item in items]

    def _one(self, item: ItemInputs) -> ItemOutputs:
        [[ref]] = item.inputs
        assert isinstance(ref, FrameRef)
        pixels = self._space.image(ref).bgr
        if item.seq == self._fails:
            return failed_item(ValueError("no"))
        if item.seq == self._gives_on:
            return ItemOutputs(1, [[ref]], [])
        return ItemOutputs(1, [[put(self._space, pixels + 1, item.seq)]], [])


def put(space: Any, pixels: np.ndarray, seq: int) -> FrameRef:
    facts: dict[str, Any] = {"stream": "cam0", "seq": seq, "pts": seq, "time_base": (1, 10), "captured_at_s": 0.0}
    ref = space.put(BgrPicture(pixels.astype(np.uint8)), **facts)
    assert isinstance(ref, FrameRef)
    return ref


def played(arena: LocalArena, *misbehaving: dict[str, int]) -> tuple[Done, list[Brighter], Callable[[int, int], int]]:
    """Two items through three stages; the answer, the stages, and the brightness of a stage's output of an item."""
    space, clock = PassingSpace(arena), FakeClock()
    plans = [stage("a", frames(), outputs=PICTURES)]
    plans += [stage(n, frames(stage=b), outputs=PICTURES) for n, b in (("b", "a"), ("c", "b"))]
    stages = [Brighter(p, space, clock, **how) for p, how in zip(plans, misbehaving, strict=True)]
    given = [ItemInputs("cam0", seq, 0, [[put(arena, np.full((4, 4, 3), 10 * seq), seq)]]) for seq in range(2)]
    empty = [ItemInputs("cam0", seq, 0, [[]]) for seq in range(2)]
    message = Invoke(7, "w/a", given, chain=[ChainInputs("w/b", empty), ChainInputs("w/c", empty)])
    done = run_chain(message, stages, space, clock)  # type: ignore[arg-type]

    def level(place: int, item: int) -> int:
        """Of what a stage gave; below 0: nothing was kept of it."""
        outputs = [done.items, *(link.items for link in done.chain)][place][item]
        if outputs is None or not outputs.outputs:
            return -1
        [[ref]] = outputs.outputs
        assert isinstance(ref, FrameRef)
        return int(arena.image(ref).bgr[0, 0, 0])

    return done, stages, level


def counts(done: Done) -> list[list[int | None]]:
    items = [done.items, *(link.items for link in done.chain)]
    return [[None if outputs is None else outputs.count for outputs in of_stage] for of_stage in items]


def test_only_what_the_last_stage_makes_takes_a_slot_and_every_stage_has_its_own_time() -> None:
    arena = LocalArena()
    done, _, level = played(arena, {}, {}, {})
    assert counts(done) == [[1, 1], [1, 1], [1, 1]]
    assert [[level(place, item) for item in range(2)] for place in range(3)] == [[-1, -1], [-1, -1], [3, 13]]
    assert arena.num_used == 4  # two came, two were made
    times = [(done.started_s, done.ended_s), *((link.started_s, link.ended_s) for link in done.chain)]
    assert [round(end - begin, 9) for begin, end in times] == [0.25, 0.25, 0.25]


def test_what_came_before_a_failure_is_kept_and_what_comes_after_is_not_run() -> None:
    done, stages, level = played(LocalArena(), {}, {"fails": 1}, {})
    assert counts(done) == [[1, 1], [1, FAILED_ITEM], [1, None]]
    assert [[level(place, item) for item in range(2)] for place in range(3)] == [[-1, 11], [-1, -1], [3, -1]]
    assert [len(of.saw) for of in stages] == [2, 2, 1]


def test_a_picture_that_is_given_on_is_published_by_the_one_who_gives_it_to_others() -> None:
    done, _, level = played(LocalArena(), {}, {"gives_on": 0}, {"gives_on": 0})
    assert counts(done) == [[1, 1], [1, 1], [1, 1]]
    assert (level(2, 0), level(2, 1)) == (1, 13)


def test_a_picture_that_nobody_has_room_for_is_the_failure_of_who_gave_it_and_what_it_was_made_of_is_kept() -> None:
    """Item 0 is given on by the last stage, which had no memory for it; nor is there any for what came before."""
    arena = Full(after=3)  # the two that come, and the one that the last stage makes of item 1
    done, _, level = played(arena, {}, {}, {"gives_on": 0})
    assert counts(done) == [[FAILED_ITEM, 1], [None, 1], [None, 1]]
    assert "no memory" in (done.items[0].error or "")
    assert level(2, 1) == 13
    assert arena.num_used == 3


class Counts:
    """A stage that says how bright its picture is, in bytes."""

    def __init__(self, plan: StagePlan, space: PassingSpace) -> None:
        self.plan, self._space = plan, space

    def run(self, items: Sequence[ItemInputs]) -> list[ItemOutputs]:
        refs = [ref for item in items for [ref] in [item.inputs[0]]]
        return [ItemOutputs(1, [[bytes([int(self._space.image(ref).bgr[0, 0, 0])])]], []) for ref in refs]  # type: ignore[arg-type]


def test_what_is_no_picture_is_kept_for_sinks_that_read_it_too() -> None:
    arena = LocalArena()
    space = PassingSpace(arena)
    first = Counts(stage("a", frames()), space)
    second = Brighter(stage("b", frames(), outputs=PICTURES, depth=2), space, FakeClock())
    ref = put(arena, np.full((4, 4, 3), 40), 0)
    message = Invoke(
        7,
        "w/a",
        [ItemInputs("cam0", 0, 0, [[ref]])],
        chain=[ChainInputs("w/b", [ItemInputs("cam0", 0, 0, [[ref]])])],
    )
    done = run_chain(message, [first, second], space, FakeClock())  # type: ignore[list-item]
    assert [outputs.outputs for outputs in done.items] == [[[b"("]]]
    [[[drawn]]] = [outputs.outputs for outputs in done.chain[0].items if outputs is not None]
    assert isinstance(drawn, FrameRef)
    assert int(arena.image(drawn).bgr[0, 0, 0]) == 41
