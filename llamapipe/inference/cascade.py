"""MTCNN: three networks, each looking closer at what the one before let through.

Source: Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", 2016.
Notation: boxes (n, 4) are left, top, right, bottom in pixels of the (shrunk) picture; offsets (n, 4) are shares of a
box's width and height. The networks are fed transposed pictures, (n, width, height, 3), RGB, about -1 to 1: that is
how they were trained.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamapipe.catalog import Variant
from llamapipe.data import Boxes, Image
from llamapipe.errors import DecoderError
from llamapipe.inference.backends import Network
from llamapipe.inference.decoders import suppress

__all__ = ["CASCADE", "CASCADE_SIDES", "Cascade", "check_cascade", "prepare_cascade"]

CASCADE = "mtcnn"
"""What the catalogue has as the decoder of such a model."""

CASCADE_SIDES = (0, 24, 48)
"""Side of each network's input, pixels; 0: a picture of any size."""

_CELL, _STRIDE = 12, 2  # of the first network, pixels
_MIN_FACE = 20  # pixels; smaller faces are not looked for
_PYRAMID = 0.709  # each level has half the pixels of the one before
_SCORES = (0.6, 0.7)  # to get past the first and the second network
DEFAULT_MIN_SCORE = 0.7
_MOST_CANDIDATES = 384  # given to the second network, which bounds the time that a picture can take
# Numbers of crops that the second and third network are given. Libraries prepare for every shape when it first comes,
# which takes longer than computing it: with any number let through, the first hundreds of pictures would be slow.
_COUNTS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, _MOST_CANDIDATES)

Floats = NDArray[np.float32]


def check_cascade(networks: Sequence[Network]) -> None:
    """Raise DecoderError unless the networks give what P-Net, R-Net and O-Net do."""
    expected = (((4, 4), (4, 2)), ((2, 4), (2, 2)), ((2, 4), (2, 10), (2, 2)))  # (number of axes, size of the last)
    for name, network, wanted in zip(("P-Net", "R-Net", "O-Net"), networks, expected, strict=True):
        got = [(len(shape), shape[-1]) for shape in network.output_shapes]
        if len(got) != len(wanted) or any(g != w for g, w in zip(got, wanted, strict=True)):
            shapes = ", ".join("x".join(str(n) for n in shape) for shape in network.output_shapes)
            raise DecoderError(f"{name} of mtcnn: expected outputs that end in {wanted}, the network gives {shapes}")


def prepare_cascade(networks: Sequence[Network]) -> None:
    """Have the library prepare for every number of crops, so that no picture waits for it."""
    for network, side in zip(networks[1:], CASCADE_SIDES[1:], strict=True):
        request = network.request()
        for count in _COUNTS:
            request.infer(np.zeros((count, side, side, 3), np.float32))


