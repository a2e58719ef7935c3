"""The authoring API: what an operator is, for built-in and third-party ones alike."""

from llamapipe.operator.authoring import Context, Inputs, Operator, Outputs, Predictor, Value, operator
from llamapipe.operator.manifest import (
    FILTERED,
    REQUIRED,
    Filtered,
    Knob,
    Manifest,
    Param,
    Port,
    PortKind,
    State,
)
from llamapipe.operator.registry import Registry, file_being_imported, import_file, load_registry

__all__ = [
    "FILTERED",
    "REQUIRED",
    "Context",
    "Filtered",
    "Inputs",
    "Knob",
    "Manifest",
    "Operator",
    "Outputs",
    "Param",
    "Port",
    "PortKind",
    "Predictor",
    "Registry",
    "State",
    "Value",
    "file_being_imported",
    "import_file",
    "load_registry",
    "operator",
]
