"""Planes of a picture in 4:2:0, to be drawn on without a way through RGB and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Planes"]

# Shares of red and blue in brightness, by the number of the matrix in ITU-T H.273. Any other is taken for BT.601.
_SHARES = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
_BT601 = (0.299, 0.114)


@dataclass(frozen=True, slots=True)
class Planes:
    """Brightness in full size, two colour planes of half of it (rounded up), all of them uint8 and writable.

    Sample (x, y) of a colour plane covers the pixels 2x and 2x + 1, 2y and 2y + 1.
    """

    y: NDArray[np.uint8]  # (height, width)
    u: NDArray[np.uint8]  # ((height + 1) // 2, (width + 1) // 2)
    v: NDArray[np.uint8]
    matrix: int  # as ITU-T H.273 numbers it
    full_range: bool  # black is 0 and white 255, instead of 16 and 235

    def converted(
        self, bgr: NDArray[Any], alpha: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Pixels (height, width, 3), blue first, of even size as planes in these colours, not yet rounded.

        Brightness has their full size, the colours are averages of four pixels. Where the pixels are multiplied by
        ``alpha`` (height, width; 0 to 1) already, so are the planes. Meant for small pictures.
        """
        height, width = bgr.shape[:2]
        to_yuv, offset = _transform(self.matrix, self.full_range)
        opaque = np.ones((height, width), np.float32) if alpha is None else alpha
        yuv = bgr[:, :, ::-1].astype(np.float32) @ to_yuv.T + offset * opaque[:, :, None]
        few = yuv[:, :, 1:].reshape(height // 2, 2, width // 2, 2, 2).mean((1, 3))
        return yuv[:, :, 0], few[:, :, 0], few[:, :, 1]

    def fill(self, x1: int, y1: int, x2: int, y2: int, bgr: tuple[int, int, int]) -> None:
        """Make the pixels [y1:y2, x1:x2] one colour, as far as they are in the picture.

        Colour samples that they only touch get the colour whole: lines of one pixel keep it.
        """
        height, width = self.y.shape
        x1, y1, x2, y2 = max(0, x1), max(0, y1), min(width, x2), min(height, y2)
        if x2 <= x1 or y2 <= y1:
            return
        bright, blue, red = _sample(self.matrix, self.full_range, bgr)
        self.y[y1:y2, x1:x2] = bright
        rows, columns = slice(y1 // 2, (y2 + 1) // 2), slice(x1 // 2, (x2 + 1) // 2)
        self.u[rows, columns] = blue
        self.v[rows, columns] = red


@lru_cache(maxsize=16)
def _transform(matrix: int, full_range: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(3, 3) and (3,) that make Y, U, V of red, green, blue."""
    red, blue = _SHARES.get(matrix, _BT601)
    light = np.array([red, 1 - red - blue, blue])
    rows = np.array([light, ([0, 0, 1] - light) / (2 - 2 * blue), ([1, 0, 0] - light) / (2 - 2 * red)])
    if full_range:
        return rows.astype(np.float32), np.array([0, 128, 128], np.float32)
    scale = np.array([[219 / 255], [224 / 255], [224 / 255]])
    return (rows * scale).astype(np.float32), np.array([16, 128, 128], np.float32)


@lru_cache(maxsize=1024)
def _sample(matrix: int, full_range: bool, bgr: tuple[int, int, int]) -> tuple[int, int, int]:
    to_yuv, offset = _transform(matrix, full_range)
    y, u, v = np.clip((to_yuv @ np.array(bgr[::-1], np.float32) + offset).round(), 0, 255).astype(int).tolist()
    return y, u, v
