"""Operators: a small class, or a decorated function.

    @operator("acme/brightness@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
    def brightness(frames: Image, *, threshold: float = 40.0) -> Events:
        '''Say when the picture is dark.'''

A class gives a `Manifest` and ``process``. Inputs and outputs are dicts by port name; boxes are in the pixels of
the first frames input (source pixels where there is none): the runtime maps them there and back.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias, cast

from llamapipe.data import Boxes, Events, Image
from llamapipe.errors import UsageError
from llamapipe.operator.manifest import REQUIRED, Filtered, Manifest, Param, Port, PortKind, State

__all__ = ["Context", "Inputs", "Operator", "Outputs", "Predictor", "Value", "operator"]

Value: TypeAlias = Image | Boxes | Events
"""What one item on a port is."""

Inputs: TypeAlias = Mapping[str, Any]
"""Port name to `Value`."""

Outputs: TypeAlias = Mapping[str, Any]
"""Port name to `Value`, or to a list of Image on a fan-out's frames output."""


class Predictor(Protocol):
    """A loaded variant: pictures in, boxes out. Made by ``inference``, handed to operators by the runtime."""

    @property
    def names(self) -> Sequence[str]:
        """Label table of the model."""
        ...

    def predict(self, images: Sequence[Image]) -> Sequence[Boxes]:
        """Boxes (or Classes) per picture, in the picture's own pixels, best score first."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What the runtime hands to an operator when it is made."""

    stage: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)  # every declared parameter, defaults filled in
    predictor: Predictor | None = None  # set where the manifest says uses_model
    stream: str = ""  # set for per-stream operators
    width: int = 0  # of the stream's pictures, pixels; 0 where several streams share the operator
    height: int = 0
    fps: float = 0.0  # nominal frames per second of the stream; 0 unknown
    feeds_hiding: bool = False  # what this operator leaves out, a later one would not hide: raise instead


class Operator:
    """Base of class operators. Made once per replica (stateless) or per stream (stateful), used by one thread."""

    manifest: ClassVar[Manifest]

    def __init__(self, context: Context) -> None:
        given: object = context
        if not isinstance(given, Context):  # called like the built-in stages of the DSL
            type_name = self.manifest.type
            raise UsageError(
                f"operator {type_name} was called with a {type(given).__name__}, expected the runtime's Context",
                hint=f"to put it into a pipeline: pipeline.add({type_name!r}, inputs=..., outputs=...)",
            )
        self.context = context
        self.params = context.params

    @classmethod
    def warm_up(cls) -> None:
        """Import what takes long. Called while a replica loads, so that no frame waits for it."""

    def process(self, inputs: Inputs) -> Outputs | Filtered:
        """Turn one item's inputs into its outputs, by port name; FILTERED ends the frame here."""
        raise NotImplementedError(f"{type(self).__name__} must define process() or process_batch()")

    def process_batch(self, batch: Sequence[Inputs]) -> Sequence[Outputs | Filtered]:
        """Turn a batch into as many outputs, in order. Override where a batch is cheaper than its items."""
        return [self.process(inputs) for inputs in batch]

    def snapshot(self) -> Any:
        """State as plain data (dict, list, str, numbers, bytes) for a restart; None for a stateless one."""
        return None

    def restore(self, state: Any) -> None:
        """Take up what `snapshot` gave."""

    def close(self) -> None:
        """Let go of resources."""


def operator(
    type_name: str,
    /,
    *,
    inputs: Mapping[str, str | Port],
    outputs: Mapping[str, str | Port],
    state: State = State.NONE,
    fan_out: bool = False,
    filters: bool = False,
    hides: bool = False,
) -> Callable[[Callable[..., Any]], type[Operator]]:
    """Make an operator of a function: inputs by name, parameters as keyword-only arguments with defaults.

    The function returns the value of its only output, a dict by port name where there are several, or FILTERED.
    Raises ValueError where the signature does not fit the ports.
    """

    def decorate(function: Callable[..., Any]) -> type[Operator]:
        ports_in = {name: _port(port) for name, port in inputs.items()}
        ports_out = {name: _port(port) for name, port in outputs.items()}
        params: dict[str, Param] = {}
        signature = inspect.signature(function, eval_str=True)
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                params[name] = _param(name, parameter)
            elif name not in ports_in:
                raise ValueError(
                    f"{type_name}: argument {name!r} is no input port; make it keyword-only if it is a parameter"
                )
        missing = [name for name in ports_in if name not in signature.parameters]
        if missing:
            raise ValueError(f"{type_name}: the function takes no argument for input {', '.join(missing)}")
        only = next(iter(ports_out)) if len(ports_out) == 1 else None

        class FunctionOperator(Operator):
            manifest = Manifest(
                type=type_name,
                doc=inspect.getdoc(function) or "",
                inputs=ports_in,
                outputs=ports_out,
                params=params,
                state=state,
                fan_out=fan_out,
                filters=filters,
                hides=hides,
            )

            def process(self, inputs: Inputs) -> Outputs | Filtered:
                result = function(**inputs, **self.params)
                if isinstance(result, Filtered):
                    return result
                if only is not None and not isinstance(result, dict):
                    return {only: result}
                return cast(Outputs, result)

        FunctionOperator.__name__ = FunctionOperator.__qualname__ = function.__name__
        FunctionOperator.__module__ = function.__module__
        FunctionOperator.__doc__ = function.__doc__
        return FunctionOperator

    return decorate


def _port(port: str | Port) -> Port:
    return port if isinstance(port, Port) else Port(PortKind(port))


def _param(name: str, parameter: inspect.Parameter) -> Param:
    default = REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default
    annotation = parameter.annotation
    kinds = (str, int, float, bool, list, dict)
    if annotation in kinds:
        return Param(annotation, default)
    origin = getattr(annotation, "__origin__", None)
    if origin in (list, dict):
        return Param(origin, default)
    if default is not REQUIRED and isinstance(default, kinds):
        return Param(type(default), default)
    raise ValueError(f"parameter {name!r} needs a type: one of str, int, float, bool, list, dict")
