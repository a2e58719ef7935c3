"""How far two detectors find the same."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import numpy as np
import pytest

from llamapipe.accuracy import agreement
from llamapipe.data import Boxes

NAMES = ("person", "car")


def boxes(*found: tuple[float, str], names: Sequence[str] = NAMES) -> Boxes:
    """Boxes of 10 by 10 pixels at (left, label)."""
    return Boxes(
        np.array([[left, 0, left + 10, 10] for left, _ in found], np.float32).reshape(-1, 4),
        np.full(len(found), 0.9, np.float32),
        np.array([names.index(label) for _, label in found], np.int32),
        names,
    )


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_f1_counts_pairs_over_all_frames() -> None:
    mine = [boxes((0, "person"), (100, "car")), boxes((0, "person"))]
    theirs = [boxes((1, "person")), boxes((50, "person"))]
    found = agreement(mine, theirs, rng=rng())
    assert found.f1 == pytest.approx(2 * 1 / (3 + 2))
    assert (found.num_found, found.num_reference, found.num_frames) == (3, 2, 2)


def test_a_box_of_another_label_is_no_pair() -> None:
    assert agreement([boxes((0, "car"))], [boxes((0, "person"))], rng=rng()).f1 == 0


def test_labels_are_told_by_their_names_not_by_their_numbers() -> None:
    mine = boxes((0, "person"), names=("cat", "person"))
    assert agreement([mine], [boxes((0, "person"))], rng=rng()).f1 == 1
    assert agreement([boxes((0, "cat"), names=("cat",))], [boxes((0, "person"))], rng=rng()).f1 == 0


def test_a_box_makes_one_pair_at_most() -> None:
    found = agreement([boxes((0, "car"), (1, "car"))], [boxes((0, "car"))], rng=rng())
    assert found.f1 == pytest.approx(2 / 3)


def test_few_boxes_that_all_agree_leave_doubt() -> None:
    few = agreement([boxes((0, "car"))] * 3, [boxes((0, "car"))] * 3, rng=rng())
    many = agreement([boxes((0, "car"))] * 300, [boxes((0, "car"))] * 300, rng=rng())
    assert few.f1 == many.f1 == few.high == 1
    assert few.low < 0.5 < 0.98 < many.low


def test_frames_that_differ_widen_the_interval() -> None:
    """Ten boxes wrong in one of ten frames say less than one wrong in each."""
    ten = [(100.0 * i, "car") for i in range(10)]
    elsewhere = [(100.0 * i + 50, "car") for i in range(10)]
    one_bad = agreement([boxes(*elsewhere), *[boxes(*ten)] * 9], [boxes(*ten)] * 10, rng=rng())
    each_bad = agreement([boxes(*elsewhere[:1], *ten[1:])] * 10, [boxes(*ten)] * 10, rng=rng())
    assert one_bad.f1 == pytest.approx(each_bad.f1) == pytest.approx(0.9)
    assert one_bad.low < each_bad.low < 0.9 < each_bad.high


def test_nothing_found_on_either_side_is_no_figure() -> None:
    found = agreement([boxes()], [boxes()], rng=rng())
    assert isnan(found.f1)
    assert agreement([boxes((0, "car"))], [boxes()], rng=rng()).f1 == 0


def test_the_same_seed_gives_the_same_interval() -> None:
    mine, theirs = [boxes((0, "car")), boxes()] * 5, [boxes((0, "car"))] * 10
    assert agreement(mine, theirs, rng=rng()) == agreement(mine, theirs, rng=rng())
