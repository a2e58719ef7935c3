"""Where things are and go: zones, line-crossing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from inspect import cleandoc
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Boxes, Event, Events, Image
from llamapipe.errors import UsageError
from llamapipe.operator import REQUIRED, Context, Inputs, Manifest, Operator, Outputs, Param, Port, PortKind, State

__all__ = ["LineCrossing", "Zones"]

Point = tuple[float, float]

_DEFAULT_FPS = 25.0

_ANCHOR = Param(
    str, "bottom", "which point of a box counts: its foot (bottom), or its centre", choices=("bottom", "center")
)
_FORGET_FRAMES = 250  # a track that was not seen for so long is gone


def _anchors(boxes: Boxes, anchor: str) -> NDArray[np.float32]:
    """Points (n, 2) that stand for boxes."""
    x = (boxes.xyxy[:, 0] + boxes.xyxy[:, 2]) / 2
    y = boxes.xyxy[:, 3] if anchor == "bottom" else (boxes.xyxy[:, 1] + boxes.xyxy[:, 3]) / 2
    return np.stack([x, y], axis=1)


def _margins(boxes: Boxes, share: float) -> list[float]:
    """Pixels (n,) by which each thing may shake: large boxes shake more."""
    margins: list[float] = (share * (boxes.xyxy[:, 3] - boxes.xyxy[:, 1])).tolist()
    return margins


def _points(what: str, value: Any, least: int, context: Context) -> list[Point]:
    """Points in source pixels. Raises UsageError for what is no list of [x, y]."""
    try:
        points = [(float(x), float(y)) for x, y in value]
    except (TypeError, ValueError):
        points = []
    if len(points) < least:
        raise UsageError(
            f"{what}: expected at least {least} points [x, y], got {value!r}",
            hint="in pixels of the source, or as shares of its width and height, from 0 to 1",
        )
    if all(0 <= x <= 1 and 0 <= y <= 1 for x, y in points):
        if not context.width or not context.height:
            raise UsageError(f"{what}: the stream's size is unknown", hint="give the points in pixels")
        return [(x * context.width, y * context.height) for x, y in points]
    return points


def _named(param: str, value: Any) -> list[dict[str, Any]]:
    """A list of mappings, each with a name of its own. Raises UsageError."""
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        raise UsageError(f"{param}: expected a list of mappings, got {value!r}")
    entries = [{"name": f"{param.rstrip('s')}-{i}", **entry} for i, entry in enumerate(value, 1)]
    entries = [{**entry, "name": str(entry["name"])} for entry in entries]  # YAML takes 1 and yes for other things
    names = [entry["name"] for entry in entries]
    if len(set(names)) != len(names):
        raise UsageError(f"{param}: two have the same name, got {', '.join(map(str, names))}")
    return entries


def _entries_problem(param: str, points_of: Callable[[dict[str, Any]], Any], least: int) -> Callable[[Any], str | None]:
    """A check of such a list, before the stream's size is known."""

    def check(value: Any) -> str | None:
        anywhere = Context(stage="", params={}, width=1, height=1)
        try:
            for entry in _named(param, value):
                _points(f"{param.rstrip('s')} {entry['name']}", points_of(entry), least, anywhere)
        except UsageError as error:
            return error.message
        return None

    return check


def _ends(entry: dict[str, Any]) -> list[Any]:
    return [entry.get("start"), entry.get("end")]


@dataclass(slots=True)
class _Stay:
    """A tracked thing inside a zone."""

    since: float  # seconds of the stream
    seen: float
    label: str
    x: float  # where it was last seen
    y: float


