"""MTCNN's arithmetic with networks that say what they are told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamapipe.catalog import Variant
from llamapipe.data import Image
from llamapipe.errors import DecoderError
from llamapipe.inference.cascade import CASCADE_SIDES, Cascade, check_cascade, prepare_cascade

Answer = Callable[[NDArray[np.generic]], Sequence[NDArray[np.float32]]]


class Net:
    """A network and its only request."""

    def __init__(self, answer: Answer, *shapes: Sequence[int]) -> None:
        self.infer: Answer = answer
        self.output_shapes = shapes
        self.given: list[tuple[int, ...]] = []

    def request(self) -> Any:
        return self


def one_cell(tensor: NDArray[np.generic]) -> Sequence[NDArray[np.float32]]:
    """Sure of column 5, row 2 of the largest level alone; tensors are (n, width, height, 3)."""
    columns, rows = (tensor.shape[1] - 12) // 2 + 1, (tensor.shape[2] - 12) // 2 + 1
    heat = np.zeros((1, columns, rows, 2), np.float32)
    if columns > 5 and rows > 2 and tensor.shape[1] >= 60:
        heat[0, 5, 2, 1] = 0.9
    return np.zeros((1, columns, rows, 4), np.float32), heat


def sure(score: float, *, points: bool) -> Answer:
    def answer(tensor: NDArray[np.generic]) -> Sequence[NDArray[np.float32]]:
        n = len(tensor)
        scores = np.tile(np.array([1 - score, score], np.float32), (n, 1))
        return [np.zeros((n, 4), np.float32), *([np.zeros((n, 10), np.float32)] if points else []), scores]

    return answer


def cascade(nets: Sequence[Net], **more: Any) -> Cascade:
    closed: list[int] = []
    made = Cascade(
        Variant("mtcnn", "onnxruntime", "cpu", "fp32", (640, 640)),
        nets,
        names=("face",),
        min_score=more.get("min_score"),
        load_s=0.0,
        release=lambda: closed.append(1),
    )
    made.close()
    made.close()
    assert closed == [1]
    return made


SHAPES = (((-1, -1, -1, 4), (-1, -1, -1, 2)), ((-1, 4), (-1, 2)), ((-1, 4), (-1, 10), (-1, 2)))


def nets(last: float) -> list[Net]:
    answers = (one_cell, sure(0.95, points=False), sure(last, points=True))
    return [Net(answer, *shapes) for answer, shapes in zip(answers, SHAPES, strict=True)]


def test_a_cell_comes_back_as_the_square_that_it_stands_for() -> None:
    """Scale 0.6: cell (5, 2) of stride 2 is pixels 11/0.6 to 22/0.6 across, 5/0.6 to 16/0.6 down, cut to integers."""
    picture = Image.from_bgr(np.zeros((60, 100, 3), np.uint8))
    (found,) = cascade(nets(0.9)).predict([picture])
    assert found.xyxy.tolist() == [[18, 8, 36, 26]]
    assert found.score.tolist() == [pytest.approx(0.9)]


def test_faces_that_the_last_network_doubts_are_dropped() -> None:
    picture = Image.from_bgr(np.zeros((60, 100, 3), np.uint8))
    assert len(cascade(nets(0.6)).predict([picture])[0]) == 0
    assert len(cascade(nets(0.6), min_score=0.5).predict([picture])[0]) == 1


@pytest.mark.parametrize("size", [(1, 1), (19, 300), (300, 5)])
def test_pictures_smaller_than_a_face_have_none(size: tuple[int, int]) -> None:
    picture = Image.from_bgr(np.zeros((*size, 3), np.uint8))
    assert len(cascade(nets(0.9)).predict([picture])[0]) == 0


def test_networks_in_another_order_are_refused() -> None:
    check_cascade(nets(0.9))
    with pytest.raises(DecoderError, match="P-Net of mtcnn"):
        check_cascade(nets(0.9)[::-1])


def test_networks_are_given_numbers_of_crops_that_they_were_prepared_for() -> None:
    """However many squares there are, a library meets no shape that it has not seen before the first picture."""
    prepared = nets(0.9)
    for net in prepared:
        answer = net.infer

        def noting(tensor: NDArray[np.generic], net: Net = net, answer: Answer = answer) -> Any:
            net.given.append(tensor.shape)
            return answer(tensor)

        net.infer = noting
    prepare_cascade(prepared)
    seen = [set(net.given) for net in prepared]
    found = cascade(prepared)
    for number in (1, 3, 4, 5, 100, 384):
        squares = np.tile(np.array([[2, 2, 30, 30]], np.float32), (number, 1)) + np.arange(number)[:, None] * 40
        found._refine(np.zeros((60, 100, 3), np.uint8), squares.astype(np.float32))
    for net, side, before in zip(prepared[1:], CASCADE_SIDES[1:], seen[1:], strict=True):
        assert set(net.given) == before
        assert {shape[1:] for shape in before} == {(side, side, 3)}
    assert not prepared[0].given
