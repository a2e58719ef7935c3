"""Alike values lie near each other."""

import numpy as np
import pytest

from llamapipe.errors import UsageError
from llamapipe.tune import Knob, Scale, Space


def test_numbers_run_from_zero_to_one_by_difference_or_by_ratio():
    space = Space([Knob("size", (100, 200, 300)), Knob("batch", (1, 4, 16), Scale.LOG)])
    assert np.allclose(space.encode([(100, 1), (200, 4), (300, 16)]), [[0, 0], [0.5, 0.5], [1, 1]])


def test_any_two_categories_are_at_a_distance_of_one():
    space = Space([Knob("backend", ("a", "b", "c"), Scale.CATEGORY)])
    a, b, c = space.coordinates
    assert np.allclose([np.linalg.norm(a - b), np.linalg.norm(b - c), np.linalg.norm(a - c)], 1)


def test_a_knob_of_one_value_takes_no_column():
    assert Space([Knob("device", ("cpu",), Scale.CATEGORY), Knob("batch", (1, 2))]).coordinates.shape == (2, 1)


def test_the_points_are_all_combinations_or_those_given():
    knobs = [Knob("batch", (1, 2)), Knob("threads", (1, 2))]
    assert Space(knobs).points == ((1, 1), (1, 2), (2, 1), (2, 2))
    assert Space(knobs, [(2, 1), (1, 1), (2, 1)]).points == ((2, 1), (1, 1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Space([]),
        lambda: Space([Knob("batch", ())]),
        lambda: Space([Knob("batch", ("many",))]),
        lambda: Space([Knob("batch", (0, 1), Scale.LOG)]),
        lambda: Space([Knob("backend", ("a",), Scale.CATEGORY)]).encode([("b",)]),
    ],
)
def test_what_makes_no_space_is_refused(make):
    with pytest.raises(UsageError):
        make()
