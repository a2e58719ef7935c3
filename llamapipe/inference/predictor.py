"""A loaded variant: pictures in, boxes out."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from llamapipe.catalog import Model, Variant
from llamapipe.clock import Clock, SystemClock
from llamapipe.data import Boxes, Image
from llamapipe.errors import BackendError, UsageError
from llamapipe.inference.assets import AssetStore
from llamapipe.inference.backends import BACKENDS, LoadRequest, Network
from llamapipe.inference.built import NetworkFile, network_file, written_anew
from llamapipe.inference.cascade import CASCADE, CASCADE_SIDES, Cascade, check_cascade, prepare_cascade
from llamapipe.inference.decoders import DECODERS, Decoder, Wanted
from llamapipe.inference.models import model_named
from llamapipe.inference.preprocess import new_tensor, placer

__all__ = ["LoadedSizes", "LoadedVariant", "load_predictor"]


@dataclass(slots=True)
class _Shared:
    """A model's compiled networks in this process, mostly one, and how many predictors use them."""

    networks: tuple[Network, ...] = ()
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
    partial: bool = False,
    assets: AssetStore,
    clock: Clock | None = None,
    file: NetworkFile | None = None,
    keep: bool = False,
) -> LoadedVariant | Cascade | LoadedSizes:
    """Load a variant; a network that this process has loaded already is shared.

    ``partial``: load smaller networks as well, for batches that are not full; a network always does all of its work.
    ``labels`` keeps only these, empty: all. ``min_score`` None: the decoder's own default. ``file`` is loaded in place
    of the one that the catalogue has for the variant. ``keep``: what the backend compiles is kept beside the assets, so
    that the next load takes less than half the time. Raises BackendError, DecoderError, AssetError; UsageError for a
    label that the model does not know.
    """
    clock = clock if clock is not None else SystemClock()
    started_s = clock.now_s()
    model = model_named(variant.model)
    if partial and batch > 1 and model.decoder != CASCADE:
        load = functools.partial(
            load_predictor,
            variant,
            min_score=min_score,
            labels=labels,
            assets=assets,
            clock=clock,
            file=file,
            keep=keep,
        )
        with ExitStack() as undo:
            sizes = []
            for size in _sizes(batch):
                sizes.append((size, load(batch=size)))
                undo.callback(sizes[-1][1].close)
            undo.pop_all()
        return LoadedSizes(sizes, clock.now_s() - started_s)
    key = (variant, batch, str(assets.root) if file is None else str(file.path))
    with _networks_lock:
        shared = _networks.setdefault(key, _Shared())
        shared.users += 1
    try:
        with shared.lock:
            if not shared.networks:
                shared.networks = _load(variant, model, batch, assets, file, keep)
            networks = shared.networks
        if model.decoder == CASCADE:
            return Cascade(
                variant,
                networks,
                names=model.labels,
                min_score=min_score,
                load_s=clock.now_s() - started_s,
                release=functools.partial(_release, key),
            )
        decoder = DECODERS[model.decoder]
        wanted = Wanted(
            model.labels,
            decoder.default_min_score if min_score is None else min_score,
            variant.input_size,
            _label_indices(model, labels),
        )
        return LoadedVariant(variant, decoder, wanted, networks[0], batch, clock.now_s() - started_s, key)
    except BaseException:
        _release(key)
        raise


def _load(
    variant: Variant, model: Model, batch: int, assets: AssetStore, file: NetworkFile | None, keep: bool
) -> tuple[Network, ...]:
    if model.decoder == CASCADE:
        return _load_cascade(variant, model, assets)
    decoder = DECODERS[model.decoder]
    found = file or network_file(variant, model, batch, assets)
    request = LoadRequest(
        found.path,
        found.format,
        variant.input_size,
        decoder.preprocess.layout,
        batch,
        variant.device,
        variant.precision,
        variant.threads,
        decoder.output_names,
        compiled=assets.root / "compiled" if keep else None,
    )
    try:
        network = BACKENDS[variant.backend].load(request)
    except BackendError:
        path = None if file is not None else written_anew(variant, model, found, batch, assets)
        if path is None:
            raise
        network = BACKENDS[variant.backend].load(replace(request, path=path))
    decoder.check(network.output_shapes, batch=batch, input_size=variant.input_size, num_labels=len(model.labels))
    return (network,)


def _load_cascade(variant: Variant, model: Model, assets: AssetStore) -> tuple[Network, ...]:
    backend = BACKENDS[variant.backend]
    networks = tuple(
        backend.load(
            LoadRequest(
                assets.pull(file),
                model.format,
                (side, side),
                "nhwc",
                1,
                variant.device,
                variant.precision,
                variant.threads,
                any_size=True,
            )
        )
        for file, side in zip(model.files, CASCADE_SIDES, strict=True)
    )
    check_cascade(networks)
    prepare_cascade(networks)
    return networks


def _sizes(batch: int) -> list[int]:
    """Of networks for up to ``batch`` items: of none half of the work is for nothing."""
    return [*(1 << n for n in range((batch - 1).bit_length())), batch]


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


class LoadedSizes:
    """A variant for batches of several sizes: each goes to the smallest network that holds it. Used by one thread."""

    def __init__(self, sizes: Sequence[tuple[int, LoadedVariant | Cascade | LoadedSizes]], load_s: float) -> None:
        self.load_s = load_s
        self._sizes = list(sizes)  # the smallest first

    @property
    def names(self) -> Sequence[str]:
        """Label table of the model."""
        return self._sizes[-1][1].names

    def predict(self, images: Sequence[Image]) -> list[Boxes]:
        """See `llamapipe.operator.Predictor.predict`."""
        found: list[Boxes] = []
        largest, _ = self._sizes[-1]
        for start in range(0, len(images), largest):
            part = images[start : start + largest]
            found += next(loaded for size, loaded in self._sizes if len(part) <= size).predict(part)
        return found

    def close(self) -> None:
        """Let go of all networks. May be called twice."""
        for _, loaded in self._sizes:
            loaded.close()
