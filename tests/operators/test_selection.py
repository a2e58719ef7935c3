"""Select: which boxes stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llamapipe.data import Boxes
from llamapipe_operators import Select
from tests.operators.kit import boxes, make

FOUND = Boxes(
    np.array([[0, 0, 40, 80], [100, 0, 180, 50], [102, 0, 180, 50], [200, 0, 210, 20]], np.float32),
    np.array([0.9, 0.6, 0.8, 0.3], np.float32),
    np.array([0, 1, 2, 0], np.int32),
    ("person", "car", "truck"),
    np.array([4, 5, 6, 7]),
)


def kept(found: Boxes = FOUND, **params: Any) -> list[int]:
    outputs: Any = make(Select, **params).process({"boxes": found})
    track_id = outputs["boxes"].track_id
    return [] if track_id is None else track_id.tolist()


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({}, [4, 5, 6, 7]),
        ({"labels": ["person"]}, [4, 7]),
        ({"exclude": ["person"]}, [5, 6]),
        ({"labels": ["bicycle"]}, []),
        ({"min_score": 0.5}, [4, 5, 6]),
        ({"min_size": 30}, [4, 5, 6]),
        ({"max_size": 60}, [7]),
        ({"max_items": 2}, [4, 6]),
        ({"max_iou": 0.6}, [4, 6, 7]),
    ],
)
def test_boxes_are_chosen(params: dict[str, Any], wanted: list[int]) -> None:
    assert kept(**params) == wanted


def test_no_boxes_stay_no_boxes() -> None:
    assert kept(boxes(), labels=["person"], max_iou=0.5, max_items=1) == []
