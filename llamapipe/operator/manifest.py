"""What an operator declares about itself: ports, parameters, knobs, state, side effects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from math import isfinite
from typing import Any, Final

__all__ = ["FILTERED", "REQUIRED", "Filtered", "Knob", "Manifest", "Param", "Port", "PortKind", "State"]


class _Required(Enum):
    REQUIRED = "required"


REQUIRED: Final = _Required.REQUIRED
"""Default of a parameter that has none."""


class Filtered(Enum):
    """Type of `FILTERED`."""

    FILTERED = "filtered"


FILTERED: Final = Filtered.FILTERED
"""What an operator returns instead of outputs to end a frame's way here, on purpose and on the record."""


class PortKind(StrEnum):
    """What a port carries. A TRACKS output fits a BOXES input, as does a CLASSES output."""

    FRAMES = "frames"  # llamapipe.data.Image
    BOXES = "boxes"  # llamapipe.data.Boxes
    TRACKS = "tracks"  # llamapipe.data.Tracks
    CLASSES = "classes"  # llamapipe.data.Classes
    EVENTS = "events"  # llamapipe.data.Events

    def accepts(self, other: PortKind) -> bool:
        """Whether an input of this kind takes an output of ``other``."""
        return self is other or (self is PortKind.BOXES and other in (PortKind.TRACKS, PortKind.CLASSES))


class State(StrEnum):
    """Whether an operator remembers."""

    NONE = "none"  # any item, any order, any replica; may run twice
    PER_STREAM = "per_stream"  # one instance a stream, sees its stream in order


class Knob(StrEnum):
    """Knobs are named alike everywhere: YAML, DSL and --set. Left out, llamapipe chooses."""

    MODEL = "model"
    BACKEND = "backend"
    DEVICE = "device"
    PRECISION = "precision"
    INPUT_SIZE = "input_size"
    BATCH = "batch"
    THREADS = "threads"
    SAMPLE_FPS = "sample_fps"
    SKIP_STILL = "skip_still"
    MIN_SCORE = "min_score"
    PLACEMENT = "placement"


@dataclass(frozen=True, slots=True)
class Port:
    """One typed input or output."""

    kind: PortKind
    doc: str = ""
    many: bool = False  # input only: takes several outputs, merged in the order given
    optional: bool = False  # input only: may be left unconnected; process() then sees no such key


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter. ``type`` is str, int, float, bool, list or dict.

    ``check`` looks at a value that is otherwise right, a list's items for example, and says what is wrong with it.
    """

    type: type
    default: Any = REQUIRED
    doc: str = ""
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    check: Callable[[Any], str | None] | None = None

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is REQUIRED

    def problem(self, value: Any) -> str | None:
        """What is wrong with ``value``, or None. An int passes for a float."""
        fits = isinstance(value, self.type) and not (isinstance(value, bool) and self.type is not bool)
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            fits = True
        if value is None and self.default is None:
            return None
        if not fits:
            return f"expected {self.type.__name__}, got {type(value).__name__} {value!r}"
        if isinstance(value, float) and not isfinite(value):
            return f"expected a finite number, got {value!r}"
        if self.choices and value not in self.choices:
            return f"expected one of {', '.join(map(str, self.choices))}, got {value!r}"
        if self.minimum is not None and value < self.minimum:
            return f"expected at least {self.minimum:g}, got {value!r}"
        if self.maximum is not None and value > self.maximum:
            return f"expected at most {self.maximum:g}, got {value!r}"
        return self.check(value) if self.check is not None else None


_TYPE = re.compile(r"^[a-z0-9_-]+/[a-z0-9_-]+@v[0-9]+$")


@dataclass(frozen=True, slots=True)
class Manifest:
    """An operator's declaration, all that validation, planning and scheduling know of it."""

    type: str  # "namespace/name@v1"
    doc: str
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    params: Mapping[str, Param] = field(default_factory=dict)
    state: State = State.NONE
    fan_out: bool = False  # returns a list per frames output: 0..n items out per item in (crop)
    cuts: bool = False  # gives nothing but regions of the pictures that it is given: no memory is lent for new ones
    filters: bool = False  # may return FILTERED
    hides: bool = False  # hides something: its failure must never let the original through
    uses_model: bool = False  # wants Context.predictor; takes task, model, backend, ... as knobs
    defaults: Mapping[str, Any] = field(default_factory=dict)  # knob defaults, e.g. {"task": "..."}

    def __post_init__(self) -> None:
        if not _TYPE.match(self.type):
            raise ValueError(f"operator type {self.type!r}: expected namespace/name@v1")
        if not self.inputs:
            raise ValueError(f"{self.type}: an operator needs at least one input")

    @property
    def short_name(self) -> str:
        """``detect`` of ``llamapipe/detect@v1``."""
        return self.type.split("/", 1)[1].split("@", 1)[0]

    @property
    def can_skip_still(self) -> bool:
        """Whether it can hold what it last gave while its pictures stay as they are: nothing hangs on it but these."""
        gives_pictures = any(port.kind is PortKind.FRAMES for port in self.outputs.values())
        return self.frames_input is not None and self.state is State.NONE and not (gives_pictures or self.hides)

    @property
    def frames_input(self) -> str | None:
        """The input whose pixels the operator's boxes are in: the first of kind FRAMES."""
        return next((name for name, port in self.inputs.items() if port.kind is PortKind.FRAMES), None)
