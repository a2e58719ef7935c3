"""Pipelines as data: the spec, its YAML and DSL, validation, graph views."""

from llamapipe.spec.graph import graph_of, hides_upstream, levels, split_selector, topological, upstream
from llamapipe.spec.knobs import knob_names, split_knobs
from llamapipe.spec.model import (
    SOURCE,
    AccuracyFloor,
    OpSpec,
    OverloadPolicy,
    PipelineSpec,
    Selector,
    SinkSpec,
    SloSpec,
)
from llamapipe.spec.when import Atom, When, parse_when

__all__ = [
    "SOURCE",
    "AccuracyFloor",
    "Atom",
    "OpSpec",
    "OverloadPolicy",
    "PipelineSpec",
    "Selector",
    "SinkSpec",
    "SloSpec",
    "When",
    "graph_of",
    "hides_upstream",
    "knob_names",
    "levels",
    "parse_when",
    "split_knobs",
    "split_selector",
    "topological",
    "upstream",
]
