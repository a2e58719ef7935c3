"""The first variant that honours everything asked for."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llamapipe.catalog import Model, Precision, Variant
from llamapipe.errors import UsageError
from llamapipe.inference.backends import BACKENDS, Backend
from llamapipe.inference.built import built_sizes
from llamapipe.inference.cascade import CASCADE
from llamapipe.inference.models import FORMATS, find_models, local_file, model_named, register_file

__all__ = ["choose_variant", "required_assets"]

_PREFERRED = {"onnx": ("onnxruntime", "openvino")}  # measured: benchmarks/variants.py
_PREFERRED_ON_CUDA = {"onnx": ("tensorrt", "onnxruntime")}


def choose_variant(
    *,
    task: str | None = None,
    model: str | None = None,
    backend: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    input_size: Any = None,
    threads: int | None = None,
    decoder: str | None = None,
    labels: Sequence[str] | None = None,
    batch: int = 1,
) -> Variant:
    """Pick by what was asked. ``input_size`` is a side or (height, width); ``model`` may be a network's path.

    Raises UsageError that names the constraint which cannot be honoured and what can be had.
    """
    if task is None and model is None:
        raise UsageError("neither a task nor a model is named", hint="for example task: person-detection")
    size = _size(input_size)
    chosen = _model(task, model, decoder, labels or (), size)
    if size is None:
        size = chosen.input_sizes[0]
    wanted_precision = precision or Precision.FP32.value
    wanted_device = device or "cpu"
    names = [backend] if backend is not None else _readers(chosen.format, wanted_device)
    refusals: list[str] = []
    if backend is None:  # what runs the network as it is before what needs another one made of it
        names.sort(key=lambda name: name == "onnxruntime" and (size != chosen.input_sizes[0] or batch > 1))
    for name in names:
        library = _backend(name)
        refusal = _refusal(library, chosen, wanted_device, wanted_precision, size, batch)
        if refusal is None:
            return Variant(chosen.name, name, wanted_device, wanted_precision, size, threads or 1)
        refusals.append(f"{name}: {refusal}")
    raise UsageError(f"model {chosen.name} cannot be had as asked; " + "; ".join(refusals))


def required_assets(variant: Variant) -> tuple[str, ...]:
    """Assets that the variant is loaded from."""
    return model_named(variant.model).files


def _size(input_size: Any) -> tuple[int, int] | None:
    if input_size is None:
        return None
    if isinstance(input_size, int):
        return input_size, input_size
    height, width = input_size
    return int(height), int(width)


def _model(
    task: str | None, name: str | None, decoder: str | None, labels: Sequence[str], size: tuple[int, int] | None
) -> Model:
    if name is None:
        assert task is not None
        return find_models(task)[0]
    if local_file(name) is None and (Path(name).suffix.lower() in FORMATS or "/" in name):
        return register_file(Path(name), decoder=decoder, labels=labels, input_size=size)
    model = model_named(name)
    if task is not None and model.tasks and task not in model.tasks:
        fitting = [candidate.name for candidate in find_models(task)]
        raise UsageError(
            f"model {name} does {', '.join(model.tasks)}, asked was {task}", hint=f"for {task}: {', '.join(fitting)}"
        )
    return model


def _readers(format_: str, device: str) -> list[str]:
    """Backends worth trying for a format, the preferred one first; those that cannot read it are left out."""
    preferred = (_PREFERRED_ON_CUDA if device.startswith("cuda") else _PREFERRED).get(format_)
    if preferred is not None:
        return list(preferred)
    return [name for name, library in BACKENDS.items() if format_ in library.formats]


def _backend(name: str) -> Backend:
    try:
        return BACKENDS[name]
    except KeyError:
        near = difflib.get_close_matches(name, BACKENDS, n=1)
        raise UsageError(
            f"unknown backend {name!r}: expected one of {', '.join(BACKENDS)}",
            hint=f"did you mean {near[0]}?" if near else None,
        ) from None


def _refusal(
    library: Backend, model: Model, device: str, precision: str, size: tuple[int, int], batch: int
) -> str | None:
    """Why the backend cannot, or None."""
    if model.format not in library.formats:
        return f"reads {', '.join(sorted(library.formats))}, the model is {model.format}"
    status = library.status()
    if not status.available:
        return f"not available here: {status.reason}" + (f" ({status.hint})" if status.hint else "")
    if device not in status.devices:
        return f"has devices {', '.join(status.devices)}, asked was {device}"
    precisions = library.precisions(device)
    if precision not in precisions:
        return f"computes in {', '.join(sorted(precisions))} on {device}, asked was {precision}"
    if size not in model.input_sizes:
        known = ", ".join(f"{height}x{width}" for height, width in sorted(model.input_sizes))
        return f"has input sizes {known}, asked was {size[0]}x{size[1]}"
    if model.decoder == CASCADE:
        if precision == Precision.INT8:
            return "is built in int8 for single networks only"
        return "looks at one picture at a time: use batch: 1" if batch > 1 else None
    if precision == Precision.INT8:
        sizes = built_sizes(model.name, library.name, precision)
        if size not in sizes:
            built = ", ".join(f"{height}x{width}" for height, width in sizes)
            return f"has int8 built for {built or 'no input size'}, build it: llamapipe models build {model.name}"
    return None
