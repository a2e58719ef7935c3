"""BlazeFace: offsets from fixed anchors.

Source: Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Boxes
from llamapipe.errors import DecoderError
from llamapipe.inference.decoders.contract import Letterbox, Preprocess, Wanted, fits, refuse
from llamapipe.inference.decoders.grids import boxes_of

__all__ = ["BlazeFace"]

_LAYERS: dict[int, tuple[tuple[int, int], ...]] = {  # input side: (stride, anchors a cell)
    128: ((8, 2), (16, 6)),
    256: ((16, 2), (32, 6)),
    192: ((4, 1),),
}
_MAX_LOGIT = 80.0
_MAX_IOU = 0.3  # as published


@lru_cache(maxsize=8)
def _anchors(side: int) -> NDArray[np.float32]:
    """Centres (n, 2) as shares of the side."""
    layers: list[NDArray[np.float32]] = []
    for stride, count in _LAYERS[side]:
        cells = side // stride
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x, y], -1).reshape(-1, 2) + 0.5) / cells
        layers.append(np.repeat(centres, count, 0).astype(np.float32))
    return np.concatenate(layers)


class BlazeFace:
    """Regressors (n, 16): box and six points, from anchors; one logit an anchor."""

    name = "blazeface"
    preprocess = Preprocess("letterbox-center", "rgb", layout="nhwc", scale=1 / 127.5, mean=(1.0, 1.0, 1.0))
    output_names: tuple[str, ...] = ()
    default_min_score = 0.5

    def check(
        self, shapes: Sequence[Sequence[int]], *, batch: int, input_size: tuple[int, int], num_labels: int
    ) -> None:
        """See `Decoder.check`."""
        height, width = input_size
        if height != width or height not in _LAYERS:
            raise DecoderError(
                f"decoder {self.name}: expected an input of 128x128, 192x192 or 256x256, got {height}x{width}"
            )
        n = len(_anchors(height))
        by_width = sorted(shapes, key=lambda shape: shape[-1])
        if len(shapes) != 2 or not fits(by_width[0], (batch, n, 1)) or not fits(by_width[1], (batch, n, 16)):
            raise refuse(self.name, f"outputs of {batch}x{n}x16 and {batch}x{n}x1", shapes)

    def decode(
        self, outputs: Sequence[NDArray[np.float32]], letterboxes: Sequence[Letterbox], wanted: Wanted
    ) -> list[Boxes]:
        """See `Decoder.decode`."""
        logits, regressors = sorted(outputs, key=lambda output: output.shape[-1])
        wanted = replace(wanted, max_iou=_MAX_IOU)
        return [
            self._one(logit[:, 0], rows, box, wanted)
            for logit, rows, box in zip(logits, regressors, letterboxes, strict=False)
        ]

    def _one(
        self, logit: NDArray[np.float32], rows: NDArray[np.float32], letterbox: Letterbox, wanted: Wanted
    ) -> Boxes:
        score = 1 / (1 + np.exp(-np.clip(logit, -_MAX_LOGIT, _MAX_LOGIT)))
        found = np.flatnonzero(score >= wanted.min_score)
        side = wanted.input_size[0]
        centre = rows[found, :2] + _anchors(side)[found] * side
        half = rows[found, 2:4] / 2
        xyxy = np.concatenate([centre - half, centre + half], 1).astype(np.float32)
        return boxes_of(xyxy, score[found].astype(np.float32), np.zeros(len(found), np.int32), letterbox, wanted)
