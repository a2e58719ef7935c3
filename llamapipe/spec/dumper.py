"""A spec as YAML that reads back to the same spec."""

from __future__ import annotations

from io import StringIO
from typing import Any

import yaml

from llamapipe.errors import UsageError
from llamapipe.spec.model import FIRST_PORT, OpSpec, PipelineSpec, SinkSpec, SloSpec
from llamapipe.spec.reader import OP_KEYS, SINK_KEYS
from llamapipe.spec.substitution import escaped
from llamapipe.spec.yaml_tree import Dumper

__all__ = ["dump_yaml"]

_WIDTH = 110


def dump_yaml(spec: PipelineSpec) -> str:
    """YAML text; `load_yaml` makes an equal spec of it.

    Raises UsageError where a parameter bears the name of a YAML key (``name``, ``type``, ...) or a value that YAML
    has no word for.
    """
    top: dict[str, Any] = {"version": spec.version, "name": spec.name}
    if spec.description:
        top["description"] = spec.description
    if spec.slo is not None:
        top["slo"] = _slo(spec.slo)
    if spec.accuracy is not None:
        top["accuracy"] = spec.accuracy.model_dump(exclude_none=True)
    if spec.on_overload is not None:
        top["on_overload"] = spec.on_overload
    chunks = [_block(top)]
    chunks.append(_entries("ops", [_op(op) for op in spec.ops]))
    if spec.sinks:
        chunks.append(_entries("sinks", [_sink(sink) for sink in spec.sinks]))
    return "".join(chunks)


def _slo(slo: SloSpec) -> dict[str, Any]:
    fields = slo.model_dump(exclude_none=True, exclude_defaults=True)
    return {key: int(value) if value == int(value) and abs(value) < 1e15 else value for key, value in fields.items()}


def _op(op: OpSpec) -> dict[str, Any]:
    _refuse_reserved(op.params, OP_KEYS, f"stage {op.name}")
    entry: dict[str, Any] = {"name": op.name, "type": op.type}
    if set(op.inputs) == {FIRST_PORT}:
        entry["inputs"] = _selectors(op.inputs[FIRST_PORT])
    elif op.inputs:
        entry["inputs"] = {port: _selectors(selectors) for port, selectors in op.inputs.items()}
    if op.when is not None:
        entry["when"] = op.when
    return {**entry, **op.params}


def _sink(sink: SinkSpec) -> dict[str, Any]:
    _refuse_reserved(sink.params, SINK_KEYS, f"sink {sink.name}")
    entry: dict[str, Any] = {"name": sink.name, "type": sink.type}
    if len(sink.inputs) == 1:
        entry["input"] = sink.inputs[0]
    else:
        entry["inputs"] = list(sink.inputs)
    if sink.path is not None:
        entry["path"] = sink.path
    return {**entry, **sink.params}


def _selectors(selectors: tuple[str, ...]) -> str | list[str]:
    return selectors[0] if len(selectors) == 1 else list(selectors)


def _refuse_reserved(params: Any, reserved: tuple[str, ...], what: str) -> None:
    for key in params:
        if key in reserved:
            raise UsageError(
                f"{what}: a parameter cannot be called {key!r} in YAML", hint=f"taken: {', '.join(reserved)}"
            )


def _entries(key: str, entries: list[dict[str, Any]]) -> str:
    """One line an entry where it fits, else a block."""
    if not entries:
        return f"{key}: []\n"
    lines = [f"{key}:\n"]
    for entry in entries:
        flow = _dumped([entry], flow=True, width=1_000_000).strip()[1:-1]
        if len(flow) + 4 <= _WIDTH and "\n" not in flow:
            lines.append(f"  - {flow}\n")
        else:
            block = _block(entry).splitlines(keepends=True)
            lines.append("  - " + block[0])
            lines += ["    " + line if line.strip() else line for line in block[1:]]
    return "".join(lines)


def _block(value: dict[str, Any]) -> str:
    """One key a line; what lies within is on one line where it is flat."""
    return _dumped(value, flow=None, width=_WIDTH)


def _dumped(value: Any, *, flow: bool | None, width: int) -> str:
    dumper = Dumper(StringIO(), default_flow_style=flow, sort_keys=False)
    try:
        node = dumper.represent_data(_escaped(value))
    except yaml.representer.RepresenterError as error:
        raise UsageError(f"expected values that YAML can hold, got {error.args[-1]!r}") from None
    if flow is None and isinstance(node, yaml.MappingNode):
        node.flow_style = False
    return str(yaml.serialize(node, Dumper=Dumper, allow_unicode=True, width=width))


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return escaped(value) if isinstance(value, str) else value
