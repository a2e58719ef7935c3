"""``llamapipe eval``: detections against ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llamapipe.cli.options import Json, Quiet, Verbose, terminal_of
from llamapipe.errors import UsageError

__all__ = ["evaluate"]


def evaluate(
    ctx: typer.Context,
    detections: Annotated[
        Path, typer.Argument(metavar="DETECTIONS", help="detections.jsonl, its folder, MOTChallenge text or COCO JSON.")
    ],
    ground_truth: Annotated[Path, typer.Argument(metavar="GROUND_TRUTH", help="MOTChallenge gt.txt or COCO JSON.")],
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="STAGE", help="Whose boxes, where there are several; else detect.")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="LABEL", help="Only boxes of this label.")] = None,
    iou: Annotated[
        str, typer.Option("--iou", metavar="IOU,...", help="IoU thresholds of AP; coco stands for 0.5, 0.55 ... 0.95.")
    ] = "0.5",
    every: Annotated[int, typer.Option("--every", metavar="N", min=1, help="Only frames 0, N, 2N, ...")] = 1,
    min_score: Annotated[float, typer.Option("--min-score", metavar="SCORE", help="Leave out boxes below.")] = 0.0,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Compare detections with ground truth: AP by IoU, F1, and MOTA and IDF1 where there are tracks.

    llamapipe eval out/detections.jsonl gt.txt --stage detect
    """
    from dataclasses import asdict

    from llamapipe.session.scoring import evaluate as compare

    terminal = terminal_of(ctx)
    if detections.is_dir():
        detections = detections / "detections.jsonl"
    result = compare(
        detections, ground_truth, stage=stage, label=label, ious=_ious(iou), every=every, min_score=min_score
    )
    if json:
        terminal.json(asdict(result))
        return
    rows = [(f"AP@{threshold}", f"{value:.4f}") for threshold, value in result.ap.items()]
    if len(result.ap) > 1:
        rows.append(("AP, mean", f"{sum(result.ap.values()) / len(result.ap):.4f}"))
    if len(result.ap_by_label) > 1:
        first = next(iter(result.ap))
        rows += [(f"AP@{first} {name}", f"{value:.4f}") for name, value in result.ap_by_label.items()]
    rows.append(("F1", f"{result.f1:.4f} at score {result.best_score:.3f}"))
    rows.append(("precision, recall", f"{result.precision:.4f}, {result.recall:.4f}"))
    names = {"mota": "MOTA", "idf1": "IDF1", "switches": "id switches"}
    rows += [
        (names[key], f"{value:g}" if key == "switches" else f"{value:.4f}") for key, value in result.tracking.items()
    ]
    terminal.table(("metric", "value"), rows)
    terminal.note(f"{result.frames} frames, {result.truths} truths, {result.detections} detections")
    if not result.detections or not result.truths:
        what = "detections" if result.truths else "truths"
        terminal.warning(f"there are no {what} on these frames", "is it the right file, --stage, --label, --min-score?")
    if result.tracking_note:
        terminal.detail(f"no MOTA and IDF1: {result.tracking_note}")


def _ious(text: str) -> list[float]:
    if text == "coco":
        return [0.5 + 0.05 * i for i in range(10)]
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or any(not 0 < value <= 1 for value in values):
        raise UsageError(
            f"--iou {text}: expected numbers above 0 and up to 1, or coco", hint="for example: --iou 0.5,0.75"
        )
    return values
