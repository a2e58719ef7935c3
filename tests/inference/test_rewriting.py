"""Networks for other sizes and any batch: the same values as alone, or an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from llamapipe.errors import BackendError
from llamapipe.inference.backends import BACKENDS, LoadRequest
from llamapipe.inference.rewriting import rewrite


def network(path: Path, nodes: Sequence[Any], constants: dict[str, NDArray[Any]], output: Sequence[int]) -> Path:
    """(1, 3, 32, 64) in, ``out`` out."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 64])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, list(output))],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def run(path: Path, pictures: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    loaded = BACKENDS["onnxruntime"].load(LoadRequest(path, "onnx", size, "nchw", len(pictures), "cpu", "fp32", 1))
    return np.array(loaded.request().infer(pictures)[0])


def pictures(n: int, size: tuple[int, int]) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((n, 3, *size), dtype=np.float32)


def test_a_batch_of_one_in_a_reshape_becomes_any(tmp_path: Path) -> None:
    source = network(
        tmp_path / "a.onnx",
        [helper.make_node("Reshape", ["images", "target"], ["out"])],
        {"target": np.array([1, 3, -1])},
        (1, 3, 2048),
    )
    rewrite(source, tmp_path / "b.onnx", size=(32, 64), layout="nchw")
    given = pictures(5, (32, 64))
    np.testing.assert_array_equal(run(tmp_path / "b.onnx", given, (32, 64)), given.reshape(5, 3, 2048))


def test_sides_in_reshapes_follow_the_size(tmp_path: Path) -> None:
    """A channel shuffle as exporters write it: the batch, the sides and their product are numbers in two targets."""
    nodes = [
        helper.make_node("MaxPool", ["images"], ["small"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["small", "first"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["turned"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["turned", "second"], ["out"]),
    ]
    targets = {"first": np.array([1, 3, 512]), "second": np.array([3, -1, 1, 16, 32])}
    source = network(tmp_path / "a.onnx", nodes, targets, (3, 1, 1, 16, 32))
    rewrite(source, tmp_path / "b.onnx", size=(64, 96), layout="nchw")
    given = pictures(2, (64, 96))
    pooled = given.reshape(2, 3, 32, 2, 48, 2).max((3, 5))
    np.testing.assert_array_equal(run(tmp_path / "b.onnx", given, (64, 96)), pooled.transpose(1, 0, 2, 3)[:, :, None])


def test_what_was_rewritten_can_be_again(tmp_path: Path) -> None:
    """An int8 network is made at one size, and rewritten for the others."""
    source = network(
        tmp_path / "a.onnx",
        [helper.make_node("Reshape", ["images", "target"], ["out"])],
        {"target": np.array([1, 3, 2048])},
        (1, 3, 2048),
    )
    rewrite(source, tmp_path / "b.onnx", size=(32, 64), layout="nchw")
    rewrite(tmp_path / "b.onnx", tmp_path / "c.onnx", size=(64, 96), layout="nchw")
    given = pictures(2, (64, 96))
    np.testing.assert_array_equal(run(tmp_path / "c.onnx", given, (64, 96)), given.reshape(2, 3, -1))


def test_a_resize_to_a_size_becomes_one_by_a_factor(tmp_path: Path) -> None:
    node = helper.make_node(
        "Resize", ["images", "", "", "sizes"], ["out"], mode="nearest", coordinate_transformation_mode="asymmetric"
    )
    source = network(tmp_path / "a.onnx", [node], {"sizes": np.array([1, 3, 64, 128])}, (1, 3, 64, 128))
    rewrite(source, tmp_path / "b.onnx", size=(16, 16), layout="nchw")
    given = pictures(2, (16, 16))
    assert run(tmp_path / "b.onnx", given, (16, 16)).shape == (2, 3, 32, 32)


def test_numbers_that_cannot_be_told_are_refused(tmp_path: Path) -> None:
    """A grid written out as numbers is right for one size alone."""
    source = network(
        tmp_path / "a.onnx",
        [helper.make_node("Add", ["images", "grid"], ["out"])],
        {"grid": np.ones((1, 1, 32, 64), np.float32)},
        (1, 3, 32, 64),
    )
    with pytest.raises(BackendError, match="cannot be rewritten for 64x64"):
        rewrite(source, tmp_path / "b.onnx", size=(64, 64), layout="nchw")
    assert not (tmp_path / "b.onnx").exists()
    rewrite(source, tmp_path / "b.onnx", size=(32, 64), layout="nchw")  # it takes any batch all the same


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(BackendError, match=r"a\.onnx cannot be rewritten"):
        rewrite(tmp_path / "a.onnx", tmp_path / "b.onnx", size=(64, 64), layout="nchw")


@pytest.mark.assets
@pytest.mark.parametrize(
    ("file", "size", "own"),
    [
        ("yolox_nano.onnx", (416, 416), True),
        ("yolox_nano.onnx", (256, 320), False),
        ("FastestDet.onnx", (352, 352), True),
        ("FastestDet.onnx", (256, 320), False),
    ],
)
def test_real_networks_find_in_a_batch_what_they_find_alone(
    assets: Path, tmp_path: Path, file: str, size: tuple[int, int], own: bool
) -> None:
    made = tmp_path / "made.onnx"
    rewrite(assets / file, made, size=size, layout="nchw")
    given = pictures(3, size)
    together = run(made, given, size)
    alone = np.concatenate([run(assets / file if own else made, given[i : i + 1], size) for i in range(3)])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.assets
def test_another_size_gives_what_openvino_makes_of_it(assets: Path, tmp_path: Path) -> None:
    """Two ways to the same network, neither knows of the other."""
    rewrite(assets / "yolox_nano.onnx", tmp_path / "made.onnx", size=(320, 256), layout="nchw")
    given = pictures(1, (320, 256)) * 255
    request = LoadRequest(assets / "yolox_nano.onnx", "onnx", (320, 256), "nchw", 1, "cpu", "fp32", 1)
    theirs = BACKENDS["openvino"].load(request).request().infer(given)[0]
    np.testing.assert_allclose(run(tmp_path / "made.onnx", given, (320, 256)), theirs, atol=2e-3)
