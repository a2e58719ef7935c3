"""Short forms made full: operator and sink types, and the input port that wasn't named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from llamapipe.operator import Manifest, Param
from llamapipe.spec.model import FIRST_PORT, OpSpec, PipelineSpec, SinkSpec
from llamapipe.spec.names import resolve_type

__all__ = ["SinkLike", "resolve_types"]


class SinkLike(Protocol):
    """What a spec needs to know of a sink type."""

    @property
    def type(self) -> str:
        """``llamapipe/video@v1``."""
        ...

    @property
    def params(self) -> Mapping[str, Param]:
        """Parameters by name."""
        ...

    @property
    def accepts(self) -> frozenset[str]:
        """Values of `PortKind` that it takes."""
        ...

    @property
    def default_path(self) -> str | None:
        """Where it writes unless told otherwise, in the output folder; None: it writes no file."""
        ...

    def problem(self, num_inputs: int, path: str | None) -> str | None:
        """Why it cannot be opened on so many inputs and with that path, or None."""
        ...


def resolve_types(
    spec: PipelineSpec, manifests: Mapping[str, Manifest] | Iterable[str], sinks: Iterable[str]
) -> PipelineSpec:
    """The spec with full types (the highest version where none is given) and every input port named.

    ``manifests`` is by operator type (types alone do too, but then unnamed ports stay so), ``sinks`` are the sink
    types. What is unknown stays as it is: `validate` speaks about it.
    """
    if not isinstance(manifests, Mapping):
        manifests = dict.fromkeys(manifests)
    sink_types = list(sinks)
    return spec.model_copy(
        update={
            "ops": tuple(_op(op, manifests) for op in spec.ops),
            "sinks": tuple(_sink(sink, sink_types) for sink in spec.sinks),
        }
    )


def _op(op: OpSpec, manifests: Mapping[str, Manifest | None]) -> OpSpec:
    type_ = resolve_type(op.type, manifests)
    if type_ is None:
        return op
    inputs = dict(op.inputs)
    manifest = manifests[type_]
    if FIRST_PORT in inputs and manifest is not None:
        first = next(iter(manifest.inputs))
        inputs = {first: inputs[FIRST_PORT], **{port: value for port, value in inputs.items() if port != FIRST_PORT}}
    return op.model_copy(update={"type": type_, "inputs": inputs})


def _sink(sink: SinkSpec, types: list[str]) -> SinkSpec:
    type_ = resolve_type(sink.type, types)
    return sink if type_ is None else sink.model_copy(update={"type": type_})
