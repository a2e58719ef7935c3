"""Non-maximum suppression: of boxes that overlap, the surest stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["suppress"]

_MOST_CANDIDATES = 1000


def suppress(
    xyxy: NDArray[np.float32],
    score: NDArray[np.float32],
    label: NDArray[np.int32],
    *,
    max_iou: float,
    max_items: int,
) -> NDArray[np.intp]:
    """Indices of the boxes kept, best first: greedily, each label for itself.

    ``xyxy`` (n, 4), ``score`` (n,), ``label`` (n,). At most the best 1000 candidates are looked at.
    """
    order = np.argsort(-score, kind="stable")[:_MOST_CANDIDATES]
    if len(order) <= 1:
        return order
    import cv2

    boxes = xyxy[order].astype(np.float64)
    # Labels are laid side by side, so that boxes of different ones never meet.
    boxes += (label[order] * (boxes.max() - boxes.min() + 1))[:, None]
    boxes[:, 2:] = np.maximum(0, boxes[:, 2:] - boxes[:, :2])  # width and height
    # They are in order already: for OpenCV, which would leave out scores of 0, their place is their score.
    kept = np.asarray(cv2.dnn.NMSBoxes(boxes.tolist(), list(range(len(order), 0, -1)), 0.0, max_iou), np.intp)
    return order[kept[:max_items]]
