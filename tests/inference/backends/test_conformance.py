"""Rules that hold for every backend. One that cannot run here is skipped with its reason."""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamapipe.errors import BackendError
from llamapipe.inference import BACKENDS
from llamapipe.inference.backends import LoadRequest, Network
from tests.inference import networks

FILES = {
    "onnxruntime": [("onnx", "cells.onnx")],
    "openvino": [("onnx", "cells.onnx")],
    "torch": [("torchscript", "cells.torchscript"), ("torch-export", "cells.pt2")],
    "tensorrt": [("onnx", "cells.onnx")],
}
CASES = [(backend, *file) for backend, files in FILES.items() for file in files]
Load = Callable[..., Network]


def made(path: Path) -> Path:
    """The network of `networks.cell_means` with any batch, as the suffix wants it."""
    if path.suffix == ".onnx":
        return networks.cell_means(path)
    torch: Any = importlib.import_module("torch")
    module = torch.nn.AvgPool2d(8).eval()
    example = torch.zeros(2, 3, 32, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own deprecations
        if path.suffix == ".pt2":
            batch = torch.export.Dim("batch", min=1, max=64)
            torch.export.save(torch.export.export(module, (example,), dynamic_shapes=({0: batch},)), str(path))
        else:
            torch.jit.save(torch.jit.trace(module, example), str(path))
    return path


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def load(request: pytest.FixtureRequest, tmp_path: Path) -> Load:
    """Loads the network in a backend; keywords change the request."""
    name, format_, file = request.param
    backend = BACKENDS[name]
    status = backend.status()
    if not status.available:
        pytest.skip(f"{name}: {status.reason} ({status.hint})")

    def loader(**changed: Any) -> Network:
        values: dict[str, Any] = {
            "path": tmp_path / file,
            "format": format_,
            "input_size": (32, 64),
            "layout": "nchw",
            "batch": 1,
            "device": status.devices[0],
            "precision": "fp32",
            "threads": 1,
        }
        if "path" not in changed:
            made(tmp_path / file)
        return backend.load(LoadRequest(**{**values, **changed}))

    return loader


def pictures(batch: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((batch, 3, 32, 64), np.float32)


def means(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    n, c, h, w = tensor.shape
    return tensor.reshape(n, c, h // 8, 8, w // 8, 8).mean((3, 5))


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_says_whether_it_works_here_and_if_not_what_mends_that(name: str) -> None:
    status = BACKENDS[name].status()
    assert status.name == name
    if status.available:
        assert status.version
        assert all("fp32" in BACKENDS[name].precisions(device) for device in status.devices)
    else:
        assert status.reason
        assert status.hint


@pytest.mark.parametrize("batch", [1, 3])
def test_the_network_computes_what_it_says_in_fp32(load: Load, batch: int) -> None:
    network = load(batch=batch)
    tensor = pictures(batch)
    (output,) = network.request().infer(tensor)
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, means(tensor), atol=1e-5)
    assert all(said in (-1, n) for said, n in zip(network.output_shapes[0], output.shape, strict=True))


def test_requests_run_at_once_and_keep_their_answers_apart(load: Load) -> None:
    network = load()
    wrong: list[int] = []

    def work(seed: int) -> None:
        request = network.request()
        for i in range(20):
            tensor = pictures(1, 100 * seed + i)
            if not np.allclose(request.infer(tensor)[0], means(tensor), atol=1e-5):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_file_that_is_no_network_is_named_in_the_error(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(BackendError, match=r"broken\.onnx"):
        load(path=path)


def test_an_output_that_the_network_does_not_have_is_refused(load: Load) -> None:
    with pytest.raises(BackendError, match="detection_boxes"):
        load(output_names=("detection_boxes",))


def test_an_input_that_the_network_cannot_take_is_refused(load: Load) -> None:
    with pytest.raises(BackendError, match="1x32x64x3"):
        load(layout="nhwc")


def test_other_precisions_are_near_and_asked_for_by_name(load: Load, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["load"][0]
    device = BACKENDS[name].status().devices[0]
    for precision in BACKENDS[name].precisions(device) - {"fp32"}:
        tensor = pictures(1)
        np.testing.assert_allclose(load(precision=precision).request().infer(tensor)[0], means(tensor), atol=2e-2)


def test_an_exported_program_that_carries_objects_is_not_loaded(tmp_path: Path) -> None:
    """A pickle is code: example inputs other than tensors are refused before torch unpickles them."""
    torch: Any = pytest.importorskip("torch", reason="pip install 'llamapipe[torch]'")
    import io
    import zipfile

    plain, evil = made(tmp_path / "plain.pt2"), tmp_path / "evil.pt2"
    buffer = io.BytesIO()
    torch.save(Path("x"), buffer)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(evil, "w") as new:
        for name in old.namelist():
            new.writestr(name, buffer.getvalue() if "/sample_inputs/" in name else old.read(name))
    backend = BACKENDS["torch"]
    with pytest.raises(BackendError, match="not plain tensors"):
        backend.load(LoadRequest(evil, "torch-export", (32, 64), "nchw", 1, "cpu", "fp32", 1))