class Cascade:
    """See `llamapipe.operator.Predictor`. Used by one thread."""

    def __init__(
        self,
        variant: Variant,
        networks: Sequence[Network],
        *,
        names: Sequence[str],
        min_score: float | None,
        load_s: float,
        release: Callable[[], None],
    ) -> None:
        self.variant = variant
        self.load_s = load_s
        self.names: Sequence[str] = tuple(names)
        self._requests = [network.request() for network in networks]
        self._min_score = DEFAULT_MIN_SCORE if min_score is None else min_score
        self._release = release
        self._closed = False

    def predict(self, images: Sequence[Image]) -> list[Boxes]:
        """See `llamapipe.operator.Predictor.predict`."""
        return [self._one(image) for image in images]

    def close(self) -> None:
        """Let go of the networks; the last user frees them. May be called twice."""
        if not self._closed:
            self._closed = True
            self._release()

    def _one(self, image: Image) -> Boxes:
        import cv2

        height, width = self.variant.input_size
        shrink = min(1.0, width / image.width, height / image.height)
        pixels = cv2.cvtColor(image.bgr, cv2.COLOR_BGR2RGB)
        if shrink < 1:
            size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        boxes = self._propose(pixels)
        boxes = self._refine(pixels, boxes)
        boxes, score = self._finish(pixels, boxes)
        scale = np.array([image.width / pixels.shape[1], image.height / pixels.shape[0]] * 2, np.float32)
        limit = np.array([image.width, image.height] * 2, np.float32)
        label = np.zeros(len(score), np.int32)
        return Boxes(np.clip(boxes * scale, 0, limit).astype(np.float32), score, label, self.names)

    def _propose(self, pixels: NDArray[np.uint8]) -> Floats:
        """P-Net over a pyramid of the picture: squares that may hold a face."""
        import cv2

        found: list[Floats] = [np.empty((0, 4), np.float32)]
        scores: list[Floats] = [np.empty(0, np.float32)]
        scale = _CELL / _MIN_FACE
        while min(pixels.shape[:2]) * scale >= _CELL:
            size = (int(np.ceil(pixels.shape[1] * scale)), int(np.ceil(pixels.shape[0] * scale)))
            small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            offsets, heat = self._requests[0].infer(_tensor(small[None]))
            column, row = np.nonzero(heat[0, :, :, 1] >= _SCORES[0])
            score = heat[0, column, row, 1].astype(np.float32)
            cell = np.stack([column, row], 1).astype(np.float32) * _STRIDE
            corners = np.concatenate([np.fix((cell + 1) / scale), np.fix((cell + _CELL) / scale)], 1)
            moved = _moved(corners.astype(np.float32), offsets[0, column, row])
            kept = _suppress(corners.astype(np.float32), score, 0.5)
            found.append(moved[kept])
            scores.append(score[kept])
            scale *= _PYRAMID
        boxes, score = np.concatenate(found), np.concatenate(scores)
        return _squares(boxes[_suppress(boxes, score, 0.7)][:_MOST_CANDIDATES])

    def _refine(self, pixels: NDArray[np.uint8], boxes: Floats) -> Floats:
        """R-Net: fewer and better squares."""
        if not len(boxes):
            return boxes
        offsets, sure = self._infer(1, pixels, boxes)
        passed = np.flatnonzero(sure[:, 1] > _SCORES[1])
        kept = passed[_suppress(boxes[passed], sure[passed, 1], 0.7)]
        return _squares(_moved(boxes[kept], offsets[kept]))

    def _finish(self, pixels: NDArray[np.uint8], boxes: Floats) -> tuple[Floats, Floats]:
        """O-Net: faces and their scores, best first."""
        if not len(boxes):
            return boxes, np.empty(0, np.float32)
        offsets, _, sure = self._infer(2, pixels, boxes)
        passed = np.flatnonzero(sure[:, 1] >= self._min_score)
        moved, score = _moved(boxes[passed], offsets[passed]), np.array(sure[passed, 1], np.float32)
        kept = _suppress_nested(moved, score, 0.7)
        return moved[kept], score[kept]

    def _infer(self, stage: int, pixels: NDArray[np.uint8], boxes: Floats) -> list[Floats]:
        """What the second (1) or third network (2) says of the squares."""
        tensor = _crops(pixels, boxes, CASCADE_SIDES[stage])
        return [output[: len(boxes)] for output in self._requests[stage].infer(tensor)]


def _tensor(pictures: NDArray[np.uint8]) -> Floats:
    """Pictures (n, height, width, 3) as a network takes them."""
    turned = (pictures.transpose(0, 2, 1, 3).astype(np.float32) - 127.5) * 0.0078125
    return np.ascontiguousarray(turned)


def _crops(pixels: NDArray[np.uint8], boxes: Floats, side: int) -> Floats:
    """Squares of the picture, black where they reach over its edge, as a network takes them; then black ones up to
    the next of the numbers that it is prepared for.
    """
    import cv2

    height, width = pixels.shape[:2]
    crops = np.zeros((_COUNTS[bisect_left(_COUNTS, len(boxes))], side, side, 3), np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(np.fix(boxes).astype(int)):
        w, h = max(1, x2 - x1 + 1), max(1, y2 - y1 + 1)
        part = np.zeros((h, w, 3), np.uint8)
        left, top, right, bottom = max(0, x1 - 1), max(0, y1 - 1), min(width, x1 - 1 + w), min(height, y1 - 1 + h)
        if left < right and top < bottom:
            part[top - y1 + 1 : bottom - y1 + 1, left - x1 + 1 : right - x1 + 1] = pixels[top:bottom, left:right]
            crops[i] = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA)
    return _tensor(crops)


def _moved(boxes: Floats, offsets: NDArray[Any]) -> Floats:
    size = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved: Floats = (boxes + offsets * size).astype(np.float32)
    return moved


def _squares(boxes: Floats) -> Floats:
    """Squares around the boxes' centres, as large as their longer sides."""
    size = boxes[:, 2:] - boxes[:, :2]
    centre, half = boxes[:, :2] + size / 2, size.max(1, keepdims=True) / 2 if len(boxes) else size / 2
    return np.concatenate([centre - half, centre + half], 1).astype(np.float32)


def _suppress(boxes: Floats, score: NDArray[Any], max_iou: float) -> NDArray[np.intp]:
    return suppress(
        boxes, np.asarray(score), np.zeros(len(score), np.int32), max_iou=max_iou, max_items=max(1, len(score))
    )


def _suppress_nested(boxes: Floats, score: Floats, max_share: float) -> NDArray[np.intp]:
    """As `suppress`, by the share of the smaller box that is covered: a face inside a face goes."""
    kept: list[int] = []
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for i in np.argsort(-score, kind="stable"):
        size = np.minimum(boxes[i, 2:], boxes[kept, 2:]) - np.maximum(boxes[i, :2], boxes[kept, :2])
        common = np.prod(np.maximum(size, 0), axis=1)
        if not (common > max_share * np.minimum(area[i], area[kept])).any():
            kept.append(int(i))
    return np.array(kept, np.intp)
