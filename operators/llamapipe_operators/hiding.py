"""Operators that hide what is inside boxes, beyond recognition: blur, pixelate."""

from __future__ import annotations

from inspect import cleandoc
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Boxes, Image
from llamapipe.errors import OperatorError
from llamapipe.operator import Context, Inputs, Manifest, Operator, Outputs, Param, Port, PortKind

__all__ = ["Blur", "Pixelate"]

Rect = tuple[int, int, int, int]  # x1, y1, x2, y2 in whole pixels, even where the picture allows

_MOST_CELLS, _FEWEST_CELLS = 16, 3

_INPUTS = {
    "frames": Port(PortKind.FRAMES, "the pictures"),
    "boxes": Port(PortKind.BOXES, "what to hide in them", many=True),
}
_OUTPUTS = {"frames": Port(PortKind.FRAMES, "the pictures with the boxes hidden")}


def _params(shape: str) -> dict[str, Param]:
    return {
        "pad": Param(
            float, 0.1, "room around a box, as a share of its width and height on each side", minimum=0, maximum=5
        ),
        "strength": Param(
            float,
            0.6,
            f"detail left along the longer side: 0 leaves {_MOST_CELLS} cells, 0.6 leaves 6, 1 leaves {_FEWEST_CELLS}; "
            "below 0.4 a face may still be known",
            minimum=0,
            maximum=1,
        ),
        "shape": Param(
            str, shape, "box, or the ellipse around it: the box is hidden whole either way", choices=("box", "ellipse")
        ),
    }


class _Hide(Operator):
    """Replaces what is inside each box by something made of a few average colours of it."""

    _enlarge: ClassVar[int]  # OpenCV's interpolation from the few colours back to the box

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._cells = _MOST_CELLS * (_FEWEST_CELLS / _MOST_CELLS) ** float(self.params["strength"])

    def process(self, inputs: Inputs) -> Outputs:
        """Hide the boxes in one picture; the same picture where there is nothing to hide."""
        image: Image = inputs["frames"]
        regions = self._regions(image, inputs["boxes"])
        if not regions:
            return {"frames": image}
        drawing = image.to_draw_on()
        if drawing is None:
            pixels = image.bgr.copy()
            for region, whole in regions:
                self._hide(pixels, region, whole)
            return {"frames": image.replaced(pixels)}
        copy, planes = drawing
        for region, whole in regions:
            self._hide(planes.y, region, whole)
            for plane in (planes.u, planes.v):
                self._hide(plane, region, whole, 2)
        return {"frames": copy}

    def _regions(self, image: Image, boxes: Boxes) -> list[tuple[Rect, Rect]]:
        """Rectangles to work on, each with what it was before the picture's edge cut it.

        Raises OperatorError for a box that is nowhere: better no frame than a bare face.
        """
        xyxy = boxes.xyxy.astype(np.float64)
        if not np.isfinite(xyxy).all():
            raise OperatorError(f"cannot hide box {xyxy[~np.isfinite(xyxy).all(axis=1)][0].tolist()}: not finite")
        grow = 1.0 + 2.0 * float(self.params["pad"])
        if self.params["shape"] == "ellipse":
            grow *= np.sqrt(2.0)  # the smallest ellipse of the box's shape that has the whole box inside
        middle = (xyxy[:, :2] + xyxy[:, 2:]) / 2
        reach = np.maximum(np.abs(xyxy[:, 2:] - xyxy[:, :2]), 1.0) * (grow / 2)
        # Even corners, so that a region covers whole chroma samples too.
        low = np.floor((middle - reach) / 2) * 2
        high = np.ceil((middle + reach) / 2) * 2
        limit = np.array([image.width, image.height], np.float64)
        # No larger than OpenCV draws; what is cut off there is far outside.
        whole = np.clip(np.concatenate([low, high], axis=1), -16384, 32766).astype(int)
        inside = np.concatenate([np.clip(low, 0, limit), np.clip(high, 0, limit)], axis=1).astype(int)
        return [
            ((x1, y1, x2, y2), (wx1, wy1, wx2, wy2))
            for (x1, y1, x2, y2), (wx1, wy1, wx2, wy2) in zip(inside.tolist(), whole.tolist(), strict=True)
            if x2 > x1 and y2 > y1
        ]

    def _hide(self, pixels: NDArray[np.uint8], region: Rect, whole: Rect, shrunk: int = 1) -> None:
        """Work on ``pixels``, each of which covers ``shrunk`` by ``shrunk`` of the picture's."""
        import cv2

        x1, y1, x2, y2 = region
        cell = max(x2 - x1, y2 - y1) / self._cells
        cells = (max(1, round((x2 - x1) / cell)), max(1, round((y2 - y1) / cell)))
        part = pixels[y1 // shrunk : -(-y2 // shrunk), x1 // shrunk : -(-x2 // shrunk)]
        size = (part.shape[1], part.shape[0])
        few = cv2.resize(part, (min(cells[0], size[0]), min(cells[1], size[1])), interpolation=cv2.INTER_AREA)
        hidden = cv2.resize(few, size, interpolation=self._enlarge)
        if self.params["shape"] == "box":
            part[:] = hidden
            return
        mask = np.zeros((size[1] * shrunk, size[0] * shrunk), np.uint8)
        # The ellipse of the whole box: that of the part inside the picture would leave the part's corners bare.
        middle = ((whole[0] + whole[2] - 1) / 2 - x1, (whole[1] + whole[3] - 1) / 2 - y1)
        cv2.ellipse(mask, (middle, (whole[2] - whole[0], whole[3] - whole[1]), 0), 255, -1)
        if shrunk > 1:  # a sample that is only touched is hidden too
            mask = mask.reshape(size[1], shrunk, size[0], shrunk).max((1, 3))
        cv2.copyTo(hidden, mask, part)  # into the view; numpy's copy under a mask takes several times as long


class Blur(_Hide):
    """Blur what is inside boxes, beyond recognition.

    A pipeline that blurs never lets a frame through whose blurring failed: such a frame is written black. Put `hold`
    before it where the detector may miss a frame now and then.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/blur@v1",
        doc=cleandoc(__doc__ or ""),
        inputs=_INPUTS,
        outputs=_OUTPUTS,
        params=_params("ellipse"),
        hides=True,
    )
    _enlarge = 2  # cv2.INTER_CUBIC


class Pixelate(_Hide):
    """Turn what is inside boxes into a few large squares, beyond recognition. Fails closed, as `blur` does."""

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/pixelate@v1",
        doc=cleandoc(__doc__ or ""),
        inputs=_INPUTS,
        outputs=_OUTPUTS,
        params=_params("box"),
        hides=True,
    )
    _enlarge = 0  # cv2.INTER_NEAREST
