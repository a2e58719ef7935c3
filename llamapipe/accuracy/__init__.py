"""How right detections are."""

from llamapipe.accuracy.matching import (
    PrecisionRecall,
    average_precision,
    best_f1,
    iou_matrix,
    match,
    precision_recall,
)

__all__ = ["PrecisionRecall", "average_precision", "best_f1", "iou_matrix", "match", "precision_recall"]
