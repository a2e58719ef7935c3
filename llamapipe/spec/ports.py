"""What stages of the DSL give: typed ports that other stages, sinks and conditions take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from llamapipe.operator import PortKind
from llamapipe.spec.conditions import Condition, Measure, filter_text

if TYPE_CHECKING:
    from llamapipe.spec.dsl import PipelineBuilder

__all__ = ["BoxesPort", "ClassesPort", "EventsPort", "FramesPort", "PortRef", "TracksPort", "port_class"]


class PortRef:
    """An output of a stage, or of the source. It knows its pipeline, so nothing else has to."""

    kind: ClassVar[PortKind]

    __slots__ = ("builder", "port", "stage")

    def __init__(self, builder: PipelineBuilder, stage: str, port: str) -> None:
        self.builder = builder
        self.stage = stage  # empty: the source
        self.port = port

    @property
    def selector(self) -> str:
        """``$ops.people.boxes`` or ``$source.frames``."""
        return f"$ops.{self.stage}.{self.port}" if self.stage else f"$source.{self.port}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.selector!r})"

    def _asked(self, function: str, wanted: str) -> str:
        return f"{function}({self.selector}{', ' if wanted else ''}{wanted})"


class FramesPort(PortRef):
    """Pictures: whole frames, or crops."""

    kind = PortKind.FRAMES
    __slots__ = ()

    def count(self) -> Measure:
        """How many pictures a frame has here: the crops of a fan-out."""
        return Measure(self._asked("count", ""), self.builder)

    def any(self) -> Condition:
        """Whether a frame has any picture here."""
        return Condition(self._asked("any", ""), self.builder)


class BoxesPort(PortRef):
    """Boxes with labels and scores. Conditions ask about those of one frame."""

    kind = PortKind.BOXES
    __slots__ = ()

    def count(self, *, label: str | Sequence[str] | None = None, min_score: float | None = None) -> Measure:
        """How many boxes a frame has, with one of these labels and at least this score."""
        return Measure(self._asked("count", self._wanted(label, min_score)), self.builder)

    def any(self, *, label: str | Sequence[str] | None = None, min_score: float | None = None) -> Condition:
        """Whether a frame has such a box."""
        return Condition(self._asked("any", self._wanted(label, min_score)), self.builder)

    def max_score(self, *, label: str | Sequence[str] | None = None) -> Measure:
        """The best score among a frame's boxes with one of these labels; 0 where it has none."""
        return Measure(self._asked("max_score", self._wanted(label, None)), self.builder)

    @staticmethod
    def _wanted(label: str | Sequence[str] | None, min_score: float | None) -> str:
        return filter_text([("label", label)], [("score", ">=", min_score)])


class TracksPort(BoxesPort):
    """Boxes with track ids."""

    kind = PortKind.TRACKS
    __slots__ = ()


class ClassesPort(BoxesPort):
    """One label and score for each picture, with the picture's place."""

    kind = PortKind.CLASSES
    __slots__ = ()


class EventsPort(PortRef):
    """Events: zone entries, line crossings, motion."""

    kind = PortKind.EVENTS
    __slots__ = ()

    def count(
        self,
        *,
        kind: str | Sequence[str] | None = None,
        name: str | Sequence[str] | None = None,
        min_value: float | None = None,
    ) -> Measure:
        """How many events a frame has, of one of these kinds and names and at least this value."""
        return Measure(self._asked("count", self._wanted(kind, name, min_value)), self.builder)

    def any(
        self,
        *,
        kind: str | Sequence[str] | None = None,
        name: str | Sequence[str] | None = None,
        min_value: float | None = None,
    ) -> Condition:
        """Whether a frame has such an event."""
        return Condition(self._asked("any", self._wanted(kind, name, min_value)), self.builder)

    @staticmethod
    def _wanted(kind: str | Sequence[str] | None, name: str | Sequence[str] | None, min_value: float | None) -> str:
        return filter_text([("kind", kind), ("name", name)], [("value", ">=", min_value)])


def port_class(kind: PortKind | str) -> type[PortRef]:
    """The class of ports of a kind; raises ValueError for a kind that is none."""
    classes = {cls.kind: cls for cls in (FramesPort, BoxesPort, TracksPort, ClassesPort, EventsPort)}
    return classes[PortKind(kind)]
