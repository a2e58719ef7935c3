"""Which detection is which truth: intersection over union, greedy matching, average precision, F1.

Notation: n detections, m truths; boxes are (left, top, right, bottom) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PrecisionRecall",
    "average_precision",
    "average_precision_interval",
    "best_f1",
    "iou_matrix",
    "match",
    "precision_recall",
]

Array = NDArray[np.floating]


def iou_matrix(a: Array, b: Array) -> NDArray[np.float64]:
    """Intersection over union of boxes a (n, 4) with boxes b (m, 4), as (n, m)."""
    a, b = np.asarray(a, float).reshape(-1, 4), np.asarray(b, float).reshape(-1, 4)
    size = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    common = np.prod(np.maximum(size, 0), axis=2)
    area_a, area_b = (np.prod(np.maximum(box[:, 2:] - box[:, :2], 0), axis=1) for box in (a, b))
    union = area_a[:, None] + area_b[None, :] - common
    iou: NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return iou


def match(boxes: Array, scores: Array, truths: Array, min_iou: float) -> NDArray[np.bool_]:
    """Per detection (n,) whether it is a truth's: the surest first, each takes the free truth it overlaps most."""
    hits = np.zeros(len(scores), bool)
    if not len(scores) or not len(truths):
        return hits
    overlap = iou_matrix(boxes, truths)
    free = np.ones(overlap.shape[1], bool)
    for i in np.argsort(-np.asarray(scores), kind="stable"):
        candidates = np.where(free, overlap[i], -1.0)
        best = int(candidates.argmax())
        if candidates[best] >= min_iou:
            free[best] = False
            hits[i] = True
    return hits


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Precision and recall (k,) as the score threshold falls through ``score`` (k,), for ``num_truths`` truths."""

    score: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    num_truths: int


def precision_recall(frames: Sequence[tuple[Array, Array, Array]], min_iou: float) -> PrecisionRecall:
    """The curve over frames of (boxes (n, 4), scores (n,), truths (m, 4))."""
    hits = [match(boxes, score, truths, min_iou) for boxes, score, truths in frames]
    return _curve(
        [np.asarray(score, float) for _, score, _ in frames], hits, sum(len(truths) for _, _, truths in frames)
    )


def _curve(scores: Sequence[Array], hits: Sequence[NDArray[np.bool_]], num_truths: int) -> PrecisionRecall:
    score: NDArray[np.float64] = np.concatenate(scores).astype(float) if scores else np.empty(0)
    hit = np.concatenate(hits) if hits else np.empty(0, bool)
    order = np.argsort(-score, kind="stable")
    right = np.cumsum(hit[order])
    counted = np.arange(1, len(order) + 1)
    return PrecisionRecall(score[order], right / counted, right / max(1, num_truths), num_truths)


def average_precision(curve: PrecisionRecall) -> float:
    """Area under the precision envelope, every point of recall counted (Everingham et al., PASCAL VOC 2010)."""
    if not curve.num_truths:
        return float("nan")
    envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return float(np.sum(np.diff(np.concatenate([[0.0], curve.recall])) * envelope))


def average_precision_interval(
    frames: Sequence[tuple[Array, Array, Array]], min_iou: float, *, rng: np.random.Generator, resamples: int = 200
) -> tuple[float, float, float]:
    """(AP, low, high): the ends hold 95 % of bootstraps over frames. Frames as in `precision_recall`; nan without."""
    scores = [np.asarray(score, float) for _, score, _ in frames]
    hits = [match(boxes, score, truths, min_iou) for boxes, score, truths in frames]
    numbers = np.array([len(truths) for _, _, truths in frames], int)
    value = average_precision(_curve(scores, hits, int(numbers.sum())))
    drawn: list[float] = []
    for _ in range(resamples if len(frames) else 0):
        picked = rng.integers(0, len(frames), len(frames))
        curve = _curve([scores[i] for i in picked], [hits[i] for i in picked], int(numbers[picked].sum()))
        drawn.append(average_precision(curve))
    known = [ap for ap in drawn if ap == ap]
    if not known:
        return value, value, value
    low, high = np.quantile(known, [0.025, 0.975])
    return value, min(value, float(low)), max(value, float(high))


def best_f1(curve: PrecisionRecall) -> tuple[float, float, float, float]:
    """(F1, precision, recall, score threshold) where F1 is highest; zeros without any detection."""
    if not len(curve.score):
        return 0.0, 0.0, 0.0, 0.0
    total = curve.precision + curve.recall
    f1 = np.divide(2 * curve.precision * curve.recall, total, out=np.zeros_like(total), where=total > 0)
    best = int(f1.argmax())
    return float(f1[best]), float(curve.precision[best]), float(curve.recall[best]), float(curve.score[best])
