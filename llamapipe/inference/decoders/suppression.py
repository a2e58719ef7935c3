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
    boxes = xyxy[order].astype(np.float32)
    # Labels are laid side by side, so that boxes of different ones never meet.
    boxes = boxes + (label[order].astype(np.float32) * (float(boxes.max()) - float(boxes.min()) + 1))[:, None]
    x1, y1, x2, y2 = boxes.T
    area = np.maximum(0, x2 - x1) * np.maximum(0, y2 - y1)
    kept: list[int] = []
    alive = np.arange(len(order))
    while len(alive) and len(kept) < max_items:
        first, rest = alive[0], alive[1:]
        kept.append(int(first))
        width = np.minimum(x2[first], x2[rest]) - np.maximum(x1[first], x1[rest])
        height = np.minimum(y2[first], y2[rest]) - np.maximum(y1[first], y1[rest])
        common = np.maximum(0, width) * np.maximum(0, height)
        alive = rest[common <= max_iou * (area[first] + area[rest] - common)]
    return order[kept]
