"""Give a network another batch or input size, its baked-in shapes included.

Exporters write the batch of 1 into the graph's Reshape nodes as constants. Reshaping the input alone then folds a
batch of 8 into one long row: such constants are rewritten first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llamapipe.errors import BackendError
from llamapipe.inference.backends.untold import openvino

__all__ = ["rebatch"]


def rebatch(model: Any, shape: Sequence[int]) -> None:
    """Reshape an ``openvino.Model`` to the input ``shape``. Raises BackendError where the batch gets lost."""
    batch = shape[0]
    before = [output.partial_shape for output in model.outputs]
    if batch > 1:
        _free_reshapes(model)
    model.reshape(list(shape))
    for output, old in zip(model.outputs, before, strict=True):
        new = output.partial_shape
        if new.rank.is_dynamic or len(new) == 0 or new[0].is_dynamic:
            continue
        if old[0].is_static and old[0].get_length() == 1 and new[0].get_length() != batch:
            raise BackendError(
                f"the network has a batch of 1 built in: with {batch} pictures it gives {new}, was {old}",
                hint="use batch: 1",
            )


def _free_reshapes(model: Any) -> None:
    """Let every Reshape whose constant target begins with 1 take that from its input."""
    opset13 = openvino().opset13
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Reshape":
            continue
        target = node.input_value(1).get_node()
        if target.get_type_name() != "Constant":
            continue
        values = np.array(target.data).reshape(-1)
        source = node.input_value(0).get_partial_shape()
        if len(values) < 2 or values[0] != 1 or source.rank.is_dynamic or len(source) < 2:
            continue
        if not (source[0].is_static and source[0].get_length() == 1) or not node.get_attributes().get(
            "special_zero", True
        ):
            continue
        values[0] = 0  # with special_zero: as the input has it
        constant = opset13.constant(values.astype(np.int64))
        node.input(1).replace_source_output(constant.output(0))
    model.validate_nodes_and_infer_types()
