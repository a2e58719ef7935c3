"""ONNX networks for another input size and for any batch, the shapes that exporters baked in included.

onnxruntime runs a network only as it was exported: with a batch of 1 at one size, both written into the graph as
constants of Reshape and Resize nodes. Here they are found by inferring every shape twice, at the old size and at the
new one, and replaced. What cannot be told from shapes (grids written out as numbers) is not guessed: the network is
refused, and `agrees_by_value` finds what looked right and is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamapipe.errors import BackendError
from llamapipe.inference.backends.contract import BATCH

__all__ = ["rewrite"]

_HINT = "use the network's own input size with batch: 1"


def rewrite(source: Path, target: Path, *, size: tuple[int, int], layout: str) -> None:
    """Write ``source`` to ``target`` with pictures of ``size`` (height, width) and any batch.

    Raises BackendError where a constant of the network cannot be told.
    """
    import onnx

    try:
        model = onnx.load(str(source))
        changed = _rewritten(model, size, layout)
        onnx.checker.check_model(changed, full_check=True)
    except BackendError:
        raise
    except Exception as error:  # onnx raises what protobuf and its own C++ code do
        raise BackendError(
            f"{source.name} cannot be rewritten for {size[0]}x{size[1]}: {str(error).strip().splitlines()[0]}",
            hint=_HINT,
        ) from error
    onnx.save(changed, str(target))


def _rewritten(model: Any, size: tuple[int, int], layout: str) -> Any:
    import onnx

    graph = model.graph
    constants = {initializer.name for initializer in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise BackendError(f"the network has {len(inputs)} inputs, expected one picture input")
    old_shape = _dims(inputs[0])
    if len(old_shape) != 4:
        raise BackendError(f"the network takes {_said(old_shape)}, expected pictures", hint=_HINT)
    new_shape: list[int] = [1, 3, *size] if layout == "nchw" else [1, *size, 3]
    if None not in old_shape[1:]:  # else the exporter has left them open
        _set_dims(inputs[0], [1, *(n for n in old_shape[1:] if n is not None)])
        before = _shapes(model)
        _set_dims(inputs[0], new_shape)
        _forget_shapes(model)
        _unbake_resizes(model, before)
        _unbake_reshapes(model, before)
    _set_dims(inputs[0], [BATCH, *new_shape[1:]])
    _forget_shapes(model)
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    kept = [initializer for initializer in graph.initializer if initializer.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    found = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    for output in found.graph.output:
        dims = output.type.tensor_type.shape.dim
        if len(dims) and not dims[0].HasField("dim_value"):
            dims[0].dim_param = BATCH
    del found.graph.value_info[:]
    return found


def _unbake_resizes(model: Any, before: Mapping[str, Sequence[int]]) -> None:
    """Let Resize nodes scale, where they were told a size."""
    import onnx

    for node in model.graph.node:
        if node.op_type != "Resize" or len(node.input) < 4 or not node.input[3]:
            continue
        sizes, shape = _constant(model, node.input[3]), before.get(node.input[0])
        if sizes is None or shape is None:
            continue
        scales = np.array([new / old for new, old in zip(sizes.tolist(), shape, strict=True)], np.float32)
        name = _free_name(model, f"{node.output[0]}/scales")
        model.graph.initializer.append(onnx.numpy_helper.from_array(scales, name))
        kept = list(node.input[:2])
        del node.input[:]
        node.input.extend([*kept, name])


def _unbake_reshapes(model: Any, before: Mapping[str, Sequence[int]]) -> None:
    """Write targets of Reshape nodes anew, in the order in which the network runs: each decides shapes after it."""
    right = {value.name for value in model.graph.input}  # values whose shapes are decided
    for node in model.graph.node:
        target = _constant(model, node.input[1]) if node.op_type == "Reshape" else None
        if target is None:
            right.update(node.output)
            continue
        now = {name: shape for name, shape in _shapes(model).items() if name in right}
        right.update(node.output)
        old, new = before.get(node.input[0]), now.get(node.input[0])
        result = before.get(node.output[0])
        if old is None or new is None or result is None:
            raise BackendError(f"the shape of {node.input[0]!r} cannot be told", hint=_HINT)
        sized = _moved(target.tolist(), before, now)
        if sized is None:
            raise BackendError(f"what {target.tolist()} is at another size cannot be told", hint=_HINT)
        if -1 not in sized:
            wanted, got = prod(new), prod(new[i] if n == 0 else n for i, n in enumerate(sized))
            if wanted != got:
                raise BackendError(
                    f"{node.name or node.output[0]} makes {_said(sized)} of {_said(new)}: its target cannot be told",
                    hint=_HINT,
                )
        _replace(model, node, np.array(_free(sized, old), np.int64))


def _free(target: Sequence[int], shape: Sequence[int]) -> list[int]:
    """A target that takes the batch from what comes in: as it is, or as a multiple of its first dimension."""
    if target[0] == 1 and shape[0] == 1:
        return [0, *target[1:]]
    if -1 in target or target[0] == 0:
        return list(target)
    return [-1, *target[1:]]


def _moved(
    target: list[int], before: Mapping[str, Sequence[int]], now: Mapping[str, Sequence[int]]
) -> list[int] | None:
    """A target at the new size; None where a number in it could have become several others.

    Sides of feature maps are looked for as pairs first (height and width may have been the same number, and are not any
    more), then as products, then one by one. What is 0 or -1 follows by itself.
    """
    pairs: dict[tuple[int, int], set[tuple[int, int]]] = {}
    singles: dict[int, set[int]] = {}
    for name, old in before.items():
        new = now.get(name)
        if new is None or len(new) != len(old) or list(old) == list(new):
            continue
        for a, b in zip(old, new, strict=True):
            if a != b:
                singles.setdefault(a, set()).add(b)
        if len(old) >= 4:
            pairs.setdefault((old[-2], old[-1]), set()).add((new[-2], new[-1]))
            singles.setdefault(old[-2] * old[-1], set()).add(new[-2] * new[-1])
    found: list[int] = []
    while len(found) < len(target):
        rest = target[len(found) :]
        pair = pairs.get((rest[0], rest[1]), set()) if len(rest) > 1 else set()
        single = singles.get(rest[0], {rest[0]}) if rest[0] > 0 else {rest[0]}
        if len(pair) == 1:
            found += next(iter(pair))
        elif len(single) == 1:
            found += single
        else:
            return None
    return found


def _shapes(model: Any) -> dict[str, list[int]]:
    """Shapes of all values that are known in full."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found = {value.name: _dims(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    return {name: [n for n in dims if n is not None] for name, dims in found.items() if None not in dims}


