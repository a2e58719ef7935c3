"""Pipelines as data: the spec, its YAML and DSL, validation, graph views."""

from llamapipe.spec.dumper import dump_yaml
from llamapipe.spec.graph import graph_of, hides_upstream, levels, split_selector, topological, upstream
from llamapipe.spec.knobs import knob_names, split_knobs
from llamapipe.spec.loader import Loaded, Location, load_yaml
from llamapipe.spec.model import (
    FIRST_PORT,
    SOURCE,
    AccuracyFloor,
    OpSpec,
    OverloadPolicy,
    PipelineSpec,
    Selector,
    SinkSpec,
    SloSpec,
)
from llamapipe.spec.resolve import SinkLike, resolve_types
from llamapipe.spec.slo_text import format_slo, parse_slo
from llamapipe.spec.validate import validate
from llamapipe.spec.when import Atom, When, parse_when

__all__ = [
    "FIRST_PORT",
    "SOURCE",
    "AccuracyFloor",
    "Atom",
    "Loaded",
    "Location",
    "OpSpec",
    "OverloadPolicy",
    "PipelineSpec",
    "Selector",
    "SinkLike",
    "SinkSpec",
    "SloSpec",
    "When",
    "dump_yaml",
    "format_slo",
    "graph_of",
    "hides_upstream",
    "knob_names",
    "levels",
    "load_yaml",
    "parse_slo",
    "parse_when",
    "resolve_types",
    "split_knobs",
    "split_selector",
    "topological",
    "upstream",
    "validate",
]
