"""Crop and resize: pictures and their places in the source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llamapipe.data import Image
from llamapipe.errors import UsageError
from llamapipe_operators import Crop, Resize
from tests.operators.kit import boxes, make, textured


def crops(image: Image, found: Any, **params: Any) -> list[Image]:
    outputs: Any = make(Crop, **params).process({"frames": image, "boxes": found})
    cut: list[Image] = outputs["frames"]
    return cut


def test_a_crop_is_a_view_that_knows_its_place() -> None:
    image = textured()
    (cut,) = crops(image, boxes([40, 20, 80, 60]), pad=0.0)
    assert (cut.width, cut.height) == (40, 40)
    assert np.shares_memory(cut.bgr, image.bgr)
    assert cut.placement.to_source(np.array([[0, 0, 40, 40]], np.float32)).tolist() == [[40, 20, 80, 60]]


def test_the_upper_part_of_a_box_with_room_around() -> None:
    (cut,) = crops(textured(), boxes([100, 40, 140, 140]), pad=0.1, top_share=0.5)
    assert cut.region == (96, 35, 144, 95)


def test_small_and_outside_boxes_give_no_crop_and_the_best_are_taken() -> None:
    found = boxes([0, 0, 4, 4], [500, 500, 600, 600], [10, 10, 50, 50], [60, 60, 120, 120])
    found.score[:] = [0.9, 0.9, 0.3, 0.8]
    assert [cut.region for cut in crops(textured(), found, pad=0.0)] == [(10, 10, 50, 50), (60, 60, 120, 120)]
    assert [cut.region for cut in crops(textured(), found, pad=0.0, max_items=1)] == [(60, 60, 120, 120)]
    assert crops(textured(), found, labels=["car"]) == []


@pytest.mark.parametrize(
    ("params", "size"),
    [
        ({"width": 160}, (160, 120)),
        ({"height": 60}, (80, 60)),
        ({"max_side": 80}, (80, 60)),
        ({"max_side": 999}, (320, 240)),
    ],
)
def test_resize_keeps_the_shape_unless_both_sides_are_given(params: dict[str, int], size: tuple[int, int]) -> None:
    outputs: Any = make(Resize, **params).process({"frames": textured()})
    picture = outputs["frames"]
    assert (picture.width, picture.height) == size
    whole = np.array([[0, 0, *size]], np.float32)
    assert picture.placement.to_source(whole).tolist() == [[0, 0, 320, 240]]


@pytest.mark.parametrize("params", [{}, {"width": 10, "max_side": 10}])
def test_resize_says_what_it_needs(params: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="width, height or both, or else max_side"):
        make(Resize, **params)
