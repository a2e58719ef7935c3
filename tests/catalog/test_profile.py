"""A profile answers for the batches it knows, and for those between."""

import pytest

from llamapipe.catalog import AccuracyFigure, BatchPoint, Profile, Variant
from llamapipe.errors import UsageError

PROFILE = Profile(
    Variant("m", "onnxruntime", threads=2),
    "here",
    points=(BatchPoint(1, 0.010, 0.012, 0.010), BatchPoint(4, 0.028, 0.032, 0.028), BatchPoint(8, 0.080, 0.09, 0.08)),
)


def test_between_two_batches_lies_a_straight_line():
    assert PROFILE.point(2).median_s == pytest.approx(0.016)


def test_beyond_the_largest_batch_nothing_is_guessed():
    with pytest.raises(UsageError, match="batch 9 is not profiled"):
        PROFILE.point(9)


def test_best_batch_has_the_highest_throughput_that_fits():
    assert (PROFILE.best_batch(), PROFILE.best_batch(0.02), PROFILE.best_batch(0.001)) == (4, 1, 0)


def test_an_item_costs_all_threads_of_its_replica():
    assert PROFILE.core_s_per_item(4) == pytest.approx(2 * 0.028 / 4)


PUBLISHED = AccuracyFigure("coco_ap", 0.258, "COCO val2017", "published")
PEOPLE = AccuracyFigure("agreement", 0.9, "clip", "agreement", task="person-detection")
CARS = AccuracyFigure("agreement", 0.7, "clip", "agreement", task="vehicle-detection")
OF_SEVERAL = Profile(Variant("yolox-nano", "onnxruntime"), "here", accuracy=(PUBLISHED, PEOPLE, CARS))


def test_a_figure_is_that_of_the_task_that_is_asked_for() -> None:
    assert OF_SEVERAL.accuracy_of("agreement", task="vehicle-detection") == CARS
    assert OF_SEVERAL.accuracy_of("agreement", task="face-detection") is None
    assert OF_SEVERAL.accuracy_of("agreement") == PEOPLE
    assert OF_SEVERAL.accuracy_of("coco_ap", task="vehicle-detection") == PUBLISHED  # of every task


def test_a_profile_for_a_task_has_its_figures_alone() -> None:
    assert OF_SEVERAL.for_task("vehicle-detection").accuracy == (PUBLISHED, CARS)
