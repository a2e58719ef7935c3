"""A pipeline as a picture: a tree for the terminal, Mermaid and DOT for everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from llamapipe.operator import Manifest
from llamapipe.spec.graph import split_selector, topological
from llamapipe.spec.model import OpSpec, PipelineSpec, SinkSpec
from llamapipe.spec.names import resolve_type, short_type
from llamapipe.spec.slo_text import format_slo
from llamapipe.spec.when import parse_when

__all__ = ["dot", "mermaid", "tree"]

_SHOWN = ("task", "model", "labels", "min_score", "sample_fps", "skip_still")  # knobs worth a word in a picture


@dataclass(frozen=True, slots=True)
class _Edge:
    source: str  # stage; empty: the source
    port: str
    target: str  # stage, or sink where ``to_sink``
    style: Literal["data", "fan-out", "when"]
    to_sink: bool = False


def tree(spec: PipelineSpec, manifests: Mapping[str, Manifest] | None = None) -> str:
    """The pipeline as an indented tree, every stage once: below the last of those that it reads from.

    ``manifests`` (by operator type) is only needed to tell fan-outs. Raises SpecError for a spec with a cycle.
    """
    order = ["", *topological(spec)]
    edges = list(_edges(spec, manifests or {}))
    stages = {op.name: op for op in spec.ops}
    children: dict[str, list[tuple[str, bool]]] = {name: [] for name in order}
    for name in order[1:]:
        above = [edge.source for edge in edges if edge.target == name and not edge.to_sink]
        children[max(above, key=order.index, default="")].append((name, False))
    for sink in spec.sinks:
        above = [edge.source for edge in edges if edge.target == sink.name and edge.to_sink]
        children[max(above, key=order.index, default="")].append((sink.name, True))
    sinks = {sink.name: sink for sink in spec.sinks}
    lines = [_title(spec), "source"]

    def draw(parent: str, indent: str) -> None:
        for i, (name, is_sink) in enumerate(children[parent]):
            last = i == len(children[parent]) - 1
            told = _sink_words(sinks[name]) if is_sink else _words(stages[name], manifests or {})
            also = [
                edge
                for edge in edges
                if edge.target == name and edge.to_sink == is_sink and edge.source != parent and edge.style != "when"
            ]
            if also:
                told.append("reads " + ", ".join(dict.fromkeys(_plain(edge) for edge in also)) + " too")
            lines.append(f"{indent}{'└── ' if last else '├── '}{'  '.join(told)}")
            if not is_sink:
                draw(name, indent + ("    " if last else "│   "))

    draw("", "")
    return "\n".join(lines) + "\n"


def mermaid(spec: PipelineSpec, manifests: Mapping[str, Manifest] | None = None) -> str:
    """A Mermaid flowchart: thick edges fan out, dotted ones are conditions. See `tree` for ``manifests``."""
    ids = _ids(spec)
    lines = ["flowchart LR", "  source([source])"]
    for op in spec.ops:
        first, *rest = _words(op, manifests or {})
        text = "<br/>".join([f"<b>{_mermaid_text(first)}</b>", *map(_mermaid_text, rest)])
        lines.append(f'  {ids[op.name, False]}["{text}"]')
    for sink in spec.sinks:
        text = "<br/>".join(map(_mermaid_text, _sink_words(sink)))
        lines.append(f'  {ids[sink.name, True]}[/"{text}"/]')
    arrows = {"data": "-->", "fan-out": "==>", "when": "-.->"}
    for edge in _edges(spec, manifests or {}):
        label = f"{edge.port}, one each" if edge.style == "fan-out" else "when" if edge.style == "when" else edge.port
        source = ids[edge.source, False] if edge.source else "source"
        lines.append(f'  {source} {arrows[edge.style]}|"{_mermaid_text(label)}"| {ids[edge.target, edge.to_sink]}')
    return "\n".join(lines) + "\n"


def dot(spec: PipelineSpec, manifests: Mapping[str, Manifest] | None = None) -> str:
    """A Graphviz graph: bold edges fan out, dashed ones are conditions. See `tree` for ``manifests``."""
    ids = _ids(spec)
    lines = [
        f"digraph {_dot_text(spec.name)} {{",
        "  rankdir=LR;",
        '  node [shape=box, style=rounded, fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=10];',
        '  source [label="source", shape=oval];',
    ]
    for op in spec.ops:
        label = "\n".join(_words(op, manifests or {}))
        lines.append(f"  {ids[op.name, False]} [label={_dot_text(label)}];")
    for sink in spec.sinks:
        label = "\n".join(_sink_words(sink))
        lines.append(f"  {ids[sink.name, True]} [label={_dot_text(label)}, shape=note, style=solid];")
    styles = {"data": "", "fan-out": ", style=bold", "when": ", style=dashed"}
    for edge in _edges(spec, manifests or {}):
        label = f"{edge.port}, one each" if edge.style == "fan-out" else "when" if edge.style == "when" else edge.port
        source = ids[edge.source, False] if edge.source else "source"
        lines.append(f"  {source} -> {ids[edge.target, edge.to_sink]} [label={_dot_text(label)}{styles[edge.style]}];")
    return "\n".join([*lines, "}"]) + "\n"


def _ids(spec: PipelineSpec) -> dict[tuple[str, bool], str]:
    """Identifiers that no renderer takes for a word of its own (a stage may be called ``end``)."""
    ids = {(op.name, False): f"stage{i}" for i, op in enumerate(spec.ops)}
    return ids | {(sink.name, True): f"sink{i}" for i, sink in enumerate(spec.sinks)}


def _edges(spec: PipelineSpec, manifests: Mapping[str, Manifest]) -> Iterator[_Edge]:
    fan_outs = {op.name for op in spec.ops if _fans_out(op, manifests)}

    def edge(selector: str, target: str, *, to_sink: bool = False) -> _Edge:
        stage, port = split_selector(selector)
        return _Edge(stage, port, target, "fan-out" if stage in fan_outs else "data", to_sink)

    for op in spec.ops:
        for selector in dict.fromkeys(one for selectors in op.inputs.values() for one in selectors):
            yield edge(selector, op.name)
        if op.when is not None:
            for stage, port in dict.fromkeys((atom.stage, atom.port) for atom in parse_when(op.when).atoms):
                yield _Edge(stage, port, op.name, "when")
    for sink in spec.sinks:
        for selector in dict.fromkeys(sink.inputs):
            yield edge(selector, sink.name, to_sink=True)


def _fans_out(op: OpSpec, manifests: Mapping[str, Manifest]) -> bool:
    type_ = resolve_type(op.type, manifests)
    return type_ is not None and manifests[type_].fan_out


def _title(spec: PipelineSpec) -> str:
    facts = [format_slo(spec.slo)] if spec.slo is not None else []
    if spec.accuracy is not None:
        facts.append(f"accuracy>={spec.accuracy.min:g}")
    return f"{spec.name}  ({', '.join(facts)})" if facts else spec.name


def _words(op: OpSpec, manifests: Mapping[str, Manifest]) -> list[str]:
    """Name, operator, what is asked of it, when it runs."""
    words = [op.name] if op.name == short_type(op.type) else [op.name, short_type(op.type)]
    for key in _SHOWN:
        value = op.params.get(key)
        if value is not None:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            words.append(shown if key == "task" else f"{key}={shown}")
    if _fans_out(op, manifests):
        words.append("fans out")
    if op.when is not None:
        words.append(f"when {' '.join(op.when.split())}")
    return words


def _sink_words(sink: SinkSpec) -> list[str]:
    words = [sink.name] if sink.name == short_type(sink.type) else [sink.name, short_type(sink.type)]
    return [*words, sink.path] if sink.path else words


def _plain(edge: _Edge) -> str:
    return f"{edge.source or 'source'}.{edge.port}"


def _mermaid_text(text: str) -> str:
    for char, entity in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("\n", " ")):
        text = text.replace(char, entity)
    return text


def _dot_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
