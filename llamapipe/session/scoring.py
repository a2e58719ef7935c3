"""Detections against ground truth: AP, F1, and for tracks MOTA and IDF1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llamapipe.accuracy import average_precision, best_f1, iou_matrix, precision_recall
from llamapipe.errors import UsageError
from llamapipe.session.labelled import Row, read_detections, read_truths

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures in 0..1. ``ap`` is by IoU threshold; precision, recall and F1 are at IoU 0.5 and the best score.

    Where both files have labels, a box only counts for a truth of its label, and ``ap`` is the mean over the labels
    that the truth has.
    """

    frames: int
    truths: int
    detections: int
    ap: dict[str, float]
    ap_by_label: dict[str, float]  # at the first threshold; empty where labels do not count
    f1: float
    precision: float
    recall: float
    best_score: float
    tracking: dict[str, float] = field(default_factory=dict)  # mota, idf1, switches; empty without tracks
    tracking_note: str = ""  # why it is empty


def evaluate(
    detections: Path,
    ground_truth: Path,
    *,
    stage: str | None = None,
    label: str | None = None,
    ious: Sequence[float] = (0.5,),
    every: int = 1,
    min_score: float = 0.0,
) -> Evaluation:
    """Compare a stage's detections with the truth, on labelled frames 0, every, 2 * every, ...

    ``label`` takes only boxes of that label where a file has labels. Raises UsageError for files that are neither
    detections.jsonl, MOTChallenge text nor COCO JSON.
    """
    truths, labelled, images = read_truths(ground_truth)
    found, looked_at = read_detections(detections, stage, images)
    frames = sorted(frame for frame in labelled if frame % every == 0)
    if not frames:
        raise UsageError(f"{ground_truth} labels none of the frames asked for", hint="try --every 1")
    if looked_at is not None:
        missing = [frame for frame in frames if frame not in looked_at]
        if len(missing) == len(frames):
            raise UsageError(f"{detections} has none of the frames that {ground_truth} labels")
        frames = [frame for frame in frames if frame in looked_at]
    found = [row for row in found if row.score >= min_score and (label is None or row.label in (label, ""))]
    truths = [row for row in truths if label is None or row.label in (label, "")]
    found_in, truths_in = _by_frame(found), _by_frame(truths)
    by_frame = [(found_in.get(frame, []), truths_in.get(frame, [])) for frame in frames]
    labels = _labels([row for mine, _ in by_frame for row in mine], [row for _, true in by_frame for row in true])
    parts = {name: _arrays(by_frame, name) for name in labels}
    aps = {
        f"{iou:g}": {name: average_precision(precision_recall(part, iou)) for name, part in parts.items()}
        for iou in ious
    }
    f1, precision, recall, score = best_f1(precision_recall([one for part in parts.values() for one in part], 0.5))
    tracking, note = _tracking(by_frame, every)
    return Evaluation(
        frames=len(frames),
        truths=sum(len(true) for _, true in by_frame),
        detections=sum(len(mine) for mine, _ in by_frame),
        ap={iou: float(np.mean(list(by_label.values()))) for iou, by_label in aps.items()},
        ap_by_label=next(iter(aps.values())) if labels != [""] else {},
        f1=f1,
        precision=precision,
        recall=recall,
        best_score=score,
        tracking=tracking,
        tracking_note=note,
    )


def _by_frame(rows: Sequence[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row.frame, []).append(row)
    return found


def _labels(found: Sequence[Row], truths: Sequence[Row]) -> list[str]:
    """Labels to be judged each for itself; one empty one where a file has none."""
    if not truths or not all(row.label for row in (*found, *truths)):
        return [""]
    return sorted({row.label for row in truths})


def _arrays(frames: Sequence[tuple[list[Row], list[Row]]], label: str) -> list[tuple[Any, Any, Any]]:
    """Per frame boxes, scores and true boxes of a label; empty: of all."""
    return [
        (_boxes(mine), np.array([row.score for row in mine]), _boxes(true))
        for mine, true in (([row for row in side if label in ("", row.label)] for side in frame) for frame in frames)
    ]


def _boxes(rows: Sequence[Row]) -> Any:
    return np.array([row.box for row in rows], float).reshape(-1, 4)


def _tracking(frames: Sequence[tuple[list[Row], list[Row]]], every: int) -> tuple[dict[str, float], str]:
    """CLEAR-MOT (Bernardin and Stiefelhagen, 2008) and identity metrics (Ristani et al., 2016), IoU 0.5."""
    if not any(row.track_id >= 0 for mine, _ in frames for row in mine):
        return {}, "the detections have no track ids"
    if not any(row.track_id >= 0 for _, true in frames for row in true):
        return {}, "the ground truth has no track ids"
    if every != 1:
        return {}, "tracks are only judged on every frame"
    try:
        import motmetrics
    except ImportError:
        return {}, "motmetrics is not installed: pip install 'llamapipe[metrics]'"
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for mine, true in frames:
        followed = [row for row in mine if row.track_id >= 0]
        distance = 1 - iou_matrix(_boxes(true), _boxes(followed))
        distance[distance > 0.5] = np.nan
        accumulator.update([row.track_id for row in true], [row.track_id for row in followed], distance)
    figures = motmetrics.metrics.create().compute(accumulator, metrics=["mota", "idf1", "num_switches"], name="run")
    row = figures.iloc[0]
    return {"mota": float(row["mota"]), "idf1": float(row["idf1"]), "switches": float(row["num_switches"])}, ""
