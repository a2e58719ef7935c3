"""Pictures for tests, made by arithmetic: the same on every machine."""

from __future__ import annotations

import numpy as np

from llamapipe.data import Image

__all__ = ["moving_scene"]


def moving_scene(width: int, height: int, frames: int, *, fps: float = 25.0, stream: str = "stream") -> list[Image]:
    """A coloured ramp with fine texture, before which a bright square walks to the right.

    Pixels are read-only, as those of decoded frames are; ``frames`` pictures, ``fps`` frames a second.
    """
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    texture = (x * 37 + y * 91) % 23
    ramp = np.stack(
        [x * 160 // max(1, width - 1) + 0 * y, y * 160 // max(1, height - 1) + 0 * x, 40 + 0 * x + 0 * y], axis=-1
    )
    ground = (ramp + texture[:, :, None] + 20).astype(np.uint8)
    side = max(1, min(width, height) // 4)
    images: list[Image] = []
    for i in range(frames):
        pixels = ground.copy()
        left = (i * side // 2) % max(1, width - side + 1)
        top = (height - side) // 2
        pixels[top : top + side, left : left + side] = (30, 220, 250)
        pixels.flags.writeable = False
        images.append(Image.from_bgr(pixels, stream=stream, seq=i, pts_s=i / fps))
    return images
