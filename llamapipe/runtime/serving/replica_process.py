"""``python -m llamapipe.runtime.serving.replica_process``: a replica. Started by the server, of no use by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from llamapipe.catalog import Variant
from llamapipe.clock import SystemClock, system_env
from llamapipe.inference import BACKENDS, AssetStore, load_predictor, model_named, register_file, use_catalogue
from llamapipe.operator import Predictor
from llamapipe.runtime.process import read_boot
from llamapipe.runtime.serving.replica import LoadVariant, ReplicaBoot, serve_replica

__all__ = ["loader", "main", "prepare"]

_COMMON = ("onnxruntime", "openvino")  # torch takes seconds and a gigabyte: whoever needs it waits


def loader(assets: AssetStore) -> LoadVariant:
    """What loads variants of ready and registered models."""
    return partial(_load, assets)


def _load(
    assets: AssetStore, variant: Variant, batch: int, labels: tuple[str, ...], min_score: float | None
) -> Predictor:
    # Of a task's labels, those that this model knows; where it knows none of them, loading says so.
    known = model_named(variant.model).labels
    labels = tuple(label for label in labels if label in known) or labels
    return load_predictor(variant, batch=batch, labels=labels, min_score=min_score, assets=assets, keep=True)


def prepare() -> None:
    """Import what replicas on this machine may need."""
    import cv2  # noqa: F401  # decoders and pictures

    for name in _COMMON:
        BACKENDS[name].status()  # which imports it, the way that it is to be


def main() -> None:
    """Be a replica until the server says stop, or is gone."""
    boot = read_boot(ReplicaBoot)
    use_catalogue(Path(boot.cache_root))
    for file, decoder, labels, input_size in boot.models:
        register_file(Path(file), decoder=decoder, labels=labels, input_size=input_size)
    serve_replica(boot, loader(AssetStore(Path(boot.cache_root), env=system_env())), SystemClock())


if __name__ == "__main__":
    main()
