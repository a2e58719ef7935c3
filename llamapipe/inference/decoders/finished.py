"""Networks that give finished answers: TensorFlow's SSD, classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Boxes, Classes
from llamapipe.inference.decoders.contract import Letterbox, Preprocess, Wanted, fits, refuse

__all__ = ["Classifier", "Ssd"]


class Ssd:
    """TensorFlow's object detection: boxes (y1, x1, y2, x2 as shares), scores, classes from 1, and how many."""

    name = "ssd"
    preprocess = Preprocess("stretch", "rgb", layout="nhwc", dtype="uint8")
    output_names: tuple[str, ...] = ("detection_boxes", "detection_scores", "detection_classes")
    default_min_score = 0.4

    def check(
        self, shapes: Sequence[Sequence[int]], *, batch: int, input_size: tuple[int, int], num_labels: int
    ) -> None:
        """See `Decoder.check`."""
        expected = ((batch, -1, 4), (batch, -1), (batch, -1))
        right = len(shapes) == 3 and all(
            len(shape) == len(want) and all(n == m or -1 in (n, m) for n, m in zip(shape, want, strict=True))
            for shape, want in zip(shapes, expected, strict=True)
        )
        if not right:
            raise refuse(self.name, f"boxes of {batch}xNx4, scores of {batch}xN and classes of {batch}xN", shapes)

    def decode(
        self, outputs: Sequence[NDArray[np.float32]], letterboxes: Sequence[Letterbox], wanted: Wanted
    ) -> list[Boxes]:
        """See `Decoder.decode`."""
        boxes, scores, classes = outputs[0], outputs[1], outputs[2]
        return [
            self._one(boxes[i], scores[i], classes[i], letterbox, wanted) for i, letterbox in enumerate(letterboxes)
        ]

    def _one(
        self,
        boxes: NDArray[np.float32],
        score: NDArray[np.float32],
        classes: NDArray[np.float32],
        letterbox: Letterbox,
        wanted: Wanted,
    ) -> Boxes:
        label = classes.astype(np.int32) - 1
        keep = (score >= wanted.min_score) & (label >= 0) & (label < len(wanted.names))
        if wanted.labels is not None:
            keep &= np.isin(label, wanted.labels)
        found = np.flatnonzero(keep)
        found = found[np.argsort(-score[found], kind="stable")][: wanted.max_items]
        height, width = wanted.input_size
        xyxy = boxes[found][:, [1, 0, 3, 2]] * np.array([width, height, width, height], np.float32)
        return Boxes(letterbox.to_picture(xyxy), score[found], label[found], wanted.names)


class Classifier:
    """One row of scores a picture; logits are turned into probabilities."""

    name = "classifier"
    preprocess = Preprocess("stretch", "rgb", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    output_names: tuple[str, ...] = ()
    default_min_score = 0.0

    def check(
        self, shapes: Sequence[Sequence[int]], *, batch: int, input_size: tuple[int, int], num_labels: int
    ) -> None:
        """See `Decoder.check`."""
        if len(shapes) != 1 or not fits(shapes[0], (batch, num_labels)):
            raise refuse(self.name, f"one output of {batch}x{num_labels}", shapes)

    def decode(
        self, outputs: Sequence[NDArray[np.float32]], letterboxes: Sequence[Letterbox], wanted: Wanted
    ) -> list[Boxes]:
        """See `Decoder.decode`: `Classes` of at most one entry, its box the whole picture."""
        return [self._one(row, box, wanted) for row, box in zip(outputs[0], letterboxes, strict=False)]

    def _one(self, row: NDArray[np.float32], letterbox: Letterbox, wanted: Wanted) -> Boxes:
        if (row < 0).any() or abs(float(row.sum()) - 1) > 1e-3:
            exponent = np.exp(row - row.max())
            row = exponent / exponent.sum()
        if wanted.labels is not None:
            label = int(wanted.labels[row[wanted.labels].argmax()])
        else:
            label = int(row.argmax())
        if row[label] < wanted.min_score:
            return Classes.empty(wanted.names)
        box = np.array([[0, 0, letterbox.width, letterbox.height]], np.float32)
        return Classes(box, row[label : label + 1].copy(), np.array([label], np.int32), wanted.names)
