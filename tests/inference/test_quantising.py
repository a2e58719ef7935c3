"""Networks in int8."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from llamapipe.data import Image
from llamapipe.errors import BackendError
from llamapipe.inference.backends import BACKENDS, LoadRequest
from llamapipe.inference.decoders import DECODERS
from llamapipe.inference.quantising import FLOAT_PARTS, quantise_onnx, quantise_openvino, tensors_of


def network(path: Path) -> Path:
    """Three convolutions, the middle one depthwise, with activations between, and a sum behind."""
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["images", "w1"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["a"], ["b"], name="act-1"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="depthwise", group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], ["d"], name="act-2"),
        helper.make_node("Conv", ["d", "w3"], ["e"], name="dense"),
        helper.make_node("Sigmoid", ["e"], ["f"], name="act-3"),
        helper.make_node("Conv", ["f", "w4"], ["g"], name="last"),
        helper.make_node("Mul", ["g", "g"], ["out"], name="square"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 4, 32, 32])],
        [weights("w1", 8, 3, 3, 3), weights("w2", 8, 1, 3, 3), weights("w3", 8, 8, 1, 1), weights("w4", 4, 8, 1, 1)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7), str(path))
    return path


def pictures(n: int) -> list[Image]:
    rng = np.random.default_rng(1)
    return [Image.from_bgr(rng.integers(0, 255, (32, 32, 3), np.uint8)) for _ in range(n)]


def in_int8(path: Path) -> set[str]:
    """Names of convolutions whose weights are int8."""
    graph = onnx.load(str(path)).graph
    made = {output: node.op_type for node in graph.node for output in node.output}
    return {n.name for n in graph.node if n.op_type == "Conv" and made.get(n.input[1]) == "DequantizeLinear"}


@pytest.mark.parametrize(
    ("in_float", "convolutions"),
    [
        (FLOAT_PARTS[0], {"first", "depthwise", "dense", "last"}),
        (FLOAT_PARTS[1], {"depthwise", "dense"}),
        (FLOAT_PARTS[2], {"dense"}),
    ],
)
def test_less_and_less_is_quantised(tmp_path: Path, in_float: str, convolutions: set[str]) -> None:
    source = network(tmp_path / "a.onnx")
    tensors = tensors_of(pictures(4), DECODERS["fastestdet"], (32, 32))
    quantise_onnx(source, tmp_path / "b.onnx", tensors, in_float=in_float)
    assert in_int8(tmp_path / "b.onnx") == convolutions
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]


def test_what_comes_out_is_near_and_takes_any_batch(tmp_path: Path) -> None:
    source = network(tmp_path / "a.onnx")
    quantise_onnx(
        source, tmp_path / "b.onnx", tensors_of(pictures(8), DECODERS["fastestdet"], (32, 32)), in_float=FLOAT_PARTS[0]
    )
    given = np.concatenate([t.copy() for t in tensors_of(pictures(2), DECODERS["fastestdet"], (32, 32))])

    def run(path: Path, backend: str) -> Any:
        request = LoadRequest(path, "onnx", (32, 32), "nchw", 2, "cpu", "fp32", 1)
        return np.array(BACKENDS[backend].load(request).request().infer(given)[0])

    exact = run(source, "onnxruntime")
    # Without these instructions, sums of two products are cut off at 16 bits: nearness is a matter of the processor.
    most = 0.05 if re.search(r"\b(avx512_vnni|avx_vnni|asimddp)\b", Path("/proc/cpuinfo").read_text()) else 0.5
    for backend in ("onnxruntime", "openvino"):  # which reads networks quantised so as well
        far = np.abs(run(tmp_path / "b.onnx", backend) - exact)
        assert 0 < far.mean() < most * np.abs(exact).mean()
    in_float = ort.SessionOptions()
    in_float.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(tmp_path / "b.onnx"), in_float, providers=["CPUExecutionProvider"])
    far = np.abs(session.run(None, {"images": given})[0] - exact)
    assert 0 < far.mean() < 0.05 * np.abs(exact).mean()


def test_pictures_are_prepared_as_for_inference() -> None:
    (tensor,) = tensors_of(pictures(1), DECODERS["fastestdet"], (16, 16))
    assert (tensor.shape, tensor.dtype) == ((1, 3, 16, 16), np.float32)
    assert tensor.max() <= 1


@pytest.mark.parametrize("content", [b"", b"no network"])
def test_what_cannot_be_quantised_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    nothing: Sequence[Any] = ()
    with pytest.raises(BackendError, match=r"a\.onnx cannot be quantised"):
        quantise_onnx(tmp_path / "a.onnx", tmp_path / "b.onnx", iter(nothing), in_float=FLOAT_PARTS[0])
    assert not (tmp_path / "prepared.onnx").exists()


@pytest.mark.parametrize("in_float", FLOAT_PARTS)
def test_nncf_quantises_what_openvino_reads(tmp_path: Path, in_float: str) -> None:
    pytest.importorskip("nncf", reason="nncf is not installed: pip install 'llamapipe[nncf]'")
    source = network(tmp_path / "a.onnx")
    tensors = [t.copy() for t in tensors_of(pictures(4), DECODERS["fastestdet"], (32, 32))]
    quantise_openvino(source, tmp_path / "b.xml", tensors, size=(32, 32), layout="nchw", in_float=in_float)
    request = LoadRequest(tmp_path / "b.xml", "openvino-ir", (32, 32), "nchw", 2, "cpu", "int8", 1)
    found = BACKENDS["openvino"].load(request).request().infer(np.concatenate(tensors[:2]))[0]
    exact = BACKENDS["onnxruntime"].load(LoadRequest(source, "onnx", (32, 32), "nchw", 2, "cpu", "fp32", 1))
    wanted = exact.request().infer(np.concatenate(tensors[:2]))[0]
    assert np.abs(found - wanted).mean() < 0.05 * np.abs(wanted).mean()
