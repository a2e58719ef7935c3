"""Manifests and sinks for tests of specs: shaped like the built-in ones, owned by the tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llamapipe.operator import Manifest, Param, Port, PortKind, State

FRAMES = Port(PortKind.FRAMES)
BOXES = Port(PortKind.BOXES)


@dataclass(frozen=True)
class SinkFacts:
    type: str
    accepts: frozenset[str]
    params: Mapping[str, Param] = field(default_factory=dict)
    default_path: str | None = None

    def problem(self, num_inputs: int, path: str | None) -> str | None:
        return None


_MANIFESTS = (
    Manifest("llamapipe/detect@v1", "Find.", {"frames": FRAMES}, {"boxes": BOXES}, uses_model=True),
    Manifest(
        "llamapipe/classify@v1", "Name.", {"frames": FRAMES}, {"classes": Port(PortKind.CLASSES)}, uses_model=True
    ),
    Manifest(
        "llamapipe/crop@v1",
        "Cut out.",
        {"frames": FRAMES, "boxes": BOXES},
        {"frames": FRAMES},
        {"margin": Param(float, 0.0, "share of the box", minimum=0, maximum=1)},
        fan_out=True,
    ),
    Manifest(
        "llamapipe/blur@v1",
        "Hide.",
        {"frames": FRAMES, "boxes": Port(PortKind.BOXES, many=True)},
        {"frames": FRAMES},
        {"strength": Param(float, 0.5), "shape": Param(str, "box", choices=("box", "ellipse"))},
        hides=True,
    ),
    Manifest(
        "llamapipe/track@v1", "Follow.", {"boxes": BOXES}, {"tracks": Port(PortKind.TRACKS)}, state=State.PER_STREAM
    ),
    Manifest("llamapipe/pair@v1", "Both.", {"frames": FRAMES, "others": FRAMES}, {"boxes": BOXES}),
    Manifest(
        "llamapipe/zones@v1",
        "Count.",
        {"tracks": Port(PortKind.TRACKS)},
        {"events": Port(PortKind.EVENTS)},
        {"polygon": Param(list, doc="points")},
    ),
    Manifest("llamapipe/resize@v1", "Old.", {"frames": FRAMES}, {"frames": FRAMES}),
    Manifest("llamapipe/resize@v2", "New.", {"frames": FRAMES}, {"frames": FRAMES}),
    Manifest("acme/shout@v1", "A third party's.", {"boxes": BOXES}, {"events": Port(PortKind.EVENTS)}),
)
MANIFESTS = {manifest.type: manifest for manifest in _MANIFESTS}

_SINKS = (
    SinkFacts("llamapipe/video@v1", frozenset({"frames", "boxes"}), {"codec": Param(str, "h264")}, "annotated.mp4"),
    SinkFacts("llamapipe/jsonl@v1", frozenset({"boxes", "tracks", "classes", "events"}), default_path="lines.jsonl"),
    SinkFacts("llamapipe/webhook@v1", frozenset({"events"}), {"url": Param(str, doc="where to post")}),
)
SINKS = {sink.type: sink for sink in _SINKS}

BLUR_FACES = """\
version: 1
name: blur-faces
slo: {latency_p95_ms: 200}
accuracy: {min: 0.9}
ops:
  - {name: people, type: llamapipe/detect@v1, inputs: $source.frames, task: person-detection}
  - {name: crops,  type: llamapipe/crop@v1,   inputs: {frames: $source.frames, boxes: $ops.people.boxes}}
  - {name: faces,  type: llamapipe/detect@v1, inputs: $ops.crops.frames, task: face-detection}
  - {name: blurred, type: llamapipe/blur@v1,  inputs: {frames: $source.frames, boxes: $ops.faces.boxes}}
sinks:
  - {type: llamapipe/video@v1, input: $ops.blurred.frames, path: annotated.mp4}
"""
