"""The graph of a spec: order, levels, what lies upstream.

networkx takes long to import; a worker process, which only wants conditions, does without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from llamapipe.errors import Problem, SpecError
from llamapipe.operator import Manifest
from llamapipe.spec.model import OpSpec, PipelineSpec
from llamapipe.spec.when import parse_when

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["graph_of", "hides_upstream", "levels", "producers", "split_selector", "topological", "upstream"]


def split_selector(selector: str) -> tuple[str, str]:
    """(stage, port) of ``$ops.STAGE.PORT``; the stage is empty for ``$source.frames``."""
    parts = selector.split(".")
    if parts[0] == "$source" and len(parts) == 2:
        return "", parts[1]
    if parts[0] == "$ops" and len(parts) == 3:
        return parts[1], parts[2]
    raise SpecError(
        [Problem("selector", f"selector {selector!r}: expected $source.frames or $ops.STAGE.PORT, got {selector!r}")]
    )


def producers(op: OpSpec) -> Iterator[str]:
    """Names of the stages that an op reads from, those of its ``when`` included."""
    for selectors in op.inputs.values():
        for selector in selectors:
            stage, _ = split_selector(selector)
            if stage:
                yield stage
    if op.when:
        for atom in parse_when(op.when).atoms:
            yield atom.stage


def graph_of(spec: PipelineSpec) -> nx.DiGraph[str]:
    """Stages as nodes in the order written, an edge from producer to consumer."""
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(op.name for op in spec.ops)
    for op in spec.ops:
        graph.add_edges_from((producer, op.name) for producer in producers(op))
    return graph


def topological(spec: PipelineSpec) -> list[str]:
    """Stage names, producers first; among equals the order written. Raises SpecError for a cycle."""
    import networkx as nx

    order = {op.name: i for i, op in enumerate(spec.ops)}
    try:
        return list(nx.lexicographical_topological_sort(graph_of(spec), key=lambda name: order.get(name, -1)))
    except nx.NetworkXUnfeasible:
        cycle = [edge[0] for edge in nx.find_cycle(graph_of(spec))]
        path = " > ".join([*cycle, cycle[0]])
        raise SpecError([Problem("cycle", f"stages feed each other in a circle: {path}")]) from None


def levels(spec: PipelineSpec, manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """Per stage the fan-out stage whose items it works on one by one, or "" for one item a frame.

    A stage works at the level of its (first) frames input: on crops one by one, on frames one by one. Without a
    frames input it works a frame at a time. ``manifests`` is by stage name.
    """
    ops = {op.name: op for op in spec.ops}
    found: dict[str, str] = {}
    for name in topological(spec):
        op, manifest = ops[name], manifests[name]
        port = manifest.frames_input
        selectors = op.inputs.get(port, ()) if port is not None else ()
        producer = split_selector(selectors[0])[0] if selectors else ""
        if not producer:
            found[name] = ""
        elif manifests[producer].fan_out:
            found[name] = producer
        else:
            found[name] = found[producer]
    return found


def upstream(spec: PipelineSpec, selector: str) -> set[str]:
    """The stages that a selector's value was made by, its own included."""
    import networkx as nx

    stage, _ = split_selector(selector)
    return set() if not stage else nx.ancestors(graph_of(spec), stage) | {stage}


def feeds_hiding(spec: PipelineSpec, manifests: Mapping[str, Manifest]) -> set[str]:
    """Names of the stages above those that hide."""
    selectors = [s for op in spec.ops if manifests[op.name].hides for ports in op.inputs.values() for s in ports]
    return {stage for selector in selectors for stage in upstream(spec, selector)}


def hides_upstream(spec: PipelineSpec, manifests: Mapping[str, Manifest], selector: str) -> bool:
    """Whether what the selector gives has passed an operator that hides."""
    return any(manifests[stage].hides for stage in upstream(spec, selector))