class Zones(Operator):
    """Count things inside zones, and say when a tracked thing enters or leaves one.

    A zone is `{name: gate, polygon: [[x, y], ...]}`, in pixels of the source or in shares of its width and height.
    Every frame gives a `zone-count` event a zone, its value the count; tracked boxes also give `zone-entered` and
    `zone-left`, whose value is the seconds spent inside. A thing that is not seen for `keep_s` seconds has left, and
    one that stands on the border and shakes does not come and go. Connect `frames` where the frame rate varies or
    frames are left out (a camera, `sample`): seconds are those of their time stamps then, else one frame is one step
    of the nominal rate.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/zones@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={
            "boxes": Port(PortKind.BOXES, "things, tracked or not, of one stream in order"),
            "frames": Port(PortKind.FRAMES, "the frames, only for their time stamps", optional=True),
        },
        outputs={"events": Port(PortKind.EVENTS, "zone-count, zone-entered, zone-left")},
        params={
            "zones": Param(
                list,
                REQUIRED,
                "a list of {name, polygon}",
                check=_entries_problem("zones", lambda entry: entry.get("polygon"), 3),
            ),
            "anchor": _ANCHOR,
            "counts": Param(bool, True, "give a zone-count event every frame"),
            "margin": Param(
                float, 0.1, "how far outside a thing counts as gone, as a share of its height", minimum=0, maximum=5
            ),
            "keep_s": Param(float, 1.0, "seconds unseen after which a thing has left", minimum=0, maximum=3600),
        },
        state=State.PER_STREAM,
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._polygons = {
            entry["name"]: np.array(_points(f"zone {entry['name']}", entry.get("polygon"), 3, context), np.float32)
            for entry in _named("zones", self.params["zones"])
        }
        self._fps = context.fps if context.fps > 0 else _DEFAULT_FPS
        self._inside: dict[str, dict[int, _Stay]] = {name: {} for name in self._polygons}
        self._frame = 0
        self._now_s = 0.0

    def process(self, inputs: Inputs) -> Outputs:
        """Look at the next frame of the stream."""
        import cv2

        boxes: Boxes = inputs["boxes"]
        image: Image | None = inputs.get("frames")
        self._now_s = self._frame / self._fps if image is None else image.pts_s
        anchors = _anchors(boxes, self.params["anchor"])
        events: list[Event] = []
        for name, polygon in self._polygons.items():
            depth = [float(cv2.pointPolygonTest(polygon, (float(x), float(y)), measureDist=True)) for x, y in anchors]
            if self.params["counts"]:
                events.append(Event("zone-count", name, value=float(sum(d >= 0 for d in depth))))
            if boxes.track_id is not None:
                events += self._moves(name, boxes, anchors, depth)
            events += self._vanished(name)
        self._frame += 1
        return {"events": Events(events)}

    def _moves(self, name: str, boxes: Boxes, anchors: NDArray[np.float32], depth: Sequence[float]) -> list[Event]:
        """``depth``: pixels (n,) that each thing is inside the zone, below zero outside."""
        assert boxes.track_id is not None
        inside = self._inside[name]
        margins = _margins(boxes, float(self.params["margin"]))
        events: list[Event] = []
        for i, track in enumerate(boxes.track_id.tolist()):
            if track < 0:
                continue
            x, y = (round(float(v), 2) for v in anchors[i])
            stay = inside.get(track)
            if stay is None and depth[i] >= 0:
                inside[track] = _Stay(self._now_s, self._now_s, boxes.labels[i], x, y)
                events.append(Event("zone-entered", name, boxes.labels[i], track, x=x, y=y))
            elif stay is not None and depth[i] >= -margins[i]:
                stay.seen, stay.x, stay.y = self._now_s, x, y
            elif stay is not None:
                del inside[track]
                seconds = round(self._now_s - stay.since, 3)
                events.append(Event("zone-left", name, boxes.labels[i], track, seconds, x, y))
        return events

    def _vanished(self, name: str) -> list[Event]:
        inside = self._inside[name]
        longest_s = float(self.params["keep_s"]) + 1e-6  # what is as long to the frame has not left
        gone = [(track, stay) for track, stay in inside.items() if self._now_s - stay.seen > longest_s]
        events: list[Event] = []
        for track, stay in gone:
            del inside[track]
            seconds = round(stay.seen + 1 / self._fps - stay.since, 3)
            events.append(Event("zone-left", name, stay.label, track, seconds, stay.x, stay.y))
        return events

    def snapshot(self) -> Any:
        """Who is inside which zone, since when, and when and where last seen."""
        return {
            "frame": self._frame,
            "inside": {
                name: [[track, *astuple(stay)] for track, stay in stays.items()] for name, stays in self._inside.items()
            },
        }

    def restore(self, state: Any) -> None:
        """See `snapshot`."""
        self._frame = state["frame"]
        self._inside = {
            name: {track: _Stay(*stay) for track, *stay in stays} for name, stays in state["inside"].items()
        }


class LineCrossing(Operator):
    """Say when a tracked thing crosses a line, and which way.

    A line is `{name: gate, start: [x, y], end: [x, y]}`, in pixels of the source or in shares of its width and height.
    The event `line-crossed` has value 1 for a thing that goes from the line's left to its right, seen from start to
    end, and -1 for the other way. A thing that stands on the line and shakes is counted once a side. With `counts`
    every frame also gives the events `line-right` and `line-left`, whose values are how many have gone each way so far.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/line-crossing@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={"tracks": Port(PortKind.TRACKS, "tracked things of one stream, in order")},
        outputs={
            "events": Port(
                PortKind.EVENTS, "line-crossed, value 1 or -1 by direction; with counts also line-right, line-left"
            )
        },
        params={
            "lines": Param(list, REQUIRED, "a list of {name, start, end}", check=_entries_problem("lines", _ends, 2)),
            "anchor": _ANCHOR,
            "margin": Param(
                float,
                0.1,
                "how far beyond the line a thing has crossed, as a share of its height",
                minimum=0,
                maximum=5,
            ),
            "counts": Param(bool, False, "give the totals of both ways every frame"),
        },
        state=State.PER_STREAM,
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._lines: dict[str, tuple[Point, Point]] = {}
        for entry in _named("lines", self.params["lines"]):
            ends = _points(f"line {entry['name']}", _ends(entry), 2, context)
            self._lines[entry["name"]] = (ends[0], ends[1])
        self._last: dict[str, dict[int, tuple[int, float, float, int]]] = {name: {} for name in self._lines}
        self._totals: dict[str, list[int]] = {name: [0, 0] for name in self._lines}  # to the right, to the left
        self._frame = 0

    def process(self, inputs: Inputs) -> Outputs:
        """Look at the next frame of the stream."""
        boxes: Boxes = inputs["tracks"]
        anchors = _anchors(boxes, self.params["anchor"]).tolist()
        margins = _margins(boxes, float(self.params["margin"]))
        tracks = boxes.track_id.tolist() if boxes.track_id is not None else [-1] * len(boxes)
        events: list[Event] = []
        for name, line in self._lines.items():
            last = self._last[name]
            for i, (track, (x, y)) in enumerate(zip(tracks, anchors, strict=True)):
                if track < 0:
                    continue
                side = _side(line, x, y, margins[i])
                before = last.get(track)
                if before is None:
                    last[track] = (side, x, y, self._frame)
                    continue
                if side and before[0] and side != before[0] and _meets(line, (before[1], before[2]), (x, y)):
                    way = 1.0 if side > 0 else -1.0
                    self._totals[name][side < 0] += 1
                    events.append(Event("line-crossed", name, boxes.labels[i], track, way, round(x, 2), round(y, 2)))
                # On the line itself the old side, and the place where it was held, still count.
                last[track] = (side, x, y, self._frame) if side else (before[0], before[1], before[2], self._frame)
            for track in [t for t, seen in last.items() if self._frame - seen[3] > _FORGET_FRAMES]:
                del last[track]
            if self.params["counts"]:
                right, left = self._totals[name]
                events += [Event("line-right", name, value=float(right)), Event("line-left", name, value=float(left))]
        self._frame += 1
        return {"events": Events(events)}

    def snapshot(self) -> Any:
        """Totals, and side, place and last frame of each track at each line."""
        return {
            "frame": self._frame,
            "totals": self._totals,
            "last": {name: [[t, *seen] for t, seen in last.items()] for name, last in self._last.items()},
        }

    def restore(self, state: Any) -> None:
        """See `snapshot`."""
        self._frame = state["frame"]
        self._totals = {name: list(totals) for name, totals in state["totals"].items()}
        self._last = {
            name: {t: (side, x, y, frame) for t, side, x, y, frame in last} for name, last in state["last"].items()
        }


def _side(line: tuple[Point, Point], x: float, y: float, margin: float) -> int:
    """1 right of the line, -1 left of it, 0 within ``margin`` pixels of it."""
    (x1, y1), (x2, y2) = line
    length = max(1e-9, float(np.hypot(x2 - x1, y2 - y1)))
    distance = ((x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)) / length
    return 0 if abs(distance) <= margin else 1 if distance > 0 else -1


def _meets(line: tuple[Point, Point], start: Point, end: Point) -> bool:
    """Whether the way from start to end goes through the line between its ends, not beside it."""
    (x1, y1), (x2, y2) = line
    dx, dy = end[0] - start[0], end[1] - start[1]
    cross = (x2 - x1) * dy - (y2 - y1) * dx
    if cross == 0:
        return False
    along = ((start[0] - x1) * dy - (start[1] - y1) * dx) / cross
    return 0 <= along <= 1
