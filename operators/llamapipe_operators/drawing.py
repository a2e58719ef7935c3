"""Drawing what was found: annotate."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Boxes, Events, Image
from llamapipe.errors import UsageError
from llamapipe.operator import Context, Inputs, Manifest, Operator, Outputs, Param, Port, PortKind

__all__ = ["Annotate"]


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

    def __init__(self, context: Context) -> None:
        import supervision  # noqa: F401  # while loading, so that the first frame does not wait for it

        super().__init__(context)
        self._drawers: dict[tuple[int, int], tuple[Any, Any]] = {}
        self._shapes = [
            *_shapes("zones", self.params["zones"], ("polygon",)),
            *_shapes("lines", self.params["lines"], ("start", "end")),
        ]

    def process(self, inputs: Inputs) -> Outputs:
        """Draw into a copy of one frame."""
        image: Image = inputs["frames"]
        boxes: Boxes = inputs.get("boxes") or Boxes.empty()
        events: Events = inputs.get("events") or Events()
        if not len(boxes) and not len(events) and not self._shapes:
            return {"frames": image}
        pixels = image.bgr.copy()
        for name, points in self._shapes:
            _outline(pixels, name, _on_picture(points, image))
        if len(boxes):
            self._draw(pixels, boxes)
        if len(events):
            _write(pixels, events)
        return {"frames": image.replaced(pixels)}

    def _draw(self, pixels: NDArray[np.uint8], boxes: Boxes) -> None:
        found = boxes.to_supervision()
        tracked = boxes.track_id is not None and bool((boxes.track_id >= 0).any())
        if tracked:
            assert boxes.track_id is not None
            # Untracked boxes among tracked ones: ids below zero are no colour.
            found.class_id = np.where(boxes.track_id >= 0, boxes.track_id, boxes.label).astype(int)
        outlines, captions = self._drawer(pixels.shape[0], pixels.shape[1])
        outlines.annotate(pixels, found)
        if self.params["labels"]:
            # A caption stands above its box, and inside where there is no room above.
            found.xyxy = np.maximum(found.xyxy, [0, _caption_height(captions), 0, 0]).astype(np.float32)
            captions.annotate(pixels, found, [self._caption(boxes, i) for i in range(len(boxes))])

    def _caption(self, boxes: Boxes, i: int) -> str:
        words = [boxes.names[boxes.label[i]]]
        if boxes.track_id is not None and boxes.track_id[i] >= 0:
            words.append(f"#{boxes.track_id[i]}")
        if self.params["scores"]:
            words.append(f"{boxes.score[i]:.2f}")
        return " ".join(words)

    def _drawer(self, height: int, width: int) -> tuple[Any, Any]:
        known = self._drawers.get((height, width))
        if known is None:
            import supervision

            scale = max(height, width) / 1280
            thickness = int(self.params["thickness"]) or max(1, round(3 * scale))
            lookup = supervision.ColorLookup.CLASS
            known = (
                supervision.BoxAnnotator(thickness=thickness, color_lookup=lookup),
                supervision.LabelAnnotator(
                    text_scale=max(0.35, 0.6 * scale),
                    text_thickness=max(1, thickness // 2),
                    text_padding=max(2, round(5 * scale)),
                    color_lookup=lookup,
                ),
            )
            self._drawers[height, width] = known
        return known


def _write(pixels: NDArray[np.uint8], events: Events) -> None:
    import cv2

    scale = max(0.4, max(pixels.shape[:2]) / 1600)
    step = round(42 * scale)
    for row, event in enumerate(events.items):
        words = [event.kind, event.name, event.label]
        if event.track_id >= 0:
            words.append(f"#{event.track_id}")
        if event.value or event.track_id < 0:
            words.append(f"{event.value:g}")
        text = " ".join(word for word in words if word)
        (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        x, y = 8, step * (row + 1)
        cv2.rectangle(pixels, (x - 4, y - height - 4), (x + width + 4, y + below), (0, 0, 0), -1)
        cv2.putText(pixels, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)


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


def _caption_height(captions: Any) -> int:
    """Pixels that a caption takes above its box."""
    import cv2

    (_, height), _ = cv2.getTextSize("Ag", cv2.FONT_HERSHEY_SIMPLEX, captions.text_scale, captions.text_thickness)
    return int(height) + 2 * int(captions.text_padding)
