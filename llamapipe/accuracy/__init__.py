"""How right detections are."""

from llamapipe.accuracy.agreement import Agreement, agreement
from llamapipe.accuracy.matching import (
    PrecisionRecall,
    average_precision,
    average_precision_interval,
    best_f1,
    iou_matrix,
    match,
    precision_recall,
)

__all__ = [
    "Agreement",
    "PrecisionRecall",
    "agreement",
    "average_precision",
    "average_precision_interval",
    "best_f1",
    "iou_matrix",
    "match",
    "precision_recall",
]
