"""JSON Schema of the YAML format, for completion and checks in editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from llamapipe.operator import REQUIRED, Manifest, Param, Port, PortKind
from llamapipe.spec.knob_values import PLACEMENTS, PRECISIONS
from llamapipe.spec.knobs import knob_names
from llamapipe.spec.model import AccuracyFloor, OverloadPolicy, SloSpec
from llamapipe.spec.names import resolve_type, short_type
from llamapipe.spec.resolve import SinkLike

__all__ = ["json_schema"]

_NAME = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]*$"}
_REFERENCE = {"type": "string", "pattern": r"\$\{"}
_TYPES: Mapping[type, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
}
_SIZE = {"type": "integer", "minimum": 1}
_KNOBS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "task": ("What to find, such as person-detection; llamapipe picks a model that does it.", {"type": "string"}),
    "labels": (
        "Labels to keep, all where left out; of your own model all it knows: a list, coco, or a text file.",
        {
            "oneOf": [
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
                {"type": "string", "pattern": r"^coco$|\.[tT][xX][tT]$"},
            ]
        },
    ),
    "decoder": ("How to read the outputs of your own model.", {"type": "string"}),
    "model": ("A model by name, or the path of your own ONNX file.", {"type": "string"}),
    "backend": ("Inference library.", {"type": "string"}),
    "device": ("Where inference runs.", {"type": "string"}),
    "precision": ("Numeric precision of inference.", {"enum": list(PRECISIONS)}),
    "input_size": (
        "Pixels of the model's input: one number, or [height, width].",
        {"oneOf": [_SIZE, {"type": "array", "items": _SIZE, "minItems": 2, "maxItems": 2}]},
    ),
    "batch": ("Items in one call.", _SIZE),
    "threads": ("Threads of one call.", _SIZE),
    "sample_fps": ("Work on so many frames a second only.", {"type": "number", "exclusiveMinimum": 0}),
    "skip_still": (
        "Hold the last results while less than this share of the picture changes; 0: never.",
        {"type": "number", "minimum": 0, "maximum": 1},
    ),
    "placement": (
        "Where it runs: in a thread of the engine's process, or in a process of its own.",
        {"enum": list(PLACEMENTS)},
    ),
    "min_score": ("Drop what the model is less sure of.", {"type": "number", "minimum": 0, "maximum": 1}),
}


def json_schema(manifests: Mapping[str, Manifest], sinks: Mapping[str, SinkLike]) -> dict[str, Any]:
    """The schema (draft 2020-12) of pipelines made of these operators and sinks, both by full type.

    A value may always be a reference such as ``${params.x}`` instead. What needs the whole graph (port kinds, cycles)
    is for `validate`.
    """
    ops = [_op(manifest, manifests) for _, manifest in sorted(manifests.items())]
    sink_entries = [_sink(sink, sinks) for _, sink in sorted(sinks.items())]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "llamapipe pipeline",
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "ops"],
        "properties": {
            "version": {"const": 1, "description": "Version of this format."},
            "name": _or_reference(_NAME) | {"description": "What the pipeline is called."},
            "description": {"type": ["string", "null"]},
            "params": {
                "type": ["object", "null"],
                "description": "Parameters with their defaults: ${params.NAME} anywhere below. null: must be given.",
            },
            "include": {
                "description": "Files whose params and ops are taken in, relative to this one.",
                "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            },
            "slo": {
                "description": "How fast: one latency or a deadline.",
                "oneOf": [{"type": "string"}, _of_model(SloSpec), {"type": "null"}],
            },
            "accuracy": {
                "description": "How right.",
                "oneOf": [_of_model(AccuracyFloor), {"type": "null"}],
            },
            "on_overload": {"enum": [*get_args(OverloadPolicy), None], "description": "What gives way under load."},
            "ops": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/op"}, "description": "Stages."},
            "sinks": {
                "type": ["array", "null"],
                "items": {"$ref": "#/$defs/sink"},
                "description": "Where results go.",
            },
        },
        "$defs": {
            "selector": {
                "type": "string",
                "pattern": r"^\$source\.frames$|^\$ops\.[A-Za-z][A-Za-z0-9_-]*\.[A-Za-z][A-Za-z0-9_]*$|\$\{",
                "description": "$source.frames or $ops.STAGE.PORT",
            },
            "selectors": {
                "oneOf": [
                    {"$ref": "#/$defs/selector"},
                    {"type": "array", "items": {"$ref": "#/$defs/selector"}},
                ]
            },
            "op": {"type": "object", "required": ["name", "type"], "oneOf": ops},
            "sink": {"type": "object", "required": ["type"], "oneOf": sink_entries},
        },
    }


def _op(manifest: Manifest, known: Mapping[str, Manifest]) -> dict[str, Any]:
    ports = {name: _port(port) for name, port in manifest.inputs.items()}
    wanted = [name for name, port in manifest.inputs.items() if not port.optional]
    named: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": ports}
    if wanted:
        named["required"] = wanted
    properties: dict[str, Any] = {
        "name": _or_reference(_NAME) | {"description": "What the stage is called."},
        "type": _type(manifest.type, known),
        "inputs": {"oneOf": [{"$ref": "#/$defs/selectors"}, named]},
        "when": {
            "type": ["string", "null"],
            "description": 'Condition: count($ops.people.boxes, label == "person") >= 1',
        },
    }
    if manifest.hides:
        del properties["when"]
    for key in knob_names(manifest):
        if key == "sample_fps" and any(port.kind is PortKind.FRAMES for port in manifest.outputs.values()):
            continue  # its pictures could not be held over to the frames in between
        doc, schema = _KNOBS[key]
        properties[key] = _or_reference(schema, null=True) | {"description": doc}
        if key in manifest.defaults:
            properties[key]["default"] = manifest.defaults[key]
    properties |= {key: _param(param) for key, param in manifest.params.items()}
    required = ["name", "type", *(key for key, param in manifest.params.items() if param.required)]
    return {
        "title": manifest.type,
        "description": manifest.doc.strip().split("\n\n")[0],
        "type": "object",
        "additionalProperties": False,
        "required": [*required, *(["inputs"] if wanted else [])],
        "properties": properties,
    }


def _sink(sink: SinkLike, known: Mapping[str, SinkLike]) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "name": _or_reference(_NAME) | {"description": "What the sink is called; its type where left out."},
        "type": _type(sink.type, known),
        "input": {"$ref": "#/$defs/selectors"},
        "inputs": {"$ref": "#/$defs/selectors"},
        "path": {"type": ["string", "null"], "description": "File or folder, relative to the output folder."},
    }
    properties |= {key: _param(param) for key, param in sink.params.items()}
    return {
        "title": sink.type,
        "type": "object",
        "additionalProperties": False,
        "required": ["type", *(key for key, param in sink.params.items() if param.required)],
        "oneOf": [{"required": ["input"]}, {"required": ["inputs"]}],
        "properties": properties,
    }


def _type(full: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Every way to write a type that means this one: exactly one operator fits a stage."""
    short = short_type(full)
    namespace, version = full.split("/", 1)[0], full.rsplit("@", 1)[-1]
    written = (full, short, f"{short}@{version}", f"{namespace}/{short}")
    return {"enum": [text for text in dict.fromkeys(written) if resolve_type(text, known) == full]}


