"""What the text sinks say of a frame: one line a stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from llamapipe.data import Boxes, Events
from llamapipe.media.contract import Outcome, SinkItem

__all__ = ["Item", "Line", "Lines", "Missing", "box_items", "stage_and_port"]


class Item(msgspec.Struct, omit_defaults=True):
    """One box: pixels of the source rounded to 2 decimals, score to 4."""

    box: list[float]
    label: str
    score: float
    track_id: int = -1


class Line(msgspec.Struct):
    """What one stage said of one frame."""

    stream: str
    frame: int
    pts_s: float
    stage: str
    port: str | msgspec.UnsetType = msgspec.UNSET
    items: list[Item] | msgspec.UnsetType = msgspec.UNSET
    events: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET


class Missing(msgspec.Struct):
    """A frame that failed or was dropped."""

    stream: str
    frame: int
    pts_s: float | None  # None: there never was a picture, so there is no time
    outcome: str
    stage: str
    reason: str


def stage_and_port(selector: str) -> tuple[str, str]:
    """("detect", "boxes") of "$ops.detect.boxes"; ("source", "frames") of "$source.frames"."""
    head, _, rest = selector.partition(".")
    if head == "$ops":
        stage, _, port = rest.rpartition(".")
        return stage, port
    return head.removeprefix("$"), rest


def box_items(boxes: Boxes) -> list[Item]:
    """The boxes as they are written. Same numbers as iterating over them, some times faster."""
    if not len(boxes):
        return []
    names = boxes.names
    xyxy = boxes.xyxy.astype(np.float64).round(2).tolist()
    score = boxes.score.astype(np.float64).round(4).tolist()
    label = boxes.label.tolist()
    if boxes.track_id is None:
        return [Item(box, names[i], s) for box, i, s in zip(xyxy, label, score, strict=True)]
    tracks = boxes.track_id.tolist()
    return [Item(box, names[i], s, t) for box, i, s, t in zip(xyxy, label, score, tracks, strict=True)]


class Lines:
    """Makes a frame's lines. ``empty``: also those that have neither items nor events.

    A delivered frame gives a line for each input that has a value (a stage that was skipped has none); a failed
    or dropped one gives one `Missing`; a filtered or cancelled one gives nothing.
    """

    def __init__(self, inputs: Sequence[str], *, empty: bool = True) -> None:
        named = [(selector, *stage_and_port(selector)) for selector in inputs]
        ports = Counter(stage for _, stage, _ in named)
        self._inputs = [
            (selector, stage, port if ports[stage] > 1 else msgspec.UNSET) for selector, stage, port in named
        ]
        self._empty = empty

    def __call__(self, item: SinkItem) -> list[Line | Missing]:
        """The lines of one frame, in the order of the inputs."""
        pts_s = round(item.pts_s, 6)
        if item.outcome is not Outcome.DELIVERED:
            if item.outcome in (Outcome.FAILED, Outcome.DROPPED):
                known_s = None if item.stage == "source" else pts_s
                return [Missing(item.stream, item.seq, known_s, item.outcome.value, item.stage, item.reason)]
            return []
        lines: list[Line | Missing] = []
        for selector, stage, port in self._inputs:
            value = item.values.get(selector)
            if isinstance(value, Boxes):
                if self._empty or len(value):
                    lines.append(Line(item.stream, item.seq, pts_s, stage, port, items=box_items(value)))
            elif isinstance(value, Events) and (self._empty or len(value)):
                lines.append(Line(item.stream, item.seq, pts_s, stage, port, events=list(value)))
        return lines
