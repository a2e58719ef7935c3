"""torch modules become networks of any batch; what cannot is refused with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamapipe.data import Image
from llamapipe.errors import BackendError, UsageError
from llamapipe.inference import (
    AssetStore,
    CatalogueStore,
    choose_variant,
    load_predictor,
    register,
    use_catalogue,
)

torch: Any = pytest.importorskip("torch")

ASKED: dict[str, Any] = {"task": "image-classification", "decoder": "classifier", "labels": ["a", "b", "c"]}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogueStore]:
    use_catalogue(tmp_path)
    with CatalogueStore(tmp_path, hardware="here") as store:
        yield store


def mean_colours() -> Any:
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())


def test_a_module_is_a_model_of_any_batch(store: CatalogueStore, tmp_path: Path) -> None:
    model = register(mean_colours(), store=store, name="mine", input_size=32, **ASKED)
    assert (model.format, model.input_sizes) == ("torch-export", ((32, 32),))
    assert register(mean_colours(), store=store, name="mine", input_size=32, **ASKED) == model
    for batch in (1, 3):
        variant = choose_variant(model="mine", batch=batch)
        predictor = load_predictor(variant, batch=batch, assets=AssetStore(tmp_path, env={}))
        red = Image.from_bgr(np.full((9, 9, 3), (0, 0, 255), np.uint8))
        assert [found[0]["label"] for found in map(list, predictor.predict([red] * batch))] == ["a"] * batch
        predictor.close()


def test_a_module_needs_a_name_and_a_size(store: CatalogueStore) -> None:
    with pytest.raises(UsageError, match="needs a name and an input size"):
        register(mean_colours(), store=store, **ASKED)


def test_what_is_no_module_or_branches_on_values_is_refused(store: CatalogueStore) -> None:
    class Branching(torch.nn.Module):  # type: ignore[misc]  # torch has no types here
        def forward(self, x: Any) -> Any:
            return x if x.sum() > 0 else -x

    with pytest.raises(UsageError, match="int is no network"):
        register(3, store=store, name="mine", input_size=32, **ASKED)
    with pytest.raises(BackendError, match="torch cannot export Branching"):
        register(Branching(), store=store, name="mine", input_size=32, **ASKED)
    assert store.models() == []
