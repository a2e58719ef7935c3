"""Whether a variant does what it is a variant of: what it finds in real pictures, against what its source finds there.

Numbers inside a network say little: an int8 network with outputs far from its source's may find the same boxes, and one
with outputs close to them lose the small ones. So what is compared is what users get: boxes with labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import msgspec
import numpy as np

from llamapipe.accuracy import Agreement, agreement, average_precision, precision_recall
from llamapipe.catalog import AccuracyFigure, AccuracyKind, Variant
from llamapipe.data import Boxes, Image
from llamapipe.inference.assets import AssetStore
from llamapipe.inference.built import NetworkFile
from llamapipe.inference.cascade import CASCADE, DEFAULT_MIN_SCORE
from llamapipe.inference.decoders import DECODERS
from llamapipe.inference.models import model_named, task_labels
from llamapipe.inference.predictor import load_predictor
from llamapipe.inference.verdicts import digest_of_pictures

__all__ = [
    "GOOD_AGREEMENT",
    "LEAST_AGREEMENT",
    "LEAST_AGREEMENT_OF_SIZES",
    "LEAST_BOXES",
    "Findings",
    "Pictures",
    "best_of",
    "judge",
]

LEAST_AGREEMENT = 0.8
"""F1 with the source at the same input size; below, a variant is rejected. Above, users say what is right enough."""

GOOD_AGREEMENT = 0.9
"""F1 from which on a network is not built more carefully still."""

LEAST_AGREEMENT_OF_SIZES = 0.5
"""F1 between two input sizes of a model, which do find different things: below, changing the size has broken it."""

LEAST_BOXES = 10
"""That the source has to find for its variants to be judged at all."""

_LOWEST_SCORE = 0.05  # from here on boxes count for average precision
_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Pictures:
    """What variants are compared on. ``truths``, one a picture, where somebody has labelled them."""

    name: str  # for people: "sample:bikes"
    images: Sequence[Image]
    truths: Sequence[Boxes] | None = None


class Findings:
    """What variants find in the same pictures; every variant looks once, whatever its threads."""

    def __init__(self, pictures: Pictures, assets: AssetStore, *, seed: int = 0) -> None:
        self.pictures = pictures
        self._assets = assets
        self._seed = seed
        self._found: dict[tuple[Variant, str], list[Boxes]] = {}
        self.digest = digest_of_pictures(pictures.images)

    def settle(self, variant: Variant, file: NetworkFile | None) -> None:
        """Of the files tried for a variant this one is kept; None: none is."""
        mine = {
            path: self._found.pop((_alone(variant), path)) for key, path in list(self._found) if key == _alone(variant)
        }
        if file is not None and str(file.path) in mine:
            self._found[_alone(variant), ""] = mine[str(file.path)]

    def recall(self, variant: Variant, boxes: Sequence[Boxes]) -> None:
        """What a variant found in these very pictures an earlier time, of every score that counts."""
        self._found.setdefault((_alone(variant), ""), list(boxes))

    def boxes(self, variant: Variant, *, file: NetworkFile | None = None, every_score: bool = False) -> list[Boxes]:
        """Boxes of each picture, those that users would see or all. Raises what `load_predictor` raises."""
        key = (_alone(variant), "" if file is None else str(file.path))
        if key not in self._found:
            self._found[key] = self._look(key[0], file)
        found = self._found[key]
        least = _default_min_score(variant.model)
        return found if every_score else [_kept(boxes, boxes.score >= least) for boxes in found]

    def agreement(
        self, variant: Variant, reference: Variant, *, file: NetworkFile | None = None, labels: Sequence[str] = ()
    ) -> Agreement:
        """How far the two find the same; of ``labels`` alone, empty: all."""
        mine = [_labelled(boxes, labels) for boxes in self.boxes(variant, file=file)]
        wanted = [_labelled(boxes, labels) for boxes in self.boxes(reference)]
        return agreement(mine, wanted, rng=np.random.default_rng(self._seed), min_iou=_IOU)

    def measured(self, variant: Variant, labels: Sequence[str], *, file: NetworkFile | None = None) -> float | None:
        """Mean over labels (empty: all) of average precision at IoU 0.5; None where nothing is labelled so."""
        if self.pictures.truths is None:
            return None
        figures: list[float] = []
        found = self.boxes(variant, file=file, every_score=True)
        named = sorted({boxes.names[i] for boxes in self.pictures.truths for i in boxes.label})
        for label in named:
            if labels and label not in labels:
                continue
            frames: list[tuple[Any, Any, Any]] = []
            for boxes, truth in zip(found, self.pictures.truths, strict=True):
                mine, true = _labelled(boxes, (label,)), _labelled(truth, (label,))
                frames.append((mine.xyxy, mine.score, true.xyxy))
            figures.append(average_precision(precision_recall(frames, _IOU)))
        return float(np.mean(figures)) if figures else None

    def _look(self, variant: Variant, file: NetworkFile | None) -> list[Boxes]:
        least = min(_LOWEST_SCORE, _default_min_score(variant.model))
        predictor = load_predictor(variant, min_score=least, assets=self._assets, file=file)
        try:
            return [predictor.predict([image])[0] for image in self.pictures.images]
        finally:
            predictor.close()


def judge(found: Agreement, reference: Variant, least: float) -> str:
    """Why a variant with this agreement is rejected; empty where it is not."""
    if found.num_reference < LEAST_BOXES:
        return (
            f"cannot be judged: {reference.name} finds {found.num_reference} boxes in {found.num_frames} pictures, "
            f"at least {LEAST_BOXES} are needed; give a video of what it is to find: --calibrate"
        )
    if not found.f1 >= least:
        return f"finds something else than {reference.name}: {found}, at least {least:g} is needed"
    return ""


def best_of(variants: Sequence[Variant], findings: Findings, labels: Sequence[str]) -> Variant:
    """The variant that others are held against: the most right one, where pictures are labelled.

    Elsewhere nothing says which is right, but models err each in their own way: that one is taken, in fp32 at its
    model's own input size, which the other models agree with most; in doubt the one of the preferred model, the first.
    """
    measured = [findings.measured(variant, labels) for variant in variants]
    if any(figure is not None for figure in measured):
        return variants[int(np.argmax([figure or 0.0 for figure in measured]))]
    own: dict[str, Variant] = {}
    for variant in variants:
        if variant.precision == "fp32" and variant.input_size == model_named(variant.model).input_sizes[0]:
            own.setdefault(variant.model, variant)
    candidates = list(own.values()) or list(variants[:1])

    def consent(variant: Variant) -> float:
        figures = [findings.agreement(other, variant, labels=labels).f1 for other in candidates if other != variant]
        known = [figure for figure in figures if not isnan(figure)]
        return float(np.mean(known)) if known else 0.0

    return max(candidates, key=consent)


def figures_of(variant: Variant, reference: Variant, task: str, findings: Findings) -> list[AccuracyFigure]:
    """Agreement with the best variant of a task, and average precision where pictures are labelled."""
    labels, dataset = task_labels(task), findings.pictures.name
    found = findings.agreement(variant, reference, labels=labels)
    figures: list[AccuracyFigure] = []
    if not isnan(found.f1):
        kind = AccuracyKind.AGREEMENT.value
        figures.append(AccuracyFigure("agreement", found.f1, dataset, kind, found.low, found.high, task))
    measured = findings.measured(variant, labels)
    if measured is not None and not isnan(measured):
        figures.append(AccuracyFigure("ap50", measured, dataset, AccuracyKind.MEASURED.value, task=task))
    return figures


def _alone(variant: Variant) -> Variant:
    return msgspec.structs.replace(variant, threads=1)


def _default_min_score(model: str) -> float:
    decoder = model_named(model).decoder
    return DEFAULT_MIN_SCORE if decoder == CASCADE else DECODERS[decoder].default_min_score


def _labelled(boxes: Boxes, labels: Sequence[str]) -> Boxes:
    if not labels:
        return boxes
    wanted = [i for i, name in enumerate(boxes.names) if name in labels]
    return _kept(boxes, np.isin(boxes.label, wanted))


def _kept(boxes: Boxes, mask: Any) -> Boxes:
    return boxes if mask.all() else Boxes(boxes.xyxy[mask], boxes.score[mask], boxes.label[mask], boxes.names)
