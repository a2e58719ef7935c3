"""Files built of models: which there are, and which one a variant is loaded from.

A built file lies in the catalogue under ``backend/precision/height x width``, and only if what it finds was held
against its source. Networks that are no more than rewritten for another size or batch are built when first asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamapipe.catalog import Model, Precision, Variant
from llamapipe.errors import BackendError
from llamapipe.inference.assets import AssetStore
from llamapipe.inference.backends import BACKENDS, LoadRequest
from llamapipe.inference.catalogue import CatalogueStore, digest_of
from llamapipe.inference.decoders import DECODERS
from llamapipe.inference.models import FORMATS, local_file
from llamapipe.inference.registered import catalogue_root
from llamapipe.inference.rewriting import rewrite

__all__ = [
    "NetworkFile",
    "built_sizes",
    "check_by_value",
    "key_of",
    "network_file",
    "rewritten",
    "source_file",
    "written_anew",
]

_BATCHES = (1, 3)  # that a rewritten network is tried with
_NEAR = 1e-3  # of the largest output: what another order of additions may change


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """What a backend is to load."""

    path: Path
    format: str


def key_of(backend: str, precision: str, size: tuple[int, int]) -> str:
    """``onnxruntime/int8/416x416``: what a built file lies under in the catalogue. It takes any batch."""
    return f"{backend}/{precision}/{size[0]}x{size[1]}"


def built_sizes(model: str, backend: str, precision: str) -> list[tuple[int, int]]:
    """Input sizes that a file was built for."""
    root = catalogue_root()
    if not (root / "catalogue").is_dir():
        return []
    with CatalogueStore(root) as store:
        keys = store.artifacts(model)
    prefix = f"{backend}/{precision}/"
    sizes = [key.removeprefix(prefix).split("x") for key in keys if key.startswith(prefix)]
    return sorted((int(height), int(width)) for height, width in sizes)


def source_file(model: Model, assets: AssetStore) -> Path:
    """The network as it was published or registered, fetched if need be."""
    path = local_file(model.name)
    return assets.pull(model.files[0]) if path is None else path


def network_file(variant: Variant, model: Model, batch: int, assets: AssetStore) -> NetworkFile:
    """The file for a variant at a batch. Raises BackendError where it has to be built first, or cannot be."""
    if variant.precision == Precision.INT8:
        with CatalogueStore(assets.root) as store:
            path = store.artifact(model.name, key_of(variant.backend, variant.precision, variant.input_size))
        if path is None:
            raise BackendError(
                f"{variant.name} has not been built", hint=f"build it: llamapipe models build {model.name}"
            )
        return NetworkFile(path, FORMATS[path.suffix.lower()])
    if variant.backend == "onnxruntime" and _differs(variant, model, batch):
        return NetworkFile(rewritten(model, variant.input_size, assets), "onnx")
    return NetworkFile(source_file(model, assets), model.format)


def written_anew(variant: Variant, model: Model, file: NetworkFile, batch: int, assets: AssetStore) -> Path | None:
    """Another file to try where a backend could not change a network itself; None where there is none."""
    if file.format != "onnx" or variant.precision == Precision.INT8 or not _differs(variant, model, batch):
        return None
    path = rewritten(model, variant.input_size, assets)
    return None if path == file.path else path


def _differs(variant: Variant, model: Model, batch: int) -> bool:
    return model.format == "onnx" and (variant.input_size != model.input_sizes[0] or batch > 1)


def rewritten(model: Model, size: tuple[int, int], assets: AssetStore) -> Path:
    """An ONNX network for pictures of ``size`` and any batch; built, tried and kept if that has not been done yet.

    Raises BackendError where the network cannot be changed so, or would find something else.
    """
    source = source_file(model, assets)
    # Weights are part of what is written, so of its name: what was made of old ones must not be met by new ones.
    key = key_of("onnxruntime", f"{Precision.FP32}-{digest_of(source)[:12]}", size)
    with CatalogueStore(assets.root) as store:
        path = store.artifact(model.name, key)
        if path is not None:
            return path
        with store.workplace() as folder:
            made = folder / f"{source.stem}-{size[0]}x{size[1]}.onnx"
            wanted = DECODERS[model.decoder].preprocess
            rewrite(source, made, size=size, layout=wanted.layout)
            alone = source if size == model.input_sizes[0] else made
            check_by_value(alone, made, size=size, layout=wanted.layout, dtype=wanted.dtype)
            return store.add_artifact(model.name, key, made, digest_of(made))


def check_by_value(source: Path, made: Path, *, size: tuple[int, int], layout: str, dtype: str = "float32") -> None:
    """Raise BackendError unless ``made`` gives for each picture of a batch what ``source`` gives for it alone."""
    rng = np.random.default_rng(0)
    shape = (3, *size) if layout == "nchw" else (*size, 3)
    pictures = rng.uniform(0, 255, (max(_BATCHES), *shape)).astype(dtype)
    alone = [_run(source, pictures[i : i + 1], size, layout) for i in range(len(pictures))]
    for batch in _BATCHES:
        together = _run(made, pictures[:batch], size, layout)
        for number, output in enumerate(together):
            wanted = np.concatenate([outputs[number] for outputs in alone[:batch]])
            if output.shape != wanted.shape:
                raise BackendError(
                    f"{made.name} gives {output.shape} for {batch} pictures, expected {wanted.shape}",
                    hint="use the network's own input size with batch: 1",
                )
            far = float(np.abs(output - wanted).max())
            if not far <= _NEAR * float(np.abs(wanted).max()):
                raise BackendError(
                    f"{made.name} gives other values for {batch} pictures than for each alone, by up to {far:.3g}",
                    hint="use the network's own input size with batch: 1",
                )


def _run(path: Path, pictures: NDArray[Any], size: tuple[int, int], layout: str) -> list[NDArray[np.float32]]:
    network = BACKENDS["onnxruntime"].load(LoadRequest(path, "onnx", size, layout, len(pictures), "cpu", "fp32", 1))
    return [np.array(output) for output in network.request().infer(pictures)]
