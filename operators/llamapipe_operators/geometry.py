"""Operators that change where a picture lies in its source: resize, crop."""

from __future__ import annotations

from inspect import cleandoc
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Boxes, Image
from llamapipe.errors import OperatorError, UsageError
from llamapipe.operator import Context, Inputs, Manifest, Operator, Outputs, Param, Port, PortKind

__all__ = ["Crop", "Resize"]


class Resize(Operator):
    """Make pictures another size.

    Give `width`, `height` or both, or `max_side`, which only ever shrinks. With one of width and height the other
    follows from the picture's shape. Boxes found in the resized pictures still come back in source pixels.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/resize@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={"frames": Port(PortKind.FRAMES, "pictures of any size")},
        outputs={"frames": Port(PortKind.FRAMES, "the same pictures at the new size")},
        params={
            "width": Param(int, 0, "pixels across; 0: follows from height", minimum=0, maximum=16384),
            "height": Param(int, 0, "pixels down; 0: follows from width", minimum=0, maximum=16384),
            "max_side": Param(
                int, 0, "longest side in pixels, larger pictures shrink to it; 0: no limit", minimum=0, maximum=16384
            ),
        },
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        width, height, max_side = (int(self.params[name]) for name in ("width", "height", "max_side"))
        if not (width or height or max_side) or (max_side and (width or height)):
            raise UsageError(
                f"expected width, height or both, or else max_side, "
                f"got width {width}, height {height}, max_side {max_side}",
                hint="for example max_side: 640",
            )

    def process(self, inputs: Inputs) -> Outputs:
        """Resize one picture; the same picture where it has the size already."""
        import cv2

        image: Image = inputs["frames"]
        width, height = self._size_for(image.width, image.height)
        if (width, height) == (image.width, image.height):
            return {"frames": image}
        shrinks = width * height < image.width * image.height
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return {"frames": image.resized(cv2.resize(image.bgr, (width, height), interpolation=method))}

    def _size_for(self, width: int, height: int) -> tuple[int, int]:
        max_side = int(self.params["max_side"])
        if max_side:
            scale = min(1.0, max_side / max(width, height))
            return max(1, round(width * scale)), max(1, round(height * scale))
        new_width, new_height = int(self.params["width"]), int(self.params["height"])
        return (
            new_width or max(1, round(width * new_height / height)),
            new_height or max(1, round(height * new_width / width)),
        )


class Crop(Operator):
    """Cut boxes out of frames: one picture a box.

    Stages behind it work on the crops, and what they find comes back in source pixels. A crop is a view of its
    frame, nothing is copied. Boxes with less than `min_size` pixels left inside the frame give no crop; of more than
    `max_items` boxes those with the best scores are taken. Where a later stage hides what is found in the crops, more
    than `max_items` are an error instead: the frame is not shown at all.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/crop@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={
            "frames": Port(PortKind.FRAMES, "the pictures to cut from"),
            "boxes": Port(PortKind.BOXES, "what to cut out"),
        },
        outputs={"frames": Port(PortKind.FRAMES, "none to many a frame, in the order of the boxes")},
        params={
            "pad": Param(
                float, 0.1, "room around a box, as a share of its width and height on each side", minimum=0, maximum=5
            ),
            "top_share": Param(
                float,
                1.0,
                "how much of a box is taken, from its top: 0.5 is the upper half (faces of people)",
                minimum=0.01,
                maximum=1,
            ),
            "min_size": Param(int, 8, "smallest width and height of a crop, pixels", minimum=1, maximum=16384),
            "max_items": Param(int, 32, "most crops a frame", minimum=1, maximum=1024),
            "labels": Param(list, None, "only boxes with these labels; left out: all"),
        },
        fan_out=True,
        cuts=True,
    )

    def process(self, inputs: Inputs) -> Outputs:
        """Cut one frame."""
        image: Image = inputs["frames"]
        boxes: Boxes = inputs["boxes"]
        regions, keep = self._regions(image, boxes)
        if len(keep) > int(self.params["max_items"]):
            if self.context.feeds_hiding:
                most = self.params["max_items"]
                raise OperatorError(f"more than {most} boxes, and what is not cut would be shown: raise max_items")
            best = np.argsort(-boxes.score[keep], kind="stable")[: int(self.params["max_items"])]
            regions = regions[np.sort(best)]
        return {"frames": [image.crop(*region) for region in regions.tolist()]}

    def _regions(self, image: Image, boxes: Boxes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Whole pixels to cut (k, 4), and the indices (k,) of the boxes that they are of."""
        xyxy = boxes.xyxy.astype(np.float64)
        size = xyxy[:, 2:] - xyxy[:, :2]
        xyxy[:, 3] = xyxy[:, 1] + size[:, 1] * float(self.params["top_share"])
        room = float(self.params["pad"]) * (xyxy[:, 2:] - xyxy[:, :2])
        limit = np.array([image.width, image.height], np.float64)
        low = np.clip(np.floor(xyxy[:, :2] - room), 0, limit)
        high = np.clip(np.ceil(xyxy[:, 2:] + room), 0, limit)
        wanted = np.isfinite(xyxy).all(axis=1) & ((high - low) >= int(self.params["min_size"])).all(axis=1)
        labels = self.params["labels"]
        if labels is not None:
            table = np.array([name in labels for name in boxes.names], bool)
            wanted &= table[boxes.label]
        keep = np.flatnonzero(wanted)
        return np.concatenate([low, high], axis=1)[keep].astype(np.int64), keep
