"""Drawing what was found: annotate."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Boxes, Events, Image, Placement
from llamapipe.errors import UsageError
from llamapipe.operator import Context, Inputs, Manifest, Operator, Outputs, Param, Port, PortKind
from llamapipe_operators.canvas import Canvas, Colour, Overlay, Tile, canvas_of

__all__ = ["Annotate"]

_MOST_OVERLAYS, _MOST_TILES = 4, 512  # that are kept
_BRIGHT = 150  # ground on which black is easier to read than white


def _palette(*colours: int) -> tuple[Colour, ...]:
    return tuple((rgb & 255, rgb >> 8 & 255, rgb >> 16) for rgb in colours)


_PALETTE = _palette(  # that of supervision, as 0xRRGGBB
    *(0xA351FB, 0xFF4040, 0xFFA1A0, 0xFF7633, 0xFFB633, 0xD1D435, 0x4CFB12, 0x94CF1A, 0x40DE8A, 0x1B9640, 0x00D6C1),
    *(0x2E9CAA, 0x00C4FF, 0x364797, 0x6675FF, 0x0019EF, 0x863AFF, 0x530087, 0xCD3AFF, 0xFF97CA, 0xFF39C9),
)


class Annotate(Operator):
    """Draw boxes with their labels, scores and track ids into the frames.

    A thing that is tracked keeps its colour from frame to frame; untracked ones are coloured by label. Events are
    written into the upper left corner; `zones` and `lines` are outlined where they are given. A frame with nothing to
    draw is passed on as it is, untouched.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/annotate@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={
            "frames": Port(PortKind.FRAMES, "what to draw into"),
            "boxes": Port(PortKind.BOXES, "what to draw", many=True, optional=True),
            "events": Port(PortKind.EVENTS, "what to write into the corner", many=True, optional=True),
        },
        outputs={"frames": Port(PortKind.FRAMES, "the frames with the drawing")},
        params={
            "labels": Param(bool, True, "write label and track id above each box"),
            "scores": Param(bool, False, "write the score too"),
            "zones": Param(list, None, "zones to outline, written as for `zones`"),
            "lines": Param(list, None, "lines to draw, written as for `line-crossing`"),
            "thickness": Param(int, 0, "width of lines in pixels; 0: by the size of the frame", minimum=0, maximum=64),
        },
    )

    @classmethod
    def warm_up(cls) -> None:
        """So that the first frame does not wait for it: the font alone takes 25 ms to be there."""
        _lettering("a", 0.5, 1, 2, (0, 0, 0))

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._shapes = [
            *_shapes("zones", self.params["zones"], ("polygon",)),
            *_shapes("lines", self.params["lines"], ("start", "end")),
        ]
        self._overlays: dict[tuple[int, int, Placement], Overlay] = {}
        self._tiles: dict[tuple[str, float, int, int, Colour], Tile] = {}

    def process(self, inputs: Inputs) -> Outputs:
        """Draw into a copy of one frame."""
        image: Image = inputs["frames"]
        boxes: Boxes = inputs.get("boxes") or Boxes.empty()
        events: Events = inputs.get("events") or Events()
        if not len(boxes) and not len(events) and not self._shapes:
            return {"frames": image}
        canvas = canvas_of(image)
        if self._shapes:
            canvas.lay(self._overlay(image))
        if len(boxes):
            self._draw(canvas, boxes)
        if len(events):
            self._write(canvas, events)
        return {"frames": canvas.image}

    def _overlay(self, image: Image) -> Overlay:
        key = image.width, image.height, image.placement
        if key not in self._overlays:

            def paint(pixels: NDArray[np.uint8]) -> None:
                for name, points in self._shapes:
                    _outline(pixels, name, _on_picture(points, image))

            if len(self._overlays) >= _MOST_OVERLAYS:
                self._overlays.clear()
            self._overlays[key] = Overlay(image.width, image.height, paint)
        return self._overlays[key]

    def _draw(self, canvas: Canvas, boxes: Boxes) -> None:
        scale = max(canvas.image.width, canvas.image.height) / 1280
        thickness = int(self.params["thickness"]) or max(1, round(3 * scale))
        corners = np.clip(boxes.xyxy, -32768, 32767)  # no number stays no number: it cannot be drawn
        drawn = [i for i in range(len(boxes)) if np.isfinite(corners[i]).all()]
        places = {i: corners[i].astype(int).tolist() for i in drawn}
        colours = {i: _PALETTE[self._kind(boxes, i) % len(_PALETTE)] for i in drawn}
        for i in drawn:
            _frame(canvas, places[i], thickness, colours[i])
        if not self.params["labels"]:
            return
        padding = max(2, round(5 * scale))
        for i in drawn:
            text = self._caption(boxes, i)
            tile = self._tile(text, max(0.35, 0.6 * scale), max(1, thickness // 2), padding, colours[i])
            # A caption stands above its box, and inside where there is no room above.
            x, y = places[i][:2]
            canvas.paste(tile, x // 2 * 2, max(0, (y - tile.height) // 2 * 2))

    def _kind(self, boxes: Boxes, i: int) -> int:
        """What a box has its colour by. Untracked boxes among tracked ones have an id below zero: it is no colour."""
        track = -1 if boxes.track_id is None else int(boxes.track_id[i])
        return track if track >= 0 else int(boxes.label[i])

    def _caption(self, boxes: Boxes, i: int) -> str:
        words = [boxes.names[boxes.label[i]]]
        if boxes.track_id is not None and boxes.track_id[i] >= 0:
            words.append(f"#{boxes.track_id[i]}")
        if self.params["scores"]:
            words.append(f"{boxes.score[i]:.2f}")
        return " ".join(words)

    def _write(self, canvas: Canvas, events: Events) -> None:
        scale = max(0.4, max(canvas.image.width, canvas.image.height) / 1600)
        step = round(42 * scale)
        for row, event in enumerate(events.items):
            words = [event.kind, event.name, event.label]
            if event.track_id >= 0:
                words.append(f"#{event.track_id}")
            if event.value or event.track_id < 0:
                words.append(f"{event.value:g}")
            tile = self._tile(" ".join(word for word in words if word), scale, 1, 4, (0, 0, 0))
            canvas.paste(tile, 4, (step * (row + 1) - tile.height + 4) // 2 * 2)

    def _tile(self, text: str, scale: float, thickness: int, padding: int, colour: Colour) -> Tile:
        """Text on a ground of this colour, drawn once and kept."""
        key = text, scale, thickness, padding, colour
        known = self._tiles.get(key)
        if known is None:
            if len(self._tiles) >= _MOST_TILES:
                self._tiles.clear()
            known = self._tiles[key] = Tile(_lettering(text, scale, thickness, padding, colour))
        return known


def _frame(canvas: Canvas, place: list[int], thickness: int, colour: Colour) -> None:
    """The outline of a box, around whose corners its lines are centred."""
    x1, y1 = place[0] - thickness // 2, place[1] - thickness // 2
    x2, y2 = max(x1, place[2] - thickness // 2), max(y1, place[3] - thickness // 2)
    for x in (x1, x2):
        canvas.fill(x, y1, x + thickness, y2 + thickness, colour)
    for y in (y1, y2):
        canvas.fill(x1, y, x2 + thickness, y + thickness, colour)


def _lettering(text: str, scale: float, thickness: int, padding: int, colour: Colour) -> NDArray[np.uint8]:
    """Pixels (height, width, 3) of even size."""
    import cv2

    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    height += below // 2  # tails of letters
    shape = (height + 2 * padding + 1) // 2 * 2, (width + 2 * padding + 1) // 2 * 2
    pixels = np.full((*shape, 3), colour, np.uint8)
    bright = np.dot(colour, (0.114, 0.587, 0.299)) > _BRIGHT
    ink = (0, 0, 0) if bright else (255, 255, 255)
    place = (padding, padding + height - below // 2)
    cv2.putText(pixels, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, thickness, cv2.LINE_AA)
    return pixels


def _shapes(param: str, entries: Any, keys: tuple[str, ...]) -> list[tuple[str, NDArray[np.float32]]]:
    """Names and points (n, 2) as written. Raises UsageError for entries that are none."""
    shapes: list[tuple[str, NDArray[np.float32]]] = []
    for i, entry in enumerate(entries or (), 1):
        try:
            given = entry[keys[0]] if len(keys) == 1 else [entry[key] for key in keys]
            points = np.asarray(given, np.float32).reshape(-1, 2)
        except (KeyError, TypeError, ValueError):
            raise UsageError(
                f"{param}: expected {{name, {', '.join(keys)}}} with points [x, y], got {entry!r}"
            ) from None
        shapes.append((str(entry.get("name", f"{param[:-1]}-{i}")), points))
    return shapes


def _on_picture(points: NDArray[np.float32], image: Image) -> NDArray[np.int32]:
    """Pixels (n, 2) of the picture, of points in shares of it or in source pixels."""
    if ((points >= 0) & (points <= 1)).all():
        placed = points * np.array([image.width, image.height], np.float32)
    else:
        placed = image.placement.from_source(np.hstack([points, points]))[:, :2]
    return np.clip(placed, -32768, 32767).round().astype(np.int32)


def _outline(pixels: NDArray[np.uint8], name: str, points: NDArray[np.int32]) -> None:
    import cv2

    thickness = max(1, round(max(pixels.shape[:2]) / 640))
    cv2.polylines(pixels, [points], len(points) > 2, (0, 0, 0), thickness + 2, cv2.LINE_AA)
    cv2.polylines(pixels, [points], len(points) > 2, (0, 220, 255), thickness, cv2.LINE_AA)
    if len(points) == 2:  # a line has a way: the arrow points to its right, where things count as gone right
        start, end = points.astype(np.float64)
        way = np.array([start[1] - end[1], end[0] - start[0]])
        tip = (start + end) / 2 + way / max(1e-9, float(np.hypot(*way))) * 12 * thickness
        middle = ((start + end) / 2).round().astype(int).tolist()
        cv2.arrowedLine(pixels, middle, tip.round().astype(int).tolist(), (0, 220, 255), thickness, cv2.LINE_AA, 0, 0.4)
    x, y = points[0].tolist()
    place = (min(max(4, x + 4), pixels.shape[1] - 1), min(max(14 * thickness, y - 4), pixels.shape[0] - 1))
    cv2.putText(pixels, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * thickness, (0, 220, 255), thickness, cv2.LINE_AA)
