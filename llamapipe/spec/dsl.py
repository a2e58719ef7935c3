"""Pipelines in Python: the same spec that YAML makes, typed, with stages as variables.

    with PipelineBuilder("blur-faces", slo="p95<=200ms", min_accuracy=0.9) as pipeline:
        people = detect(pipeline.frames, task="person-detection")
        faces = detect(crop(pipeline.frames, people.boxes), task="face-detection")
        pipeline.sink("video", blur(pipeline.frames, faces.boxes))

``detect``, ``crop`` and ``blur`` are thin functions over `PipelineBuilder.add`, one for each operator. A port carries
its pipeline, so such a function needs no other argument:

    def detect(frames: FramesPort, *, name: str | None = None, task: str | None = None, ...) -> BoxesStage:
        return frames.builder.add(
            "llamapipe/detect@v1", name=name, inputs={"frames": frames}, outputs={"boxes": "boxes"},
            handle=BoxesStage, task=task, ...
        )
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from enum import Enum
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, get_args

from llamapipe.errors import UsageError
from llamapipe.operator import PortKind
from llamapipe.spec.accuracy_text import parse_floor
from llamapipe.spec.conditions import Condition
from llamapipe.spec.model import AccuracyFloor, OpSpec, OverloadPolicy, PipelineSpec, SinkSpec, SloSpec
from llamapipe.spec.names import NAME_RULE, did_you_mean, is_name, short_type, unique_name
from llamapipe.spec.ports import BoxesPort, ClassesPort, EventsPort, FramesPort, PortRef, TracksPort, port_class
from llamapipe.spec.reader import Location
from llamapipe.spec.slo_text import parse_slo, slo_problem

__all__ = [
    "BoxesStage",
    "ClassesStage",
    "EventsStage",
    "FramesStage",
    "PipelineBuilder",
    "StageHandle",
    "TracksStage",
]

_OWN_PACKAGES = ("llamapipe", "llamapipe_operators", "llamapipe_pipelines")

_OUTPUTS = tuple(kind.value for kind in PortKind)

_Port = TypeVar("_Port", bound=PortRef)
_Stage = TypeVar("_Stage", bound="StageHandle")


class StageHandle:
    """A stage that was added: its name and its outputs.

    Its subclasses have an attribute for each output that they give, and no other: an editor completes what is there,
    and a type checker refuses what is not.
    """

    def __init__(self, builder: PipelineBuilder, name: str, type: str, outputs: Mapping[str, PortRef]) -> None:
        self.builder = builder
        self.name = name
        self.type = type
        self.outputs = dict(outputs)

    def port(self, name: str) -> PortRef:
        """An output by name; raises UsageError where there is none of that name."""
        try:
            return self.outputs[name]
        except KeyError:
            raise UsageError(
                f"stage {self.name} ({self.type}) has no output {name!r}", hint=did_you_mean(name, self.outputs)
            ) from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.type!r}, outputs={', '.join(self.outputs)})"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            outputs = vars(self).get("outputs", {})
            if name in outputs:
                return outputs[name]
            if name not in _OUTPUTS:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            gives = " and ".join(outputs) or "nothing"
            raise UsageError(f"stage {self.name} ({self.type}) gives {gives}, not {name}")


def _typed(stage: StageHandle, name: str, kind: type[_Port]) -> _Port:
    port = stage.port(name)
    if not isinstance(port, kind):
        raise UsageError(f"stage {stage.name}: output {name} carries {port.kind}, expected {kind.kind}")
    return port


class FramesStage(StageHandle):
    """A stage that gives ``frames``."""

    @property
    def frames(self) -> FramesPort:
        """The pictures."""
        return _typed(self, "frames", FramesPort)


class BoxesStage(StageHandle):
    """A stage that gives ``boxes``."""

    @property
    def boxes(self) -> BoxesPort:
        """The boxes."""
        return _typed(self, "boxes", BoxesPort)


class TracksStage(StageHandle):
    """A stage that gives ``tracks``."""

    @property
    def tracks(self) -> TracksPort:
        """The boxes with their ids."""
        return _typed(self, "tracks", TracksPort)


class ClassesStage(StageHandle):
    """A stage that gives ``classes``."""

    @property
    def classes(self) -> ClassesPort:
        """The labels of pictures."""
        return _typed(self, "classes", ClassesPort)


class EventsStage(StageHandle):
    """A stage that gives ``events``."""

    @property
    def events(self) -> EventsPort:
        """The events."""
        return _typed(self, "events", EventsPort)


class PipelineBuilder:
    """Collects stages and sinks; `spec` gives the pipeline. Use it with ``with`` or without."""

    def __init__(
        self,
        name: str,
        *,
        slo: str | SloSpec | None = None,
        min_accuracy: float | str | AccuracyFloor | None = None,
        degraded_accuracy: float | None = None,
        description: str = "",
        on_overload: OverloadPolicy | None = None,
    ) -> None:
        """Start a pipeline. ``slo`` as text is read by `parse_slo`: ``p95<=200ms``, ``deadline=5m, drops=1%``.

        ``min_accuracy`` as a number (0..1) is agreement with the best configuration that can be had; a text names
        another metric, ``coco_ap >= 0.25``. ``degraded_accuracy`` (0..1, of the same metric) is how low
        ``on_overload="degrade"`` may go; an `AccuracyFloor` has all three. Raises UsageError for a name, objective or
        accuracy that cannot be.
        """
        _check_name("pipeline", name)
        self.name = name
        self.description = description
        if slo is not None and not isinstance(slo, str | SloSpec):
            raise UsageError(
                f"pipeline {name}: slo: expected a text or an SloSpec, got {slo!r}", hint="for example slo='p95<=200ms'"
            )
        self.slo = parse_slo(slo) if isinstance(slo, str) else slo
        problem = slo_problem(self.slo) if self.slo is not None else None
        if problem is not None:
            raise UsageError(f"pipeline {name}: slo: {problem}")
        self.accuracy = _floor(min_accuracy, degraded_accuracy, f"pipeline {name}")
        if on_overload is not None and on_overload not in get_args(OverloadPolicy):
            raise UsageError(
                f"pipeline {name}: on_overload: expected one of {', '.join(get_args(OverloadPolicy))}, "
                f"got {on_overload!r}"
            )
        self.on_overload = on_overload
        self._ops: list[OpSpec] = []
        self._sinks: list[SinkSpec] = []
        self._locations: dict[Location, str] = {("name",): _caller()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    @property
    def locations(self) -> Mapping[Location, str]:
        """Where in the user's code each part was made, ``file.py:line``: for `validate`."""
        return dict(self._locations)

    @property
    def frames(self) -> FramesPort:
        """The source's frames."""
        return FramesPort(self, "", "frames")

    def add(
        self,
        type: str,
        *,
        name: str | None = None,
        inputs: Mapping[str, PortRef | StageHandle | Sequence[PortRef | StageHandle] | None],
        outputs: Mapping[str, PortKind | str],
        when: str | Condition | None = None,
        handle: type[_Stage] = StageHandle,  # type: ignore[assignment]  # left out, it is the plain one
        **params: Any,
    ) -> _Stage:
        """Add a stage; what every operator's function is made of.

        ``type`` is the operator's, in full (``llamapipe/detect@v1``). ``inputs`` maps its input ports to ports of this
        pipeline (a stage with one output stands for that output; None: left unconnected), ``outputs`` its output
        ports to their kinds. ``params`` are parameters and knobs alike; one that is None is left out, so that
        llamapipe or the operator chooses. ``handle`` is the class of what comes back, `BoxesStage` for an operator
        that gives boxes: type checkers know its outputs then. Without ``name`` the stage is called after its
        operator: detect, detect-2.

        Raises UsageError for a taken or bad name, ports of another pipeline, and values that YAML has no word for.
        """
        taken = [op.name for op in self._ops]
        stage = unique_name(short_type(type), taken) if name is None else name
        _check_name("stage", stage)
        if stage in taken:
            raise UsageError(f"stage name {stage!r} is taken", hint="give one of them another name")
        op = OpSpec(
            name=stage,
            type=type,
            inputs={
                port: tuple(self._selector(one, f"stage {stage}: input {port}") for one in _several(given))
                for port, given in inputs.items()
                if given is not None
            },
            when=self._when(when, stage),
            params=_plain_params(params, f"stage {stage}"),
        )
        ports: dict[str, PortRef] = {}
        for port, kind in outputs.items():
            try:
                ports[port] = port_class(kind)(self, stage, port)
            except ValueError:
                kinds = ", ".join(kind.value for kind in PortKind)
                raise UsageError(f"stage {stage}: output {port}: expected one of {kinds}, got {kind!r}") from None
        self._locations["ops", len(self._ops)] = _caller()
        self._ops.append(op)
        return handle(self, stage, type, ports)

    def sink(
        self,
        kind: str,
        *ports: PortRef | StageHandle,
        name: str | None = None,
        path: str | PathLike[str] | None = None,
        **params: Any,
    ) -> None:
        """Write these ports somewhere: ``pipeline.sink("video", blurred, path="blurred.mp4")``.

        ``kind`` is a sink type, short or in full; ``path`` is relative to the output folder. A stage stands for all of
        its outputs. Raises UsageError as `add` does.
        """
        taken = [sink.name for sink in self._sinks]
        called = unique_name(short_type(kind), taken) if name is None else name
        _check_name("sink", called)
        if called in taken:
            raise UsageError(f"sink name {called!r} is taken", hint="give one of them another name")
        given = [one for port in ports for one in (port.outputs.values() if isinstance(port, StageHandle) else [port])]
        if not given:
            raise UsageError(f"sink {called}: expected at least one port, got none")
        self._locations["sinks", len(self._sinks)] = _caller()
        self._sinks.append(
            SinkSpec(
                name=called,
                type=kind,
                inputs=tuple(self._selector(port, f"sink {called}") for port in given),
                path=None if path is None else str(path),
                params=_plain_params(params, f"sink {called}"),
            )
        )

    def spec(self) -> PipelineSpec:
        """The pipeline so far."""
        return PipelineSpec(
            name=self.name,
            description=self.description,
            slo=self.slo,
            accuracy=self.accuracy,
            on_overload=self.on_overload,
            ops=tuple(self._ops),
            sinks=tuple(self._sinks),
        )

    def _selector(self, given: PortRef | StageHandle, what: str) -> str:
        if isinstance(given, StageHandle):
            if len(given.outputs) != 1:
                raise UsageError(
                    f"{what}: expected a port, got stage {given.name} with {len(given.outputs)} outputs",
                    hint=f"name one: {', '.join(given.outputs)}",
                )
            given = next(iter(given.outputs.values()))
        if not isinstance(given, PortRef):
            raise UsageError(f"{what}: expected a port such as pipeline.frames, got {given!r}")
        if given.builder is not self:
            raise UsageError(
                f"{what}: {given.selector} belongs to pipeline {given.builder.name!r}, expected one of {self.name!r}"
            )
        return given.selector

    def _when(self, when: str | Condition | None, stage: str) -> str | None:
        if when is None or isinstance(when, str):
            return when
        if not isinstance(when, Condition):
            raise UsageError(
                f"stage {stage}: when: expected a condition, got {when!r}",
                hint="for example when=people.boxes.count() >= 1",
            )
        if when.builder is not self:
            raise UsageError(f"stage {stage}: when: {when.text!r} asks about another pipeline")
        return when.text


