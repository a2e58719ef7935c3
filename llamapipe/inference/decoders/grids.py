"""Detectors that predict on a grid: YOLOX, FastestDet, YOLOv8."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Boxes
from llamapipe.inference.decoders.contract import Letterbox, Preprocess, Wanted, fits, refuse
from llamapipe.inference.decoders.suppression import suppress

__all__ = ["FastestDet", "YoloV8", "Yolox", "boxes_of"]


def boxes_of(
    xyxy: NDArray[np.float32],
    score: NDArray[np.float32],
    label: NDArray[np.int32],
    letterbox: Letterbox,
    wanted: Wanted,
) -> Boxes:
    """Candidates in the network's pixels as the picture's boxes, overlaps suppressed."""
    kept = suppress(xyxy, score, label, max_iou=wanted.max_iou, max_items=wanted.max_items)
    return Boxes(letterbox.to_picture(xyxy[kept]), score[kept], label[kept], wanted.names)


def _best(scores: NDArray[np.float32], wanted: Wanted) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Best score and its label per row of (n, labels)."""
    if wanted.labels is not None and len(wanted.labels) == 1:
        only = int(wanted.labels[0])
        return scores[:, only], np.full(len(scores), only, np.int32)
    if wanted.labels is not None:
        scores = scores[:, wanted.labels]
        best = scores.argmax(1)
        return scores[np.arange(len(scores)), best], wanted.labels[best]
    best = scores.argmax(1)
    return scores[np.arange(len(scores)), best], best.astype(np.int32)


