"""Each decoder: the arithmetic of one box known beforehand, and the shapes it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from llamapipe.data import Boxes
from llamapipe.errors import DecoderError
from llamapipe.inference import DECODERS
from llamapipe.inference.decoders import Letterbox, Wanted, suppress

PLAIN = Letterbox(1, 1, 0, 0, 640, 640)  # picture and input are the same
WANTED = Wanted(("a", "b", "c"), 0.5, (64, 64))

OWN = {  # outputs of input 64x64 (blazeface: 128x128) with three labels (blazeface: one)
    "yolox": [(1, 84, 8)],
    "fastestdet": [(1, 8, 4, 4)],
    "ssd": [(1, 100, 4), (1, 100), (1, 100)],
    "blazeface": [(1, 896, 16), (1, 896, 1)],
    "classifier": [(1, 3)],
    "yolov8": [(1, 7, 84)],
}


def check(name: str, shapes: list[tuple[int, ...]], *, batch: int = 1) -> None:
    side, labels = (128, 1) if name == "blazeface" else (64, 3)
    DECODERS[name].check(shapes, batch=batch, input_size=(side, side), num_labels=labels)


def decoded(name: str, *outputs: NDArray[np.float32], wanted: Wanted = WANTED, box: Letterbox = PLAIN) -> Boxes:
    (found,) = DECODERS[name].decode(outputs, [box], wanted)
    return found


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_takes_its_own_shapes(name: str) -> None:
    check(name, OWN[name])


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("other", OWN)
def test_a_decoder_refuses_the_shapes_of_every_other(name: str, other: str) -> None:
    if name != other:
        with pytest.raises(DecoderError, match=f"decoder {name}: expected"):
            check(name, OWN[other])


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_refuses_another_number_of_labels_a_lost_batch_and_no_output(name: str) -> None:
    more = [(*shape[:-1], shape[-1] + 1) for shape in OWN[name]]
    if name != "ssd":
        with pytest.raises(DecoderError):
            check(name, more)
    with pytest.raises(DecoderError):
        check(name, OWN[name], batch=8)
    with pytest.raises(DecoderError):
        check(name, [])


def test_a_batch_folded_into_one_long_row_is_refused() -> None:
    """YOLOX exported for one picture and given eight: 1 x 28392 x 85."""
    with pytest.raises(DecoderError, match="8x3549x85"):
        DECODERS["yolox"].check([(1, 28392, 85)], batch=8, input_size=(416, 416), num_labels=80)


def test_yolox_adds_the_cell_and_scales_by_the_stride() -> None:
    """Row 8 x 2 + 3 of stride 8: cell (3, 2); xy = (0.5 + cell) * 8, wh = exp(1) * 8, score = 0.9 * 0.8."""
    rows = np.zeros((1, 84, 8), np.float32)
    rows[0, 19] = [0.5, 0.5, 1, 1, 0.9, 0.1, 0.8, 0.1]
    found = decoded("yolox", rows)
    half = np.e * 4
    np.testing.assert_allclose(found.xyxy, [[28 - half, 20 - half, 28 + half, 20 + half]], rtol=1e-5)
    assert (found.score.tolist(), found.label.tolist()) == ([pytest.approx(0.72)], [1])


def test_fastestdet_weighs_objectness_and_label() -> None:
    """x = (tanh(0) + 2) / 4, w = sigmoid(0), score = 0.9^0.6 * 0.8^0.4."""
    maps = np.zeros((1, 8, 4, 4), np.float32)
    maps[0, :, 1, 2] = [0.9, 0, 0, 0, 0, 0.1, 0.1, 0.8]
    found = decoded("fastestdet", maps)
    np.testing.assert_allclose(found.xyxy, [[16, 0, 48, 32]], atol=1e-4)
    np.testing.assert_allclose(found.score, [0.9**0.6 * 0.8**0.4], rtol=1e-5)
    assert found.label.tolist() == [2]


def test_yolov8_has_centres_and_sizes_in_pixels() -> None:
    columns = np.zeros((1, 7, 84), np.float32)
    columns[0, :, 5] = [30, 20, 10, 8, 0.1, 0.2, 0.7]
    found = decoded("yolov8", columns)
    np.testing.assert_allclose(found.xyxy, [[25, 16, 35, 24]])
    assert (found.score.tolist(), found.label.tolist()) == ([pytest.approx(0.7)], [2])


def test_ssd_counts_labels_from_one_and_orders_corners_y_first() -> None:
    boxes = np.array([[[0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]]], np.float32)
    found = decoded("ssd", boxes, np.array([[0.6, 0.9]], np.float32), np.array([[2, 7]], np.float32))
    np.testing.assert_allclose(found.xyxy, [[12.8, 6.4, 25.6, 19.2]], rtol=1e-5)
    assert found.label.tolist() == [1]  # 7 is no label of the table


def test_blazeface_moves_anchors_and_survives_huge_logits() -> None:
    """Anchor 2 of input 128: cell (1, 0) of stride 8, centre (12, 4)."""
    logits, rows = np.full((1, 896, 1), -1000, np.float32), np.zeros((1, 896, 16), np.float32)
    logits[0, 2], rows[0, 2, :4] = 1000, [8, 16, 20, 10]
    with np.errstate(over="raise"):
        found = decoded("blazeface", rows, logits, wanted=Wanted(("face",), 0.5, (128, 128)))
    np.testing.assert_allclose(found.xyxy, [[10, 15, 30, 25]])
    assert found.score.tolist() == [1]


@pytest.mark.parametrize("row", [[1.0, 3.0, 2.0], [0.1, 0.8, 0.1], [-5.0, 0.0, -5.0]])
def test_a_classifier_gives_the_best_label_with_a_probability(row: list[float]) -> None:
    found = decoded("classifier", np.array([row], np.float32), wanted=Wanted(("a", "b", "c"), 0.0, (64, 64)))
    assert found.label.tolist() == [1]
    assert 0 < found.score[0] <= 1
    assert found.xyxy.tolist() == [[0, 0, 640, 640]]


def test_boxes_come_back_in_the_pictures_pixels_cut_at_its_edge() -> None:
    columns = np.zeros((1, 7, 84), np.float32)
    columns[0, :, 0] = [32, 32, 40, 80, 0.9, 0, 0]
    found = decoded("yolov8", columns, box=Letterbox(0.5, 0.5, 0, 14, 128, 72))
    np.testing.assert_allclose(found.xyxy, [[24, 0, 104, 72]])


def test_only_labels_asked_for_are_kept() -> None:
    rows = np.zeros((1, 84, 8), np.float32)
    rows[0, 0] = [0, 0, 1, 1, 1.0, 0.95, 0.1, 0.6]
    assert decoded("yolox", rows).label.tolist() == [0]
    assert decoded("yolox", rows, wanted=Wanted(("a", "b", "c"), 0.5, (64, 64), np.array([2], np.int32))).label == [2]
    assert len(decoded("yolox", rows, wanted=Wanted(("a", "b", "c"), 0.5, (64, 64), np.array([1], np.int32)))) == 0


def test_of_boxes_that_overlap_the_surest_stays_each_label_for_itself() -> None:
    xyxy = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
    score, label = np.array([0.8, 0.9, 0.7, 0.6], np.float32), np.array([0, 0, 1, 0], np.int32)
    assert suppress(xyxy, score, label, max_iou=0.5, max_items=9).tolist() == [1, 2, 3]
    assert suppress(xyxy, score, label, max_iou=0.5, max_items=2).tolist() == [1, 2]
    assert suppress(xyxy[:0], score[:0], label[:0], max_iou=0.5, max_items=2).tolist() == []


def test_overlaps_are_suppressed_greedily_from_the_surest_on() -> None:
    """As the plain loop does it: whoever overlaps a kept box of its own label too much goes."""
    rng = np.random.default_rng(5)
    for n in (2, 7, 60):
        corner, size = rng.uniform(-20, 300, (n, 2)), rng.uniform(1, 80, (n, 2))
        xyxy = np.concatenate([corner, corner + size], 1).astype(np.float32)
        score, label = rng.choice([0.0, 0.2, 0.5, 0.9], n).astype(np.float32), rng.integers(0, 3, n).astype(np.int32)
        kept: list[int] = []
        for i in np.argsort(-score, kind="stable"):
            if all(label[i] != label[k] or iou(xyxy[i], xyxy[k]) <= 0.3 for k in kept):
                kept.append(int(i))
        assert suppress(xyxy, score, label, max_iou=0.3, max_items=99).tolist() == kept


def iou(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    width, height = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(max(0, width) * max(0, height))
    return common / (float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - common)


def test_a_score_stays_when_the_library_uses_its_memory_again() -> None:
    output = np.array([[0.1, 0.8, 0.1]], np.float32)
    (found,) = DECODERS["classifier"].decode(
        [output], [Letterbox(1, 1, 0, 0, 8, 8)], Wanted(("a", "b", "c"), 0.0, (8, 8))
    )
    output[:] = [[0.9, 0.05, 0.05]]
    assert found.score[0] == np.float32(0.8)
