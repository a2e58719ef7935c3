"""A model: architecture and weights for a task, with what was published of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Accuracy", "AccuracyKind", "Model"]


class AccuracyKind(StrEnum):
    """Where a figure comes from. Figures of different kinds are never compared."""

    PUBLISHED = "published"
    MEASURED = "measured"  # AP against labels
    AGREEMENT = "agreement"  # F1 against a reference configuration on this video


@dataclass(frozen=True, slots=True)
class Accuracy:
    """One accuracy figure with its metric, data set and interval (low, high), all in 0..1."""

    metric: str  # "coco_ap", "coco_ap50", "imagenet_top1", "f1"
    value: float
    dataset: str
    kind: AccuracyKind
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model as the asset list or the user names it."""

    name: str
    tasks: tuple[str, ...]  # "person-detection", "object-detection", "face-detection", ...
    decoder: str  # how its outputs become boxes: "yolox", "fastestdet", "ssd", "blazeface", "mtcnn", ...
    labels: tuple[str, ...]  # its label table, in class order
    format: str  # "onnx", "tflite", "tf-graph", "openvino-ir", "torchscript", "torch-export"
    files: tuple[str, ...]  # asset names; several for a cascade
    input_sizes: tuple[tuple[int, int], ...]  # (height, width), the published one first
    accuracy: tuple[Accuracy, ...] = ()
    licence: str = ""
    description: str = ""
