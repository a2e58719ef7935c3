"""Which models there are, and the user's own."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llamapipe.catalog import Accuracy, AccuracyKind, Model
from llamapipe.errors import UsageError
from llamapipe.inference.backends.untold import openvino
from llamapipe.inference.cascade import CASCADE
from llamapipe.inference.catalogue import digest_of
from llamapipe.inference.decoders import DECODERS
from llamapipe.inference.registered import registered_models

__all__ = [
    "COCO",
    "FORMATS",
    "MODELS",
    "TASKS",
    "UNTOLD_SIZE",
    "all_models",
    "find_models",
    "is_given_file",
    "known_tasks",
    "label_table",
    "local_file",
    "model_named",
    "own_size",
    "register_file",
    "registered_files",
    "task_labels",
]

COCO = (
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
)
"""Labels of the COCO data set in the order of its 80 classes (Lin et al., 2014)."""

TASKS: Mapping[str, tuple[str, ...]] = {
    "person-detection": ("person",),
    "face-detection": ("face",),
    "vehicle-detection": ("car", "truck", "bus", "motorcycle", "bicycle"),
    "object-detection": (),
}
"""Tasks, and the labels that one is about; empty: all that the model knows."""


def _published(metric: str, value: float) -> tuple[Accuracy, ...]:
    return (Accuracy(metric, value, "COCO val2017", AccuracyKind.PUBLISHED),)


def _blazeface(name: str, file: str, side: int, description: str) -> Model:
    return Model(
        name,
        ("face-detection",),
        "blazeface",
        ("face",),
        "tflite",
        (file,),
        ((side, side),),
        licence="Apache-2.0",
        description=description,
    )


_COCO_TASKS = ("object-detection", "person-detection", "vehicle-detection")

MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model(
            "pedestrian-ssdlite",
            ("person-detection",),
            "ssd",
            ("person",),
            "tf-graph",
            ("frozen_inference_graph.pb",),
            ((300, 300),),
            licence="MIT",
            description="SSDLite on MobileNetV2, people alone",
        ),
        Model(
            "yolox-nano",
            _COCO_TASKS,
            "yolox",
            COCO,
            "onnx",
            ("yolox_nano.onnx",),
            ((416, 416), (256, 256), (320, 320), (512, 512), (640, 640)),
            accuracy=_published("coco_ap", 0.258),
            licence="Apache-2.0",
            description="YOLOX-nano, 80 kinds of objects",
        ),
        Model(
            "fastestdet",
            _COCO_TASKS,
            "fastestdet",
            COCO,
            "onnx",
            ("FastestDet.onnx",),
            ((352, 352),),
            accuracy=_published("coco_ap50", 0.253),
            licence="BSD-3-Clause",
            description="FastestDet, 80 kinds of objects, four times as fast as YOLOX-nano and less sure",
        ),
        _blazeface(
            "blazeface-full-sparse",
            "face_detection_full_range_sparse.tflite",
            192,
            "faces up to five metres away, pruned for CPUs",
        ),
        _blazeface("blazeface-full", "face_detection_full_range.tflite", 192, "faces up to five metres away"),
        _blazeface("blazeface-short", "face_detection_short_range.tflite", 128, "faces near the camera"),
        _blazeface("blazeface-back", "face_detection_back.tflite", 256, "faces before a phone's back camera"),
        Model(
            "mtcnn",
            ("face-detection",),
            CASCADE,
            ("face",),
            "onnx",
            ("pnet.onnx", "rnet.onnx", "onet.onnx"),
            # Larger pictures are shrunk to fit, smaller ones stay as they are.
            ((640, 640), (320, 320), (480, 480), (1280, 1280)),
            licence="MIT",
            description="faces of 20 pixels and more anywhere in a wide picture, by three networks one after the other",
        ),
    )
}
"""Ready models by name; the order is the order of preference within a task."""

FORMATS: Mapping[str, str] = {
    ".onnx": "onnx",
    ".tflite": "tflite",
    ".pb": "tf-graph",
    ".xml": "openvino-ir",
    ".pt2": "torch-export",
    ".torchscript": "torchscript",
    ".engine": "tensorrt-engine",
    ".plan": "tensorrt-engine",
}
"""Formats of networks by the suffix of their files."""

UNTOLD_SIZE = frozenset({"torch-export", "torchscript", "tensorrt-engine"})
"""Formats whose files do not tell the input size, or only to a machine with a GPU."""


@dataclass(frozen=True, slots=True)
class _Local:
    model: Model
    path: Path


_LOCAL: dict[str, _Local] = {}


def all_models() -> Mapping[str, Model]:
    """Ready models and those that the catalogue keeps, by name, in order of preference."""
    registered = {name: kept.model for name, kept in registered_models().items() if name not in MODELS}
    return {**MODELS, **registered}


def known_tasks() -> tuple[str, ...]:
    """Every task that a model does."""
    return tuple(sorted({task for model in all_models().values() for task in model.tasks} | set(TASKS)))


def find_models(task: str) -> list[Model]:
    """Models for a task, the preferred one first: ready ones, then registered ones.

    Raises UsageError for a task that none does.
    """
    found = [model for model in all_models().values() if task in model.tasks]
    if not found:
        near = difflib.get_close_matches(task.lower(), known_tasks(), n=1)
        raise UsageError(
            f"unknown task {task!r}: expected one of {', '.join(known_tasks())}",
            hint=f"did you mean {near[0]}?" if near else "see: llamapipe models list",
        )
    return found


def task_labels(task: str | None) -> tuple[str, ...]:
    """Labels that a task is about; empty: all."""
    return TASKS.get(task or "", ())


def model_named(name: str) -> Model:
    """A ready model, a registered one, or one that a pipeline gave a file of. Raises UsageError."""
    if name in _LOCAL:
        return _LOCAL[name].model
    if name in MODELS:
        return MODELS[name]
    known = all_models()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name.lower(), known, n=1)
    raise UsageError(
        f"unknown model {name!r}: expected the path of a network or one of {', '.join(known)}",
        hint=f"did you mean {near[0]}?" if near else "see: llamapipe models list",
    )


def local_file(name: str) -> Path | None:
    """The file of a model that is no asset: the catalogue's copy, or the file that a pipeline gave."""
    if name in _LOCAL:
        return _LOCAL[name].path
    if name in MODELS:
        return None
    kept = registered_models().get(name)
    return kept.file if kept is not None else None