def _forget_shapes(model: Any) -> None:
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def _constant(model: Any, name: str) -> NDArray[np.generic] | None:
    import onnx

    for initializer in model.graph.initializer:
        if initializer.name == name:
            array: NDArray[np.generic] = onnx.numpy_helper.to_array(initializer)
            return array
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] == name and node.attribute[0].name == "value":
            found: NDArray[np.generic] = onnx.numpy_helper.to_array(node.attribute[0].t)
            return found
    return None


def _free_name(model: Any, name: str) -> str:
    """The name, or one like it: a network may be rewritten again."""
    taken = {initializer.name for initializer in model.graph.initializer}
    while name in taken:
        name += "'"
    return name


def _replace(model: Any, node: Any, target: NDArray[np.int64]) -> None:
    import onnx

    name = _free_name(model, f"{node.output[0]}/target")
    model.graph.initializer.append(onnx.numpy_helper.from_array(target, name))
    node.input[1] = name


def _dims(value: Any) -> list[int | None]:
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]


def _set_dims(value: Any, dims: Sequence[int | str]) -> None:
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for n in dims:
        shape.dim.add(**({"dim_value": n} if isinstance(n, int) else {"dim_param": n}))


def _said(shape: Sequence[object]) -> str:
    return "x".join("?" if n is None else str(n) for n in shape) or "nothing"
