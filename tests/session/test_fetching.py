"""Of a task's models, one that cannot be fetched is left out; one that the user has named is an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llamapipe.clock import system_env
from llamapipe.errors import AssetError
from llamapipe.inference import AssetStore, cache_root, model_named
from llamapipe.session.fetching import fetched

HERE = model_named("pedestrian-ssdlite")  # comes through pip
NOWHERE = replace(HERE, name="nowhere", files=("no-such-file.onnx",))


@pytest.fixture
def assets(tmp_path: Path) -> AssetStore:
    return AssetStore(cache_root(system_env()), env=system_env())


def test_what_cannot_be_fetched_is_left_out_and_told(assets: AssetStore) -> None:
    told: list[str] = []
    assert fetched([NOWHERE, HERE], assets, named=False, on_step=told.append) == [HERE]
    assert any(line.startswith("nowhere is left out: ") for line in told)


def test_a_named_model_or_none_at_all_is_an_error(assets: AssetStore) -> None:
    with pytest.raises(AssetError, match="no-such-file"):
        fetched([NOWHERE, HERE], assets, named=True)
    with pytest.raises(AssetError, match="no-such-file"):
        fetched([NOWHERE], assets, named=False)
