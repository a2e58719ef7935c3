"""Pipelines as data: the spec, its YAML and DSL, validation, graph views."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamapipe.spec.conditions import Condition, Measure
    from llamapipe.spec.dsl import (
        BoxesStage,
        ClassesStage,
        EventsStage,
        FramesStage,
        PipelineBuilder,
        StageHandle,
        TracksStage,
    )
    from llamapipe.spec.dumper import dump_yaml
    from llamapipe.spec.graph import (
        feeds_hiding,
        graph_of,
        hides_upstream,
        levels,
        split_selector,
        topological,
        upstream,
    )
    from llamapipe.spec.knob_values import PLACEMENTS
    from llamapipe.spec.knobs import knob_names, split_knobs
    from llamapipe.spec.loader import Loaded, Location, load_yaml, read_yaml
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
    from llamapipe.spec.ports import BoxesPort, ClassesPort, EventsPort, FramesPort, PortRef, TracksPort
    from llamapipe.spec.prices import CORE_SECONDS, DevicePrice, Prices, load_prices
    from llamapipe.spec.resolve import SinkLike, resolve_types
    from llamapipe.spec.schema import json_schema
    from llamapipe.spec.sets import apply_sets
    from llamapipe.spec.slo_text import format_slo, parse_slo
    from llamapipe.spec.validation import validate
    from llamapipe.spec.views import dot, mermaid, tree
    from llamapipe.spec.when import Atom, When, parse_when

__all__ = [
    "CORE_SECONDS",
    "PLACEMENTS",
    "FIRST_PORT",
    "SOURCE",
    "AccuracyFloor",
    "Atom",
    "BoxesPort",
    "BoxesStage",
    "ClassesPort",
    "ClassesStage",
    "Condition",
    "DevicePrice",
    "EventsPort",
    "EventsStage",
    "FramesPort",
    "FramesStage",
    "Loaded",
    "Location",
    "Measure",
    "OpSpec",
    "OverloadPolicy",
    "PipelineBuilder",
    "PipelineSpec",
    "PortRef",
    "Prices",
    "Selector",
    "SinkLike",
    "SinkSpec",
    "SloSpec",
    "StageHandle",
    "TracksPort",
    "TracksStage",
    "When",
    "apply_sets",
    "dot",
    "dump_yaml",
    "feeds_hiding",
    "format_slo",
    "graph_of",
    "hides_upstream",
    "knob_names",
    "json_schema",
    "levels",
    "load_prices",
    "load_yaml",
    "mermaid",
    "parse_slo",
    "parse_when",
    "read_yaml",
    "resolve_types",
    "split_knobs",
    "split_selector",
    "topological",
    "tree",
    "upstream",
    "validate",
]

_HOMES = {
    "conditions": ("Condition", "Measure"),
    "dsl": (
        "BoxesStage",
        "ClassesStage",
        "EventsStage",
        "FramesStage",
        "PipelineBuilder",
        "StageHandle",
        "TracksStage",
    ),
    "dumper": ("dump_yaml",),
    "graph": ("feeds_hiding", "graph_of", "hides_upstream", "levels", "split_selector", "topological", "upstream"),
    "knob_values": ("PLACEMENTS",),
    "knobs": ("knob_names", "split_knobs"),
    "loader": ("Loaded", "Location", "load_yaml", "read_yaml"),
    "model": (
        "FIRST_PORT",
        "SOURCE",
        "AccuracyFloor",
        "OpSpec",
        "OverloadPolicy",
        "PipelineSpec",
        "Selector",
        "SinkSpec",
        "SloSpec",
    ),
    "ports": ("BoxesPort", "ClassesPort", "EventsPort", "FramesPort", "PortRef", "TracksPort"),
    "prices": ("CORE_SECONDS", "DevicePrice", "Prices", "load_prices"),
    "resolve": ("SinkLike", "resolve_types"),
    "schema": ("json_schema",),
    "sets": ("apply_sets",),
    "slo_text": ("format_slo", "parse_slo"),
    "validation": ("validate",),
    "views": ("dot", "mermaid", "tree"),
    "when": ("Atom", "When", "parse_when"),
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        for module, names in _HOMES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
