"""Hold: a detector that blinks, and boxes that do not."""

from __future__ import annotations

from typing import Any

import numpy as np

from llamapipe.data import Boxes
from llamapipe_operators import Hold
from tests.operators.kit import boxes, make


def held(operator: Any, *items: Boxes) -> list[Boxes]:
    return [operator.process({"boxes": item})["boxes"] for item in items]


def moving(i: int) -> Boxes:
    return boxes([10 + 5 * i, 20, 40 + 5 * i, 60])


def test_a_box_stays_for_a_while_and_covers_where_the_thing_went() -> None:
    found = held(make(Hold, seconds=0.2), *map(moving, range(8)), *[boxes()] * 8)
    assert [len(one) for one in found] == [1] * 13 + [0] * 3
    for i in range(8, 13):
        (box,) = found[i].xyxy.tolist()
        (true,) = moving(i).xyxy.tolist()
        room = np.subtract(true, box) * [1, 1, -1, -1]  # pixels that the held box reaches beyond the thing
        assert room.min() >= -1


def test_a_box_that_comes_back_takes_its_place() -> None:
    found = held(make(Hold), *map(moving, range(5)), boxes(), boxes(), *(moving(i) for i in (7, 8)))
    assert [len(one) for one in found] == [1] * 9


def test_two_things_are_not_taken_for_one() -> None:
    both, one = boxes([10, 10, 40, 40], [200, 10, 230, 40]), boxes([200, 10, 230, 40])
    assert [len(item) for item in held(make(Hold), both, one, one)] == [2, 2, 2]


def test_nothing_is_held_for_no_time() -> None:
    assert [len(item) for item in held(make(Hold, seconds=0.0), moving(0), boxes())] == [1, 0]
