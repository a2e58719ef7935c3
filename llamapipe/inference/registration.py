"""Making the user's own network a model for good: checked by running it, copied into the catalogue, found by its name.

What can be found out is not asked; what cannot (task, decoder, labels) is held against what the network gives.
"""

from __future__ import annotations

import difflib
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llamapipe.catalog import Accuracy, AccuracyKind, Model
from llamapipe.data import Image
from llamapipe.errors import BackendError, DecoderError, UsageError
from llamapipe.inference.backends import BACKENDS, Backend, BackendStatus, LoadRequest, Network
from llamapipe.inference.catalogue import CatalogueStore, digest_of
from llamapipe.inference.decoders import DECODERS, Decoder, Wanted
from llamapipe.inference.exporting import TORCHVISION, export_module, torchvision_network
from llamapipe.inference.models import FORMATS, MODELS, TASKS, UNTOLD_SIZE, known_tasks, label_table, own_size
from llamapipe.inference.preprocess import new_tensor, placer

__all__ = ["parse_accuracy", "register"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TASK = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_USUAL_TASKS = ("image-classification",)  # that no ready model does
_DATASETS = {"coco_ap": "COCO val2017", "coco_ap50": "COCO val2017", "imagenet_top1": "ImageNet-1K"}
_WEIGHTS_ALONE = (".pt", ".pth", ".safetensors", ".h5", ".ckpt")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the user has said, as far as it could be checked without the network."""

    name: str | None
    tasks: tuple[str, ...]
    decoder: str | None
    labels: tuple[str, ...]
    accuracy: tuple[Accuracy, ...]
    input_size: tuple[int, int] | None
    licence: str
    description: str


def register(
    source: str | Path | Any,
    *,
    store: CatalogueStore,
    task: str | Sequence[str],
    decoder: str | None = None,
    labels: Any = None,
    accuracy: Sequence[Accuracy] = (),
    name: str | None = None,
    input_size: int | tuple[int, int] | None = None,
    calibration: Path | None = None,
    ground_truth: Path | None = None,
    pictures: Sequence[Image] = (),
    licence: str = "",
    description: str = "",
) -> Model:
    """Register a network for good. The same again changes nothing.

    ``source`` is a file, ``torchvision:NAME``, or a ``torch.nn.Module``. ``input_size`` (a side, or (height, width))
    has to be said where the file does not. ``labels`` is a list, ``coco``, or a file with one a line. ``calibration``
    and ``ground_truth`` are kept for whoever builds and judges variants. The network is run once on every one of
    ``pictures``.

    Raises UsageError where something is missing or does not fit the network, BackendError where no library here runs
    it, AssetError where it cannot be kept.
    """
    asked = _Asked(
        name,
        _tasks((task,) if isinstance(task, str) else tuple(task)),
        decoder,
        label_table(labels),
        tuple(accuracy),
        (input_size, input_size) if isinstance(input_size, int) else input_size,
        licence,
        description,
    )
    if name is not None and (not _NAME.fullmatch(name) or Path(name).suffix.lower() in FORMATS):
        raise UsageError(
            f"model name {name!r}: expected letters, digits, dots, dashes and underscores, and no file's suffix"
        )
    if isinstance(source, str | Path) and not str(source).startswith(TORCHVISION):
        return _keep(Path(source), asked, store, calibration, ground_truth, pictures)
    with tempfile.TemporaryDirectory(prefix="llamapipe-") as folder:
        if isinstance(source, str | Path):
            network = torchvision_network(str(source))
            asked = replace(
                asked,
                name=name or network.name,
                decoder=decoder or "classifier",
                labels=asked.labels or network.labels,
                accuracy=asked.accuracy or network.accuracy,
                input_size=asked.input_size or network.input_size,
            )
            module = network.load()
        else:
            module = source
        if asked.name is None or asked.input_size is None:
            raise UsageError(f"{type(module).__name__}: a module needs a name and an input size")
        path = export_module(module, asked.input_size, Path(folder) / f"{asked.name}.pt2")
        return _keep(path, asked, store, calibration, ground_truth, pictures)


def parse_accuracy(text: str) -> Accuracy:
    """``coco_ap=0.258``, or ``coco_ap=0.258@COCO val2017`` with the data set. Raises UsageError."""
    metric, equals, rest = text.partition("=")
    number, _, dataset = rest.partition("@")
    metric = metric.strip()
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not equals or not metric or not 0 <= value <= 1:
        raise UsageError(
            f"accuracy {text!r}: expected METRIC=VALUE with a value from 0 to 1",
            hint=f"write {metric}={value / 100:g}" if metric and 1 < value <= 100 else "for example coco_ap=0.258",
        )
    return Accuracy(metric, value, dataset.strip() or _DATASETS.get(metric, "unnamed"), AccuracyKind.PUBLISHED)


def _keep(
    path: Path,
    asked: _Asked,
    store: CatalogueStore,
    calibration: Path | None,
    ground_truth: Path | None,
    pictures: Sequence[Image],
) -> Model:
    format_ = _format(path)
    digest = digest_of(path)  # of what is looked at from here on: a file that changes meanwhile is not kept
    decoder = _decoder(asked.decoder, path)
    _check_labels(asked, decoder, path)
    size = asked.input_size
    if size is None and format_ in UNTOLD_SIZE:
        raise UsageError(f"model file {path} does not say its input size", hint="say which, for example 640")
    model = Model(
        asked.name or re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._") or "model",
        asked.tasks,
        decoder.name,
        asked.labels,
        format_,
        (),
        (size if size is not None else own_size(path, decoder.preprocess.layout),),
        accuracy=asked.accuracy,
        licence=asked.licence,
        description=asked.description,
    )
    if model.name in MODELS:
        raise UsageError(f"model name {model.name} is taken by a ready model", hint="give another name")
    kept = store.kept_model(model.name)
    if kept is None or kept.sha256 != digest:
        _check_network(path, model, decoder, pictures)
    return store.add_model(model, path, digest, calibration=calibration, ground_truth=ground_truth).model


def _tasks(tasks: tuple[str, ...]) -> tuple[str, ...]:
    """Any name may be a task; one that is nearly a known one is taken for a slip of the pen."""
    known = sorted({*known_tasks(), *_USUAL_TASKS})
    for task in tasks:
        if task in known:
            continue
        near = difflib.get_close_matches(task.lower(), known, n=1, cutoff=0.8)
        if near:
            raise UsageError(f"unknown task {task!r}", hint=f"did you mean {near[0]}?")
        if not _TASK.fullmatch(task):
            raise UsageError(f"task {task!r}: expected small letters, digits and dashes, such as helmet-detection")
    if not tasks:
        raise UsageError("no task is named", hint="for example person-detection")
    return tasks


def _format(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(
            f"model file {path}: expected {', '.join(FORMATS)}, got {suffix or 'no suffix'}",
            hint="weights alone are no network: write it with torch.export.save, or as ONNX"
            if suffix in _WEIGHTS_ALONE
            else None,
        )
    if not path.is_file():
        raise UsageError(f"model file {path} does not exist")
    if not path.stat().st_size:
        raise UsageError(f"model file {path} is empty")
    if suffix == ".xml" and not path.with_suffix(".bin").is_file():
        raise UsageError(f"model file {path}: its weights are missing", hint=f"expected {path.with_suffix('.bin')}")
    if suffix == ".onnx":
        _check_weights(path)
    return FORMATS[suffix]


def _check_weights(path: Path) -> None:
    """Weights outside an ONNX file are kept with it if they lie where exporters put them."""
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf's own
        raise UsageError(f"model file {path} is no ONNX network: {error}", hint="is it complete?") from error
    places = {
        entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"
    } - {f"{path.name}.data"}
    if places:
        raise UsageError(
            f"model file {path} has weights in {min(places)}, expected them inside or in {path.name}.data",
            hint="write it again as one file: onnx.save(onnx.load(FILE), FILE)",
        )


def _decoder(name: str | None, path: Path) -> Decoder:
    if name is not None and name in DECODERS:
        return DECODERS[name]
    near = difflib.get_close_matches(name or "", DECODERS, n=1)
    raise UsageError(
        f"model file {path}: expected a decoder, one of {', '.join(DECODERS)}, got {name or 'none'}",
        hint=f"did you mean {near[0]}?" if near else "say how its outputs are to be read, for example yolox",
    )


def _check_labels(asked: _Asked, decoder: Decoder, path: Path) -> None:
    table = asked.labels
    if not table:
        raise UsageError(f"model file {path}: its labels are missing", hint="a list, coco, or a file with one a line")
    twice = next((label for i, label in enumerate(table) if label in table[:i]), None)
    if twice is not None:
        raise UsageError(f"labels: {twice!r} is there twice", hint="one label a class, in the network's order")
    if decoder.name == "blazeface" and len(table) != 1:
        raise UsageError(f"labels: decoder blazeface finds one kind of thing, got {len(table)} labels")
    for task in asked.tasks:
        about = TASKS.get(task, ())
        if about and not set(about) & set(table):
            raise UsageError(
                f"labels: task {task} is about {', '.join(about)}, and none of the {len(table)} labels is",
                hint="labels are written as llamapipe's tasks have them; any other task may be named",
            )


def _check_network(path: Path, model: Model, decoder: Decoder, pictures: Sequence[Image]) -> None:
    """Run it as it will be run. Raises BackendError where nothing does, UsageError where outputs do not fit."""
    network = _loaded(path, model, decoder)
    given = list(pictures) or [Image.from_bgr((np.indices((480, 640, 3)).sum(0) % 256).astype(np.uint8))]
    tensor = new_tensor(decoder.preprocess, 1, model.input_sizes[0])
    place = placer(decoder.preprocess, model.input_sizes[0])
    wanted = Wanted(model.labels, decoder.default_min_score, model.input_sizes[0])
    request = network.request()
    for picture in given:
        box = place(picture, tensor[0])
        try:
            outputs = request.infer(tensor)
        except Exception as error:
            raise BackendError(f"{path.name} cannot be run: {str(error).strip().splitlines()[-1]}") from error
        _check_outputs([output.shape for output in outputs], model, decoder)
        if not all(np.isfinite(output).all() for output in outputs):
            raise BackendError(f"{path.name} gives numbers that are not finite", hint="is the file damaged?")
        if decoder.name == "ssd" and outputs[2].size and outputs[2].max() > len(model.labels):
            raise UsageError(
                f"labels: the network has at least {int(outputs[2].max())} classes, got {len(model.labels)} labels",
                hint="one label a class, in the network's order",
            )
        decoder.decode(outputs, [box], wanted)


def _loaded(path: Path, model: Model, decoder: Decoder) -> Network:
    """By the first library that can. Raises BackendError where none does."""
    refused: list[BackendError] = []
    missing: list[BackendStatus] = []
    for backend in BACKENDS.values():
        if model.format not in backend.formats:
            continue
        status = backend.status()
        if not status.available:
            missing.append(status)
            continue
        request = LoadRequest(
            path,
            model.format,
            model.input_sizes[0],
            decoder.preprocess.layout,
            1,
            status.devices[0],
            "fp32",
            1,
            decoder.output_names,
        )
        try:
            network = backend.load(request)
        except BackendError as error:
            _check_names(backend, request, model, error)
            refused.append(error)
            continue
        _check_outputs(network.output_shapes, model, decoder)
        return network
    if refused:
        hint = refused[0].hint if len(refused) == 1 else None
        raise BackendError(f"no library here runs it: {'; '.join(error.message for error in refused)}", hint=hint)
    reasons = "; ".join(f"{status.name} is not available: {status.reason}" for status in missing)
    hint = next((status.hint for status in missing if status.hint), None)
    raise BackendError(f"no library here runs {path.name}: {reasons}", hint=hint)


def _check_names(backend: Backend, request: LoadRequest, model: Model, refusal: BackendError) -> None:
    """Raises UsageError with a decoder that fits, if all that is wrong are the names of the outputs."""
    if not request.output_names:
        return
    try:
        shapes = backend.load(replace(request, output_names=())).output_shapes
    except BackendError:
        return  # it is something else
    fitting = _fitting(shapes, model.input_sizes[0])
    raise UsageError(
        f"decoder {model.decoder}: {refusal.message}",
        hint=f"its outputs look like {' or '.join(fitting)}" if fitting else "name the decoder that it was made for",
    ) from refusal


def _check_outputs(shapes: Sequence[Sequence[int]], model: Model, decoder: Decoder) -> None:
    """Raises UsageError that says whether it is the labels that do not fit, or which decoder would."""
    size, num = model.input_sizes[0], len(model.labels)
    try:
        decoder.check(shapes, batch=1, input_size=size, num_labels=num)
    except DecoderError as error:
        classes = _num_classes(shapes, decoder, size)
        if classes is not None:
            raise UsageError(
                f"labels: the network has {classes} classes, got {num} label{'s' if num != 1 else ''}",
                hint="one label a class, in the network's order",
            ) from error
        others = _fitting(shapes, size)
        raise UsageError(
            error.message, hint=f"its outputs look like {' or '.join(others)}" if others else error.hint
        ) from error


def _fitting(shapes: Sequence[Sequence[int]], size: tuple[int, int]) -> list[str]:
    """Decoders that could read outputs of these shapes."""
    return [decoder.name for decoder in DECODERS.values() if _num_classes(shapes, decoder, size) is not None]


def _num_classes(shapes: Sequence[Sequence[int]], decoder: Decoder, size: tuple[int, int]) -> int | None:
    """How many classes the decoder would take the outputs for; None where they are none of its own."""
    for num in sorted({n - extra for shape in shapes for n in shape for extra in (0, 4, 5) if n > extra}):
        try:
            decoder.check(shapes, batch=1, input_size=size, num_labels=num)
        except DecoderError:
            continue
        return num
    return None
