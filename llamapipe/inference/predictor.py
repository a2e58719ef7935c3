"""A loaded variant: pictures in, boxes out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llamapipe.catalog import Model, Variant
from llamapipe.clock import Clock, SystemClock
from llamapipe.data import Boxes, Image
from llamapipe.errors import UsageError
from llamapipe.inference.assets import AssetStore
from llamapipe.inference.backends import BACKENDS, LoadRequest, Network
from llamapipe.inference.decoders import DECODERS, Decoder, Wanted
from llamapipe.inference.models import local_file, model_named
from llamapipe.inference.preprocess import new_tensor, placer

__all__ = ["LoadedVariant", "load_predictor"]


@dataclass(slots=True)
class _Shared:
    """One compiled network of this process, and how many predictors use it."""

    network: Network | None = None
    users: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


_networks: dict[tuple[Variant, int, str], _Shared] = {}
_networks_lock = threading.Lock()


def load_predictor(
    variant: Variant,
    *,
    min_score: float | None = None,
    labels: Sequence[str] = (),
    batch: int = 1,
    assets: AssetStore,
    clock: Clock | None = None,
) -> LoadedVariant:
    """Load a variant; a network that this process has loaded already is shared.

    ``labels`` keeps only these, empty: all. ``min_score`` None: the decoder's own default. Raises BackendError,
    DecoderError, AssetError; UsageError for a label that the model does not know.
    """
    clock = clock if clock is not None else SystemClock()
    started_s = clock.now_s()
    model = model_named(variant.model)
    decoder = DECODERS[model.decoder]
    key = (variant, batch, str(assets.root))
    with _networks_lock:
        shared = _networks.setdefault(key, _Shared())
        shared.users += 1
    try:
        with shared.lock:
            if shared.network is None:
                shared.network = _load(variant, model, decoder, batch, assets)
            network = shared.network
        wanted = Wanted(
            model.labels,
            decoder.default_min_score if min_score is None else min_score,
            variant.input_size,
            _label_indices(model, labels),
        )
        return LoadedVariant(variant, decoder, wanted, network, batch, clock.now_s() - started_s, key)
    except BaseException:
        _release(key)
        raise


def _load(variant: Variant, model: Model, decoder: Decoder, batch: int, assets: AssetStore) -> Network:
    path = local_file(variant.model)
    if path is None:
        path = assets.pull(model.files[0])
    network = BACKENDS[variant.backend].load(
        LoadRequest(
            path,
            model.format,
            variant.input_size,
            decoder.preprocess.layout,
            batch,
            variant.device,
            variant.precision,
            variant.threads,
            decoder.output_names,
        )
    )
    decoder.check(network.output_shapes, batch=batch, input_size=variant.input_size, num_labels=len(model.labels))
    return network


def _label_indices(model: Model, labels: Sequence[str]) -> NDArray[np.int32] | None:
    if not labels:
        return None
    unknown = [label for label in labels if label not in model.labels]
    if unknown:
        raise UsageError(
            f"model {model.name} knows no label {unknown[0]!r}", hint=f"it knows {', '.join(model.labels[:12])}"
        )
    return np.array([model.labels.index(label) for label in labels], np.int32)


def _release(key: tuple[Variant, int, str]) -> None:
    with _networks_lock:
        shared = _networks[key]
        shared.users -= 1
        if not shared.users:
            del _networks[key]


class LoadedVariant:
    """See `llamapipe.operator.Predictor`. Used by one thread."""

    def __init__(
        self,
        variant: Variant,
        decoder: Decoder,
        wanted: Wanted,
        network: Network,
        batch: int,
        load_s: float,
        key: tuple[Variant, int, str],
    ) -> None:
        self.variant = variant
        self.load_s = load_s
        self._decoder = decoder
        self._wanted = wanted
        self._request = network.request()
        self._batch = batch
        self._key = key
        self._closed = False
        self._tensor = new_tensor(decoder.preprocess, batch, variant.input_size)
        self._place = placer(decoder.preprocess, variant.input_size)

    @property
    def names(self) -> Sequence[str]:
        """Label table of the model."""
        return self._wanted.names

    def predict(self, images: Sequence[Image]) -> list[Boxes]:
        """See `llamapipe.operator.Predictor.predict`. A batch that is not full runs with old pictures in the rest."""
        found: list[Boxes] = []
        for start in range(0, len(images), self._batch):
            part = images[start : start + self._batch]
            letterboxes = [self._place(image, self._tensor[i]) for i, image in enumerate(part)]
            outputs = self._request.infer(self._tensor)
            found += self._decoder.decode(outputs, letterboxes, self._wanted)
        return found

    def close(self) -> None:
        """Let go of the network; the last user frees it. May be called twice."""
        if not self._closed:
            self._closed = True
            _release(self._key)
