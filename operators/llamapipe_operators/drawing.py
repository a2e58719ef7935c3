"""Drawing what was found: annotate."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, ClassVar

import numpy as np

from llamapipe.data import Boxes, Events, Image
from llamapipe.operator import Context, Inputs, Manifest, Operator, Outputs, Param, Port, PortKind

__all__ = ["Annotate"]


class Annotate(Operator):
    """Draw boxes with their labels, scores and track ids into the frames.

    A thing that is tracked keeps its colour from frame to frame; untracked ones are coloured by label. Events are
    written into the upper left corner. A frame with nothing to draw is passed on as it is, untouched.
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
            "thickness": Param(int, 0, "width of lines in pixels; 0: by the size of the frame", minimum=0, maximum=64),
        },
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._drawers: dict[tuple[int, int], tuple[Any, Any]] = {}

    def process(self, inputs: Inputs) -> Outputs:
        """Draw into a copy of one frame."""
        image: Image = inputs["frames"]
        boxes: Boxes = inputs.get("boxes") or Boxes.empty()
        events: Events = inputs.get("events") or Events()
        if not len(boxes) and not len(events):
            return {"frames": image}
        pixels = image.bgr.copy()
        if len(boxes):
            self._draw(pixels, boxes)
        if len(events):
            _write(pixels, events)
        return {"frames": image.replaced(pixels)}

    def _draw(self, pixels: np.ndarray[Any, Any], boxes: Boxes) -> None:
        found = boxes.to_supervision()
        tracked = boxes.track_id is not None and bool((boxes.track_id >= 0).any())
        if tracked:
            assert boxes.track_id is not None
            # Untracked boxes among tracked ones: ids below zero are no colour.
            found.class_id = np.where(boxes.track_id >= 0, boxes.track_id, boxes.label).astype(int)
        outlines, captions = self._drawer(pixels.shape[0], pixels.shape[1])
        outlines.annotate(pixels, found)
        if self.params["labels"]:
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


def _write(pixels: np.ndarray[Any, Any], events: Events) -> None:
    import cv2

    scale = max(0.4, max(pixels.shape[:2]) / 1600)
    step = round(34 * scale)
    for row, event in enumerate(events.items):
        words = [event.kind, event.name, event.label]
        if event.track_id >= 0:
            words.append(f"#{event.track_id}")
        if event.value:
            words.append(f"{event.value:g}")
        text, place = " ".join(word for word in words if word), (8, step * (row + 1))
        for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(pixels, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, width, cv2.LINE_AA)
