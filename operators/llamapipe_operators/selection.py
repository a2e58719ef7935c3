"""Choosing among boxes: select."""

from __future__ import annotations

from inspect import cleandoc
from typing import ClassVar

import numpy as np

from llamapipe.data import Boxes
from llamapipe.operator import Inputs, Manifest, Operator, Outputs, Param, Port, PortKind
from llamapipe_operators.overlap import distinct

__all__ = ["Select"]


class Select(Operator):
    """Keep the boxes with certain labels, scores and sizes, and drop the others; or one of several on the same thing.

    Several inputs are joined first. Track ids stay. To drop whole frames instead, give the next stage a `when`.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/select@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={"boxes": Port(PortKind.BOXES, "boxes or tracks", many=True)},
        outputs={"boxes": Port(PortKind.BOXES, "those kept, in their order")},
        params={
            "labels": Param(list, None, "keep only these labels; left out: all"),
            "exclude": Param(list, None, "drop these labels"),
            "min_score": Param(float, 0.0, "least score", minimum=0, maximum=1),
            "min_size": Param(float, 0.0, "least length of the shorter side, source pixels", minimum=0),
            "max_size": Param(float, 0.0, "most length of the longer side, source pixels; 0: any", minimum=0),
            "max_iou": Param(
                float,
                1.0,
                "of boxes that overlap (IoU) more than this only the best stays, whatever their labels; 1: all stay",
                minimum=0,
                maximum=1,
            ),
            "max_items": Param(int, 0, "keep so many with the best scores; 0: all", minimum=0),
        },
    )

    def process(self, inputs: Inputs) -> Outputs:
        """Choose among the boxes of one frame."""
        boxes: Boxes = inputs["boxes"]
        size = boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
        keep = (boxes.score >= float(self.params["min_score"])) & (size.min(axis=1) >= float(self.params["min_size"]))
        if self.params["max_size"]:
            keep &= size.max(axis=1) <= float(self.params["max_size"])
        wanted, unwanted = self.params["labels"], self.params["exclude"]
        if wanted is not None or unwanted is not None:
            table = np.array([(wanted is None or n in wanted) and n not in (unwanted or ()) for n in boxes.names], bool)
            keep &= table[boxes.label] if len(boxes) else keep
        chosen = np.flatnonzero(keep)
        if self.params["max_iou"] < 1 and len(chosen) > 1:
            chosen = chosen[distinct(boxes.xyxy[chosen], boxes.score[chosen], float(self.params["max_iou"]))]
        most = int(self.params["max_items"])
        if most and len(chosen) > most:
            best = np.argsort(-boxes.score[chosen], kind="stable")[:most]
            chosen = chosen[np.sort(best)]
        return {"boxes": boxes if len(chosen) == len(boxes) else boxes.select(chosen)}