def is_given_file(name: str) -> bool:
    """Whether a pipeline gave the model as a file, with its decoder and labels."""
    return name in _LOCAL


def register_file(
    path: Path, *, decoder: str | None, labels: Sequence[str], input_size: tuple[int, int] | None
) -> Model:
    """Make the user's own network a model. Raises UsageError where something about it has to be said."""
    if not path.is_file():
        raise UsageError(f"model file {path} does not exist")
    format_ = FORMATS.get(path.suffix.lower())
    if format_ is None:
        raise UsageError(f"model file {path}: expected {', '.join(FORMATS)}, got {path.suffix or 'no suffix'}")
    if decoder is None or decoder not in DECODERS:
        raise UsageError(
            f"model file {path}: expected a decoder, one of {', '.join(DECODERS)}, got {decoder or 'none'}",
            hint="say how its outputs are to be read, for example decoder: yolox",
        )
    if not labels:
        raise UsageError(
            f"model file {path}: its labels are missing", hint="for example labels: [person, car], or labels: coco"
        )
    if input_size is None and format_ in UNTOLD_SIZE:
        raise UsageError(
            f"model file {path} does not say its input size", hint="say which, for example input_size: 640"
        )
    if input_size is None:
        input_size = own_size(path, DECODERS[decoder].preprocess.layout)
    digest = digest_of(path)[:8]
    model = Model(f"{path.stem}-{digest}", (), decoder, tuple(labels), format_, (), (input_size,))
    _LOCAL[model.name] = _Local(model, path)
    return model


def registered_files() -> tuple[tuple[str, str, tuple[str, ...], tuple[int, int]], ...]:
    """What `register_file` was told: (file, decoder, labels, input size), for another process to be told too."""
    return tuple(
        (str(local.path.resolve()), local.model.decoder, local.model.labels, local.model.input_sizes[0])
        for local in _LOCAL.values()
    )


def label_table(labels: object) -> tuple[str, ...]:
    """Labels as users give them: a list, ``coco``, or the path of a file with one a line. Raises UsageError."""
    if labels is None:
        return ()
    if not isinstance(labels, str):
        if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
            raise UsageError(f"labels: expected a list of texts, got {labels!r}", hint="for example labels: [person]")
        return tuple(labels)
    if labels == "coco":
        return COCO
    path = Path(labels)
    if path.suffix != ".txt" and not path.is_file():
        return (labels,)
    try:
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except OSError as error:
        raise UsageError(f"label file {path} cannot be read: {(error.strerror or str(error)).lower()}") from error


def own_size(path: Path, layout: str) -> tuple[int, int]:
    """(height, width) that the network was exported with. Raises UsageError where its file does not say."""
    try:
        shape = openvino().Core().read_model(str(path)).inputs[0].partial_shape
    except (RuntimeError, IndexError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UsageError(f"model file {path} cannot be read: {reason}", hint="is it complete?") from error
    if shape.rank.is_dynamic or shape.rank.get_length() != 4:
        raise UsageError(
            f"model file {path}: expected an input of 4 dimensions (pictures), got {shape}",
            hint="a network that takes something else than pictures cannot be used",
        )
    sides = (shape[2], shape[3]) if layout == "nchw" else (shape[1], shape[2])
    if any(side.is_dynamic for side in sides):
        raise UsageError(
            f"model file {path} takes any input size",
            hint="say which: input_size: 640 in a pipeline, --input-size 640 when it is registered",
        )
    return sides[0].get_length(), sides[1].get_length()