def _caller() -> str:
    """Where the code that uses llamapipe and its operators' functions stands."""
    frame = inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] in _OWN_PACKAGES:
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _floor(least: float | str | AccuracyFloor | None, degraded: float | None, what: str) -> AccuracyFloor | None:
    floor = least if least is None or isinstance(least, AccuracyFloor) else parse_floor(least, f"{what}: min_accuracy")
    if degraded is None:
        return floor
    if floor is None:
        raise UsageError(
            f"{what}: degraded_accuracy={degraded!r}: there is no min_accuracy that it is the exception to",
            hint="for example min_accuracy=0.9, degraded_accuracy=0.7",
        )
    if floor.degraded is not None:
        raise UsageError(
            f"{what}: degraded_accuracy={degraded!r}, and min_accuracy has {floor.degraded:g}", hint="keep one of them"
        )
    if isinstance(degraded, bool | str) or not hasattr(degraded, "__float__") or not 0 <= float(degraded) <= 1:
        raise UsageError(f"{what}: degraded_accuracy: expected a number from 0 to 1, got {degraded!r}")
    return floor.model_copy(update={"degraded": float(degraded)})


def _check_name(what: str, name: str) -> None:
    if not is_name(name):
        raise UsageError(f"{what} name: expected {NAME_RULE}, got {name!r}")


def _several(given: Any) -> Sequence[PortRef | StageHandle]:
    return given if isinstance(given, list | tuple) else [given]


def _plain_params(params: Mapping[str, Any], what: str) -> dict[str, Any]:
    return {key: _plain(value, f"{what}: {key}") for key, value in params.items() if value is not None}


def _plain(value: Any, what: str) -> Any:
    """A value as YAML would give it back: texts, numbers, lists, mappings."""
    if isinstance(value, Enum):
        return _plain(value.value, what)
    if isinstance(value, str):
        return str(value)
    if hasattr(value, "tolist"):  # numpy arrays and scalars, of which some are floats
        return value.tolist()
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, PathLike):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item, what) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, what) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(_plain(item, what) for item in value)
    raise UsageError(f"{what}: expected a text, number, list or mapping, got {type(value).__name__} {value!r}")