def _port(port: Port) -> dict[str, Any]:
    described = f"{port.kind}: {port.doc}" if port.doc else str(port.kind)
    one = "selectors" if port.many else "selector"
    if port.many:
        return {"$ref": f"#/$defs/{one}", "description": described}
    single = {"type": "array", "items": {"$ref": "#/$defs/selector"}, "maxItems": 1}
    return {"oneOf": [{"$ref": f"#/$defs/{one}"}, single], "description": described}


def _param(param: Param) -> dict[str, Any]:
    schema: dict[str, Any] = {"enum": list(param.choices)} if param.choices else {"type": _TYPES[param.type]}
    if param.minimum is not None:
        schema["minimum"] = param.minimum
    if param.maximum is not None:
        schema["maximum"] = param.maximum
    found = _or_reference(schema, null=param.default is None)
    if param.doc:
        found["description"] = param.doc
    if param.default is not REQUIRED and param.default is not None:
        found["default"] = list(param.default) if isinstance(param.default, tuple) else param.default
    return found


def _or_reference(schema: Mapping[str, Any], *, null: bool = False) -> dict[str, Any]:
    choices = [dict(schema), dict(_REFERENCE)]
    return {"anyOf": [*choices, {"type": "null"}] if null else choices}


def _of_model(model: type[SloSpec] | type[AccuracyFloor]) -> dict[str, Any]:
    schema = model.model_json_schema()
    properties = {}
    for key, found in schema["properties"].items():
        typed = next((one for one in found.get("anyOf", ()) if one.get("type") != "null"), None)
        kept = typed or {name: found[name] for name in found if name not in ("title", "description", "default")}
        properties[key] = _or_reference(kept, null=typed is not None)
        if "description" in found:
            properties[key]["description"] = found["description"]
    required = schema.get("required", [])
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": required}