@lru_cache(maxsize=32)
def _yolox_grid(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cell corners (n, 2) and strides (n, 1) of all rows."""
    cells: list[NDArray[np.float32]] = []
    strides: list[NDArray[np.float32]] = []
    for stride in (8, 16, 32):
        rows, columns = height // stride, width // stride
        y, x = np.mgrid[:rows, :columns]
        cells.append(np.stack([x, y], -1).reshape(-1, 2).astype(np.float32))
        strides.append(np.full((rows * columns, 1), stride, np.float32))
    return np.concatenate(cells), np.concatenate(strides)


class Yolox:
    """Rows over strides 8, 16, 32, not decoded: x, y, log w, log h, objectness, one score a label.

    Source: Ge et al., "YOLOX: Exceeding YOLO Series in 2021".
    """

    name = "yolox"
    preprocess = Preprocess("letterbox-topleft", "bgr", pad_value=114.0)
    output_names: tuple[str, ...] = ()
    default_min_score = 0.3

    def check(
        self, shapes: Sequence[Sequence[int]], *, batch: int, input_size: tuple[int, int], num_labels: int
    ) -> None:
        """See `Decoder.check`."""
        height, width = input_size
        rows = sum((height // s) * (width // s) for s in (8, 16, 32))
        expected = (batch, rows, 5 + num_labels)
        if len(shapes) != 1 or not fits(shapes[0], expected) or height % 32 or width % 32:
            raise refuse(self.name, f"one output of {batch}x{rows}x{5 + num_labels} for input {height}x{width}", shapes)

    def decode(
        self, outputs: Sequence[NDArray[np.float32]], letterboxes: Sequence[Letterbox], wanted: Wanted
    ) -> list[Boxes]:
        """See `Decoder.decode`."""
        return [self._one(rows, box, wanted) for rows, box in zip(outputs[0], letterboxes, strict=False)]

    def _one(self, rows: NDArray[np.float32], letterbox: Letterbox, wanted: Wanted) -> Boxes:
        found = np.flatnonzero(rows[:, 4] >= wanted.min_score)  # no score is above its objectness
        if not len(found):
            return Boxes.empty(wanted.names)
        candidates = rows[found]
        score, label = _best(candidates[:, 5:], wanted)
        score = score * candidates[:, 4]
        sure = score >= wanted.min_score
        if not sure.any():
            return Boxes.empty(wanted.names)
        cells, strides = _yolox_grid(*wanted.input_size)
        found, candidates, score, label = found[sure], candidates[sure], score[sure], label[sure]
        stride = strides[found]
        centre = (candidates[:, :2] + cells[found]) * stride
        half = np.exp(candidates[:, 2:4]) * stride / 2
        return boxes_of(np.concatenate([centre - half, centre + half], 1), score, label, letterbox, wanted)


class FastestDet:
    """One map of objectness, four box values and label probabilities, 16 pixels a cell.

    Source: the network's own repository, github.com/dog-qiuqiu/FastestDet.
    """

    name = "fastestdet"
    preprocess = Preprocess("stretch", "bgr", scale=1 / 255)
    output_names: tuple[str, ...] = ()
    default_min_score = 0.5

    def check(
        self, shapes: Sequence[Sequence[int]], *, batch: int, input_size: tuple[int, int], num_labels: int
    ) -> None:
        """See `Decoder.check`."""
        rows, columns = input_size[0] // 16, input_size[1] // 16
        if len(shapes) != 1 or not fits(shapes[0], (batch, 5 + num_labels, rows, columns)):
            raise refuse(self.name, f"one output of {batch}x{5 + num_labels}x{rows}x{columns}", shapes)

    def decode(
        self, outputs: Sequence[NDArray[np.float32]], letterboxes: Sequence[Letterbox], wanted: Wanted
    ) -> list[Boxes]:
        """See `Decoder.decode`."""
        return [self._one(maps, box, wanted) for maps, box in zip(outputs[0], letterboxes, strict=False)]

    def _one(self, maps: NDArray[np.float32], letterbox: Letterbox, wanted: Wanted) -> Boxes:
        rows, columns = maps.shape[1:]
        objectness = maps[0].reshape(-1)
        # score = obj^0.6 * cls^0.4 and cls <= 1, so a cell below min_score^(1/0.6) cannot pass
        found = np.flatnonzero(objectness >= wanted.min_score ** (1 / 0.6))
        candidates = maps.reshape(maps.shape[0], -1)[:, found].T
        best, label = _best(candidates[:, 5:], wanted)
        score = (candidates[:, 0] ** 0.6 * best**0.4).astype(np.float32)
        sure = score >= wanted.min_score
        candidates, found, score, label = candidates[sure], found[sure], score[sure], label[sure]
        height, width = wanted.input_size
        size = np.array([width, height], np.float32)
        cell = np.stack([found % columns, found // columns], 1).astype(np.float32)
        centre = (np.tanh(candidates[:, 1:3]) + cell) / np.array([columns, rows], np.float32) * size
        half = size / 2 / (1 + np.exp(-candidates[:, 3:5]))
        xyxy = np.concatenate([centre - half, centre + half], 1).astype(np.float32)
        return boxes_of(xyxy, score, label, letterbox, wanted)


class YoloV8:
    """Columns of centre x, centre y, width, height and one score a label, in pixels of the input."""

    name = "yolov8"
    preprocess = Preprocess("letterbox-center", "rgb", scale=1 / 255, pad_value=114.0)
    output_names: tuple[str, ...] = ()
    default_min_score = 0.25

    def check(
        self, shapes: Sequence[Sequence[int]], *, batch: int, input_size: tuple[int, int], num_labels: int
    ) -> None:
        """See `Decoder.check`."""
        height, width = input_size
        columns = sum((height // s) * (width // s) for s in (8, 16, 32))
        if len(shapes) != 1 or not fits(shapes[0], (batch, 4 + num_labels, columns)):
            raise refuse(self.name, f"one output of {batch}x{4 + num_labels}x{columns} for {height}x{width}", shapes)

    def decode(
        self, outputs: Sequence[NDArray[np.float32]], letterboxes: Sequence[Letterbox], wanted: Wanted
    ) -> list[Boxes]:
        """See `Decoder.decode`."""
        return [self._one(columns.T, box, wanted) for columns, box in zip(outputs[0], letterboxes, strict=False)]

    def _one(self, rows: NDArray[np.float32], letterbox: Letterbox, wanted: Wanted) -> Boxes:
        score, label = _best(rows[:, 4:], wanted)
        found = np.flatnonzero(score >= wanted.min_score)
        centre, half = rows[found, :2], rows[found, 2:4] / 2
        xyxy = np.concatenate([centre - half, centre + half], 1)
        return boxes_of(xyxy, score[found], label[found], letterbox, wanted)
