"""Networks in int8: ONNX by onnxruntime's own tools, everything OpenVINO reads by NNCF (an extra).

Both are static: ranges of values are learned from real pictures, then baked in. What comes out is not trusted, it is
held against its source (`llamapipe.inference.checking`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from llamapipe.data import Image
from llamapipe.errors import BackendError
from llamapipe.inference.backends.untold import openvino
from llamapipe.inference.decoders import Decoder
from llamapipe.inference.preprocess import new_tensor, placer

__all__ = ["FLOAT_PARTS", "nncf_missing", "quantise_onnx", "quantise_openvino", "tensors_of"]

FLOAT_PARTS = ("the tail", "all but inner convolutions", "all but dense inner convolutions")
"""What is left in float, less at first.

The tail is what follows the last convolutions: in int8 it would mix pixels and shares in one range, and leave a handful
of different scores. Beyond it, most is lost in activations such as SiLU and in the first convolution, some in the last
ones, whose errors nothing evens out, and in depthwise ones (few weights, a wide range of values by channel). How much
is different for every network.
"""

_OPSET = 13  # from here on weights may have a scale a channel
_HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_HEAVY_OPERATIONS = frozenset({"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"})


def tensors_of(images: Sequence[Image], decoder: Decoder, size: tuple[int, int]) -> Iterator[NDArray[Any]]:
    """Inputs of one picture each, as the network is given them. Each is valid until the next is asked for."""
    tensor = new_tensor(decoder.preprocess, 1, size)
    place = placer(decoder.preprocess, size)
    for image in images:
        place(image, tensor[0])
        yield tensor


def quantise_onnx(source: Path, target: Path, tensors: Iterator[NDArray[Any]], *, in_float: str) -> None:
    """Write ``source`` (see `llamapipe.inference.rewriting`) with int8 weights and activations to ``target``.

    ``in_float`` is one of `FLOAT_PARTS`. Raises BackendError where it cannot be.
    """
    import onnx
    import onnx.version_converter
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    prepared = target.with_name("prepared.onnx")

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def get_next(self) -> dict[str, NDArray[Any]] | None:
            tensor = next(tensors, None)
            return None if tensor is None else {name: tensor}

    try:
        model = onnx.load(str(source))
        if max(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")) < _OPSET:
            model = onnx.version_converter.convert_version(model, _OPSET)
        for number, node in enumerate(model.graph.node):
            node.name = node.name or f"node-{number}"
        onnx.save(model, str(prepared))
        name = model.graph.input[0].name
        with _quietly():
            quantize_static(
                str(prepared),
                str(target),
                Reader(),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                nodes_to_exclude=_float_nodes(model, FLOAT_PARTS.index(in_float)),
                extra_options={"CalibMovingAverage": True},  # one odd picture must not widen the range for all
            )
    except Exception as error:  # the tools raise whatever befalls them
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BackendError(f"{source.name} cannot be quantised: {lines[0]}") from error
    finally:
        prepared.unlink(missing_ok=True)


def _float_nodes(model: Any, parts: int) -> list[str]:
    """Names of nodes that stay in float, by what is left so (an index of `FLOAT_PARTS`)."""
    nodes = model.graph.node
    if parts >= 1:
        heavy = [node for node in nodes if node.op_type in _HEAVY]
        found = {node.name for node in nodes if node.op_type not in _HEAVY}
        found |= {*_tail(model)[1], *(node.name for node in heavy[:1])}
        if parts > 1:
            found |= {n.name for n in heavy if any(a.name == "group" and a.i > 1 for a in n.attribute)}
        return sorted(found)
    return _tail(model)[0]


def _tail(model: Any) -> tuple[list[str], list[str]]:
    """Names of nodes after the last convolutions, and of those."""
    makers = {output: node for node in model.graph.node for output in node.output}
    tail: dict[str, None] = {}
    last: dict[str, None] = {}
    todo = [output.name for output in model.graph.output]
    while todo:
        node = makers.get(todo.pop())
        if node is None or node.name in tail:
            continue
        if node.op_type in _HEAVY:
            last[node.name] = None
            continue
        tail[node.name] = None
        todo += node.input
    return list(tail), list(last)


def nncf_missing() -> str:
    """Why NNCF cannot be used here; empty where it can."""
    return "" if find_spec("nncf") is not None else "nncf is not installed: pip install 'llamapipe[nncf]'"


def quantise_openvino(
    source: Path, target: Path, tensors: Sequence[NDArray[Any]], *, size: tuple[int, int], layout: str, in_float: str
) -> None:
    """Write ``source``, which OpenVINO reads, with int8 weights and activations as an IR to ``target`` (.xml).

    Raises BackendError where it cannot be.
    """
    try:
        with _quietly():
            import nncf

            module = openvino()
            model = module.Core().read_model(str(source))
            if model.inputs[0].partial_shape.is_dynamic:
                model.reshape([1, 3, *size] if layout == "nchw" else [1, *size, 3])
            quantised = nncf.quantize(
                model,
                nncf.Dataset(list(tensors)),
                subset_size=len(tensors),
                ignored_scope=nncf.IgnoredScope(
                    names=_float_operations(model, FLOAT_PARTS.index(in_float)), validate=False
                ),
            )
            module.save_model(quantised, str(target), compress_to_fp16=False)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BackendError(f"{source.name} cannot be quantised: {lines[-1]}") from error


def _float_operations(model: Any, parts: int) -> list[str]:
    """As `_float_nodes`, of an ``openvino.Model``."""
    tail: dict[str, None] = {}
    last: dict[str, None] = {}
    todo = list(model.get_results())
    while todo:
        node = todo.pop()
        name, kind = node.get_friendly_name(), node.get_type_name()
        if name in tail or kind in ("Constant", "Parameter"):
            continue
        if kind in _HEAVY_OPERATIONS:
            last[name] = None
            continue
        tail[name] = None
        todo += [value.get_node() for value in node.input_values()]
    if parts == 0:
        return list(tail)
    operations = [node for node in model.get_ordered_ops() if node.get_type_name() not in ("Constant", "Parameter")]
    heavy = [node for node in operations if node.get_type_name() in _HEAVY_OPERATIONS]
    found = {node.get_friendly_name() for node in operations if node.get_type_name() not in _HEAVY_OPERATIONS}
    found |= {*last, *(node.get_friendly_name() for node in heavy[:1])}
    if parts > 1:
        found |= {node.get_friendly_name() for node in heavy if node.get_type_name() == "GroupConvolution"}
    return sorted(found)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the progress and the advice that both tools print through the root logger."""
    import io
    import warnings

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
