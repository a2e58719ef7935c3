"""How much boxes overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["distinct", "iou"]


def distinct(xyxy: NDArray[np.float32], score: NDArray[np.float32], max_iou: float) -> NDArray[np.bool_]:
    """Mask (n,) of the boxes that no better one covers by more than ``max_iou``, whatever their labels."""
    overlap = iou(xyxy, xyxy)
    keep = np.ones(len(xyxy), bool)
    for i in np.argsort(-score, kind="stable").tolist():
        if keep[i]:
            others = overlap[i] > max_iou
            others[i] = False
            keep &= ~others
    return keep


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of boxes a (n, 4) with boxes b (m, 4), as (n, m)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inside = np.prod(np.clip(high - low, 0, None), axis=2)
    area_a = np.prod(np.clip(a[:, 2:] - a[:, :2], 0, None), axis=1)
    area_b = np.prod(np.clip(b[:, 2:] - b[:, :2], 0, None), axis=1)
    union = area_a[:, None] + area_b[None, :] - inside
    share: NDArray[np.float32] = np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)
    return share
