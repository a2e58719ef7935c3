"""Operators as functions, for pipelines in Python: typed, one argument a parameter.

What is left out (None) is the operator's default, or llamapipe's to choose. Inputs are ports, or stages that have one
output. Every function takes ``name`` (files refer to it), ``when`` (a condition, see `llamapipe.spec.when`) and the
knobs of its operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from llamapipe.errors import UsageError
from llamapipe.operator import PortKind
from llamapipe.spec import (
    BoxesPort,
    BoxesStage,
    ClassesStage,
    Condition,
    EventsPort,
    EventsStage,
    FramesPort,
    FramesStage,
    PipelineBuilder,
    PortRef,
    StageHandle,
    TracksPort,
    TracksStage,
)

__all__ = [
    "annotate",
    "blur",
    "classify",
    "crop",
    "denoise",
    "detect",
    "hold",
    "line_crossing",
    "motion",
    "motion_gate",
    "pixelate",
    "resize",
    "sample",
    "select",
    "toonify",
    "track",
    "vintage",
    "zones",
]

_StageT = TypeVar("_StageT", bound=StageHandle)


class MotionStage(FramesStage, EventsStage):
    """A stage that gives ``frames`` and ``events``."""


Frames = FramesPort | FramesStage
BoxesIn = BoxesPort | BoxesStage | TracksStage | ClassesStage
Several = BoxesIn | Sequence[BoxesIn]
EventsIn = EventsPort | EventsStage
SeveralEvents = EventsIn | Sequence[EventsIn]
When = str | Condition | None
Shape = Literal["box", "ellipse"]
Anchor = Literal["bottom", "center"]
Placement = Literal["thread", "process"]
Size = int | tuple[int, int] | None
Selectable = PortRef | StageHandle | Sequence[PortRef | StageHandle] | None


def _add(
    operator: str,
    inputs: Mapping[str, Selectable],
    outputs: Mapping[str, str],
    name: str | None,
    when: When,
    handle: type[_StageT],
    **params: Any,
) -> _StageT:
    ports = {port: _fitting(port, value) for port, value in inputs.items()}
    first = next((one for value in ports.values() if value is not None for one in _several(value)), None)
    if first is None:
        raise UsageError(f"{operator}: expected a port such as pipeline.frames, got an empty list")
    builder: PipelineBuilder = first.builder
    return builder.add(
        f"llamapipe/{operator}@v1", name=name, inputs=ports, outputs=outputs, when=when, handle=handle, **params
    )


def _several(value: PortRef | StageHandle | Sequence[PortRef | StageHandle]) -> Sequence[PortRef | StageHandle]:
    return value if isinstance(value, list | tuple) else [value]  # type: ignore[list-item]  # a sequence is one of these


def _fitting(port: str, value: Selectable) -> Selectable:
    """Of a stage with several outputs the only one that fits the input ``port``, which is named after its kind."""
    if value is None:
        return None
    kind = PortKind(port)
    found: list[PortRef | StageHandle] = []
    for one in _several(value):
        if not isinstance(one, PortRef | StageHandle):
            raise UsageError(f"{port}: expected a port such as pipeline.frames, or a stage, got {one!r}")
        fits = [out for out in one.outputs.values() if kind.accepts(out.kind)] if isinstance(one, StageHandle) else []
        found.append(fits[0] if len(fits) == 1 else one)
    return found


def detect(
    frames: Frames,
    *,
    task: str | None = None,
    model: str | None = None,
    labels: Sequence[str] | str | None = None,
    min_score: float | None = None,
    input_size: Size = None,
    backend: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    decoder: str | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    skip_still: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> BoxesStage:
    """Find things in pictures; gives ``boxes``. Say a ``task``, or name a ``model``."""
    params = {key: value for key, value in locals().items() if key not in ("frames", "name", "when")}
    return _add("detect", {"frames": frames}, {"boxes": "boxes"}, name, when, BoxesStage, **params)


def classify(
    frames: Frames,
    *,
    task: str | None = None,
    model: str | None = None,
    labels: Sequence[str] | str | None = None,
    min_score: float | None = None,
    input_size: Size = None,
    backend: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    decoder: str | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    skip_still: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> ClassesStage:
    """Say what pictures show; gives ``classes``."""
    params = {key: value for key, value in locals().items() if key not in ("frames", "name", "when")}
    return _add("classify", {"frames": frames}, {"classes": "classes"}, name, when, ClassesStage, **params)


def crop(
    frames: Frames,
    boxes: BoxesIn,
    *,
    pad: float | None = None,
    top_share: float | None = None,
    min_size: int | None = None,
    max_items: int | None = None,
    labels: Sequence[str] | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> FramesStage:
    """Cut boxes out of frames; gives ``frames``, none to many a frame."""
    params = {key: value for key, value in locals().items() if key not in ("frames", "boxes", "name", "when")}
    return _add("crop", {"frames": frames, "boxes": boxes}, {"frames": "frames"}, name, when, FramesStage, **params)


def resize(
    frames: Frames,
    *,
    width: int | None = None,
    height: int | None = None,
    max_side: int | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> FramesStage:
    """Make pictures another size; gives ``frames``."""
    params = {key: value for key, value in locals().items() if key not in ("frames", "name", "when")}
    return _add("resize", {"frames": frames}, {"frames": "frames"}, name, when, FramesStage, **params)


def track(
    boxes: BoxesIn,
    *,
    frames: Frames | None = None,
    start_score: float | None = None,
    sure_score: float | None = None,
    weak_score: float | None = None,
    min_iou: float | None = None,
    min_frames: int | None = None,
    keep_s: float | None = None,
    per_label: bool | None = None,
    keep_unconfirmed: bool | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> TracksStage:
    """Follow things; gives ``tracks``, the boxes with an id."""
    params = {key: value for key, value in locals().items() if key not in ("frames", "boxes", "name", "when")}
    return _add("track", {"boxes": boxes, "frames": frames}, {"tracks": "tracks"}, name, when, TracksStage, **params)


def hold(
    boxes: Several,
    *,
    seconds: float | None = None,
    grow: float | None = None,
    min_iou: float | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> BoxesStage:
    """Keep boxes for a moment after they were last seen; gives ``boxes``."""
    params = {key: value for key, value in locals().items() if key not in ("boxes", "name", "when")}
    return _add("hold", {"boxes": boxes}, {"boxes": "boxes"}, name, when, BoxesStage, **params)


def blur(
    frames: Frames,
    boxes: Several,
    *,
    pad: float | None = None,
    strength: float | None = None,
    shape: Shape | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
) -> FramesStage:
    """Blur what is inside boxes, beyond recognition; gives ``frames``. It takes no condition: hiding fails closed."""
    params = {key: value for key, value in locals().items() if key not in ("frames", "boxes", "name")}
    return _add("blur", {"frames": frames, "boxes": boxes}, {"frames": "frames"}, name, None, FramesStage, **params)


def pixelate(
    frames: Frames,
    boxes: Several,
    *,
    pad: float | None = None,
    strength: float | None = None,
    shape: Shape | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
) -> FramesStage:
    """Turn what is inside boxes into large squares; gives ``frames``. It takes no condition: hiding fails closed."""
    params = {key: value for key, value in locals().items() if key not in ("frames", "boxes", "name")}
    return _add("pixelate", {"frames": frames, "boxes": boxes}, {"frames": "frames"}, name, None, FramesStage, **params)


def annotate(
    frames: Frames,
    boxes: Several | None = None,
    *,
    events: SeveralEvents | None = None,
    labels: bool | None = None,
    scores: bool | None = None,
    zones: Sequence[Mapping[str, Any]] | None = None,
    lines: Sequence[Mapping[str, Any]] | None = None,
    thickness: int | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> FramesStage:
    """Draw boxes and events into frames; gives ``frames``."""
    params = {key: value for key, value in locals().items() if key not in ("frames", "boxes", "events", "name", "when")}
    inputs = {"frames": frames, "boxes": boxes, "events": events}
    return _add("annotate", inputs, {"frames": "frames"}, name, when, FramesStage, **params)


def sample(
    frames: Frames,
    *,
    fps: float,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> FramesStage:
    """Let so many frames a second through and end the rest; gives ``frames``."""
    params = {key: value for key, value in locals().items() if key not in ("frames", "name", "when")}
    return _add("sample", {"frames": frames}, {"frames": "frames"}, name, when, FramesStage, **params)


def select(
    boxes: Several,
    *,
    labels: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    min_score: float | None = None,
    min_size: float | None = None,
    max_size: float | None = None,
    max_iou: float | None = None,
    max_items: int | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> BoxesStage:
    """Keep the boxes with certain labels, scores and sizes; gives ``boxes``."""
    params = {key: value for key, value in locals().items() if key not in ("boxes", "name", "when")}
    return _add("select", {"boxes": boxes}, {"boxes": "boxes"}, name, when, BoxesStage, **params)


def motion(
    frames: Frames,
    *,
    threshold: float | None = None,
    sensitivity: float | None = None,
    still_s: float | None = None,
    max_side: int | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> EventsStage:
    """Tell which frames show something else than before; gives ``events``."""
    params = {key: value for key, value in locals().items() if key not in ("frames", "name", "when")}
    return _add("motion", {"frames": frames}, {"events": "events"}, name, when, EventsStage, **params)


def motion_gate(
    frames: Frames,
    *,
    threshold: float | None = None,
    sensitivity: float | None = None,
    hold_s: float | None = None,
    max_side: int | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> MotionStage:
    """Let frames with motion through and end the rest; gives ``frames`` and ``events``."""
    params = {key: value for key, value in locals().items() if key not in ("frames", "name", "when")}
    outputs = {"frames": "frames", "events": "events"}
    return _add("motion-gate", {"frames": frames}, outputs, name, when, MotionStage, **params)


def zones(
    boxes: BoxesIn,
    *,
    zones: Sequence[Mapping[str, Any]],
    anchor: Anchor | None = None,
    counts: bool | None = None,
    margin: float | None = None,
    keep_s: float | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> EventsStage:
    """Count things inside zones; gives ``events``. A zone is ``{"name": ..., "polygon": [[x, y], ...]}``."""
    params = {key: value for key, value in locals().items() if key not in ("boxes", "name", "when")}
    return _add("zones", {"boxes": boxes}, {"events": "events"}, name, when, EventsStage, **params)


def line_crossing(
    tracks: TracksPort | TracksStage,
    *,
    lines: Sequence[Mapping[str, Any]],
    anchor: Anchor | None = None,
    margin: float | None = None,
    counts: bool | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> EventsStage:
    """Say when things cross lines; gives ``events``. A line is ``{"name": ..., "start": [x, y], "end": [x, y]}``."""
    params = {key: value for key, value in locals().items() if key not in ("tracks", "name", "when")}
    return _add("line-crossing", {"tracks": tracks}, {"events": "events"}, name, when, EventsStage, **params)


def denoise(
    frames: Frames,
    *,
    method: Literal["temporal", "bilateral", "median", "nlmeans"] | None = None,
    strength: float | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> FramesStage:
    """Take noise out of pictures; gives ``frames``."""
    params = {key: value for key, value in locals().items() if key not in ("frames", "name", "when")}
    return _add("denoise", {"frames": frames}, {"frames": "frames"}, name, when, FramesStage, **params)


def toonify(
    frames: Frames,
    *,
    levels: int | None = None,
    edges: float | None = None,
    smooth: int | None = None,
    vivid: float | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> FramesStage:
    """Make pictures look drawn; gives ``frames``."""
    params = {key: value for key, value in locals().items() if key not in ("frames", "name", "when")}
    return _add("toonify", {"frames": frames}, {"frames": "frames"}, name, when, FramesStage, **params)


def vintage(
    frames: Frames,
    *,
    sepia: float | None = None,
    vignette: float | None = None,
    grain: float | None = None,
    fade: float | None = None,
    seed: int | None = None,
    batch: int | None = None,
    sample_fps: float | None = None,
    placement: Placement | None = None,
    name: str | None = None,
    when: When = None,
) -> FramesStage:
    """Make pictures look like old prints; gives ``frames``."""
    params = {key: value for key, value in locals().items() if key not in ("frames", "name", "when")}
    return _add("vintage", {"frames": frames}, {"frames": "frames"}, name, when, FramesStage, **params)
