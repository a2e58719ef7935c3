"""Which file a variant is loaded from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamapipe.catalog import Model, Variant
from llamapipe.clock import system_env
from llamapipe.data import Image
from llamapipe.errors import BackendError, UsageError
from llamapipe.inference import (
    AssetStore,
    CatalogueStore,
    cache_root,
    choose_variant,
    load_predictor,
    register_file,
    use_catalogue,
)
from llamapipe.inference import predictor as predictor_module
from llamapipe.inference.built import built_sizes, check_by_value, key_of, network_file
from llamapipe.inference.catalogue import digest_of
from llamapipe.inference.predictor import LoadedSizes
from tests.inference import networks


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AssetStore]:
    root = tmp_path / "cache"
    use_catalogue(root)
    yield AssetStore(root, env={})
    use_catalogue(cache_root(system_env()))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """(1, 3, 32, 64) in, 6144 numbers in one row out: the batch is a number in its Reshape."""
    path = networks.baked_batch(tmp_path / "baked.onnx")
    return register_file(path, decoder="classifier", labels=[str(i) for i in range(6144)], input_size=(32, 64))


def variant(model: Model, **changes: object) -> Variant:
    fields = {"backend": "onnxruntime", "input_size": (32, 64), **changes}
    return Variant(model.name, **fields)  # type: ignore[arg-type]


def test_a_network_as_it_was_exported_is_loaded_as_it_is(model: Model, store: AssetStore) -> None:
    file = network_file(variant(model), model, 1, store)
    assert (file.path.name, file.format) == ("baked.onnx", "onnx")
    assert not (store.root / "catalogue").exists()


def test_onnxruntime_gets_a_network_rewritten_for_a_batch_once(model: Model, store: AssetStore) -> None:
    file = network_file(variant(model), model, 4, store)
    with CatalogueStore(store.root) as catalogue:
        [key] = catalogue.artifacts(model.name)
        assert key.startswith("onnxruntime/fp32-")
        assert key.endswith("/32x64")
        assert catalogue.artifact(model.name, key) == file.path
    assert network_file(variant(model), model, 8, store).path == file.path


def test_pictures_of_a_batch_are_told_apart(model: Model, store: AssetStore) -> None:
    predictor = load_predictor(variant(model), min_score=0.0, batch=3, assets=store)
    rng = np.random.default_rng(0)
    images = [Image.from_bgr(rng.integers(0, 255, (32, 64, 3), np.uint8)) for _ in range(3)]
    together = [boxes.label[0] for boxes in predictor.predict(images)]
    alone = load_predictor(variant(model), min_score=0.0, assets=store)
    assert together == [alone.predict([image])[0].label[0] for image in images]
    assert len(set(together)) == 3


def test_a_batch_that_is_not_full_goes_to_the_smallest_network_that_holds_it(model: Model, store: AssetStore) -> None:
    """A network always does all of its work: a single picture would take as long as a full batch."""
    predictor = load_predictor(variant(model), min_score=0.0, batch=5, partial=True, assets=store)
    assert isinstance(predictor, LoadedSizes)
    assert [size for size, _ in predictor._sizes] == [1, 2, 4, 5]
    rng = np.random.default_rng(0)
    images = [Image.from_bgr(rng.integers(0, 255, (32, 64, 3), np.uint8)) for _ in range(7)]
    alone = [boxes.label[0] for image in images for boxes in predictor.predict([image])]
    for count in range(8):
        assert [boxes.label[0] for boxes in predictor.predict(images[:count])] == alone[:count]
    assert predictor.names == model.labels
    predictor.close()
    predictor.close()
    single = load_predictor(variant(model), partial=True, assets=store)
    assert not isinstance(single, LoadedSizes)


def test_what_was_loaded_before_one_that_fails_is_let_go_of(
    model: Model, store: AssetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = predictor_module._load

    def no_large_ones(*given: Any) -> Any:
        if given[2] > 2:
            raise BackendError("no room")
        return load(*given)

    monkeypatch.setattr(predictor_module, "_load", no_large_ones)
    before = set(predictor_module._networks)
    with pytest.raises(BackendError, match="no room"):
        load_predictor(variant(model), batch=4, partial=True, assets=store)
    assert set(predictor_module._networks) == before


def test_int8_has_to_be_built_first(model: Model, store: AssetStore) -> None:
    with pytest.raises(BackendError, match=r"has not been built.*llamapipe models build baked"):
        load_predictor(variant(model, precision="int8"), assets=store)
    with pytest.raises(UsageError, match="has int8 built for no input size"):
        choose_variant(model=model.name, backend="onnxruntime", precision="int8")


def test_int8_that_was_built_is_chosen_and_loaded(model: Model, store: AssetStore, tmp_path: Path) -> None:
    path = networks.baked_batch(tmp_path / "small.onnx")
    with CatalogueStore(store.root) as catalogue:
        kept = catalogue.add_artifact(model.name, key_of("onnxruntime", "int8", (32, 64)), path, digest_of(path))
    assert built_sizes(model.name, "onnxruntime", "int8") == [(32, 64)]
    chosen = choose_variant(model=model.name, precision="int8")
    assert chosen == variant(model, precision="int8")
    assert network_file(chosen, model, 1, store).path == kept
    load_predictor(chosen, assets=store).close()


def test_a_network_that_mixes_its_pictures_is_found_out(tmp_path: Path) -> None:
    """Both give the right shapes: only values tell."""
    source = networks.cell_means(tmp_path / "means.onnx", "batch")
    mixed = networks.mixes_batch(tmp_path / "mixed.onnx")
    check_by_value(source, source, size=(32, 64), layout="nchw")
    with pytest.raises(BackendError, match="other values for 3 pictures than for each alone"):
        check_by_value(mixed, mixed, size=(32, 64), layout="nchw")
