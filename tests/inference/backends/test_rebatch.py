"""Another batch for a network whose exporter wrote a batch of 1 into it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llamapipe.errors import BackendError
from llamapipe.inference import BACKENDS
from llamapipe.inference.backends import LoadRequest
from tests.inference import networks


def load(path: Path, batch: int, size: tuple[int, int] = (32, 64)) -> LoadRequest:
    return LoadRequest(path, "onnx", size, "nchw", batch, "cpu", "fp32", 1)


def test_reshapes_with_a_baked_in_batch_are_rewritten(tmp_path: Path) -> None:
    network = BACKENDS["openvino"].load(load(networks.baked_batch(tmp_path / "baked.onnx"), 4))
    tensor = np.random.default_rng(0).random((4, 3, 32, 64), np.float32)
    (rows,) = network.request().infer(tensor)
    np.testing.assert_array_equal(rows, tensor.reshape(4, -1))


def test_a_batch_that_gets_lost_is_an_error(tmp_path: Path) -> None:
    """A network that gives one row whatever the batch must not pass for eight."""
    path = networks.always(tmp_path / "one.onnx", np.zeros((1, 3), np.float32), size=(32, 64))
    with pytest.raises(BackendError, match="batch of 1 built in"):
        BACKENDS["openvino"].load(load(path, 8))


def test_another_input_size_is_a_reshape(tmp_path: Path) -> None:
    network = BACKENDS["openvino"].load(load(networks.cell_means(tmp_path / "cells.onnx", 1), 1, (64, 64)))
    assert list(network.output_shapes[0]) == [1, 3, 8, 8]


@pytest.mark.assets
def test_yolox_in_a_batch_equals_yolox_one_by_one(assets: Path) -> None:
    tensor = np.random.default_rng(0).integers(0, 255, (8, 3, 416, 416)).astype(np.float32)
    path = assets / "yolox_nano.onnx"
    together = BACKENDS["openvino"].load(load(path, 8, (416, 416))).request().infer(tensor)[0]
    request = BACKENDS["openvino"].load(load(path, 1, (416, 416))).request()
    assert together.shape == (8, 3549, 85)
    for i in range(8):
        np.testing.assert_allclose(request.infer(tensor[i : i + 1])[0][0], together[i], rtol=1e-4, atol=1e-4)


@pytest.mark.assets
def test_fastestdet_refuses_a_batch(assets: Path) -> None:
    with pytest.raises(BackendError):
        BACKENDS["openvino"].load(load(assets / "FastestDet.onnx", 8, (352, 352)))
