"""Whether a variant does what it is a variant of."""

from __future__ import annotations

from math import nan
from typing import Any

import numpy as np
import pytest

from llamapipe.accuracy import Agreement
from llamapipe.catalog import Variant
from llamapipe.data import Boxes, Image
from llamapipe.inference import AssetStore, checking
from llamapipe.inference.checking import Findings, Pictures, best_of, figures_of, judge

SOURCE = Variant("yolox-nano", "onnxruntime", input_size=(416, 416))
PICTURES = [Image.from_bgr(np.zeros((100, 100, 3), np.uint8))] * 4


def person(*lefts: float, score: float = 0.9) -> Boxes:
    xyxy = np.array([[left, 0, left + 10, 10] for left in lefts], np.float32).reshape(-1, 4)
    return Boxes(xyxy, np.full(len(lefts), score, np.float32), np.zeros(len(lefts), np.int32), ("person", "car"))


class Scripted:
    """In place of a loaded variant: the same boxes in every picture."""

    def __init__(self, found: Boxes) -> None:
        self.found = found
        self.num_looked = 0

    def predict(self, images: Any) -> list[Boxes]:
        self.num_looked += len(images)
        return [self.found] * len(images)

    def close(self) -> None:
        pass


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str, tuple[int, int]], Scripted]:
    """By model, precision and input size."""
    found: dict[tuple[str, str, tuple[int, int]], Scripted] = {}

    def load(variant: Variant, **_: Any) -> Scripted:
        return found[variant.model, variant.precision, variant.input_size]

    monkeypatch.setattr(checking, "load_predictor", load)
    return found


def findings(tmp_path: Any, truths: list[Boxes] | None = None) -> Findings:
    return Findings(Pictures("clip", PICTURES, truths), AssetStore(tmp_path, env={}))


def test_enough_agreement_is_no_reason_to_reject() -> None:
    assert judge(Agreement(0.9, 0.8, 0.95, 100, 100, 64), SOURCE, 0.9) == ""


def test_a_rejection_tells_the_figure_and_what_was_asked() -> None:
    reason = judge(Agreement(0.715, 0.64, 0.779, 120, 161, 64), SOURCE, 0.9)
    assert reason == (
        "finds something else than yolox-nano/onnxruntime/cpu/fp32/416x416/t1: "
        "F1 0.715 (0.640 to 0.779) of 161 boxes, at least 0.9 is needed"
    )


def test_too_few_boxes_judge_nothing() -> None:
    assert "finds 3 boxes in 64 pictures, at least 10" in judge(Agreement(1, 0.4, 1, 3, 3, 64), SOURCE, 0.9)
    assert "cannot be judged" in judge(Agreement(nan, nan, nan, 0, 0, 64), SOURCE, 0.9)


def test_a_variant_looks_once_whatever_its_threads(scripted: Any, tmp_path: Any) -> None:
    scripted["yolox-nano", "fp32", (416, 416)] = one = Scripted(person(0))
    found = findings(tmp_path)
    for threads in (1, 2, 4):
        found.boxes(Variant("yolox-nano", "onnxruntime", input_size=(416, 416), threads=threads))
    assert one.num_looked == len(PICTURES)


def test_boxes_that_users_would_not_see_count_for_average_precision_alone(scripted: Any, tmp_path: Any) -> None:
    scripted["yolox-nano", "fp32", (416, 416)] = Scripted(person(0, score=0.1))
    found = findings(tmp_path, [person(0)] * 4)
    assert [len(boxes) for boxes in found.boxes(SOURCE)] == [0, 0, 0, 0]
    assert found.measured(SOURCE, ("person",)) == 1


def test_the_best_is_the_most_right_where_pictures_are_labelled(scripted: Any, tmp_path: Any) -> None:
    small = Variant("yolox-nano", "onnxruntime", input_size=(256, 256))
    scripted["yolox-nano", "fp32", (416, 416)] = Scripted(person(50))
    scripted["yolox-nano", "fp32", (256, 256)] = Scripted(person(0))
    assert best_of([SOURCE, small], findings(tmp_path, [person(0)] * 4), ("person",)) == small


def test_the_best_is_what_the_other_models_agree_with_most_elsewhere(scripted: Any, tmp_path: Any) -> None:
    """Each of two others finds one thing of its own; what one model finds alone is more likely wrong."""
    fast = Variant("fastestdet", "onnxruntime", input_size=(352, 352))
    ssd = Variant("pedestrian-ssdlite", "openvino", input_size=(300, 300))
    scripted["yolox-nano", "fp32", (416, 416)] = Scripted(person(0, 20))
    scripted["fastestdet", "fp32", (352, 352)] = Scripted(person(0, 40))
    scripted["pedestrian-ssdlite", "fp32", (300, 300)] = Scripted(person(0))
    assert best_of([SOURCE, fast, ssd], findings(tmp_path), ("person",)) == ssd
    assert best_of([SOURCE, fast], findings(tmp_path), ("person",)) == SOURCE  # in doubt the preferred model
    cars = Boxes(person(0).xyxy, person(0).score, np.ones(1, np.int32), ("person", "car"))
    labelled = findings(tmp_path, [cars] * 4)  # but not with people
    assert best_of([SOURCE, fast, ssd], labelled, ("person",)) == ssd


def test_figures_are_of_one_task_and_tell_their_kind(scripted: Any, tmp_path: Any) -> None:
    fast = Variant("fastestdet", "onnxruntime", input_size=(352, 352))
    scripted["yolox-nano", "fp32", (416, 416)] = Scripted(person(0, 20))
    scripted["fastestdet", "fp32", (352, 352)] = Scripted(person(0))
    found = findings(tmp_path, [person(0)] * 4)
    agreement, measured = figures_of(fast, SOURCE, "person-detection", found)
    assert (agreement.metric, agreement.kind, agreement.task) == ("agreement", "agreement", "person-detection")
    assert agreement.value == pytest.approx(2 / 3)
    assert (measured.metric, measured.kind, measured.value) == ("ap50", "measured", 1)
    assert figures_of(fast, SOURCE, "vehicle-detection", findings(tmp_path)) == []
