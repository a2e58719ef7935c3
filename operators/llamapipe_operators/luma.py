"""Brightness of a picture, without a colour conversion where the decoder's own picture already has it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Image

__all__ = ["PLANAR_YUV420", "luma", "small_luma"]

PLANAR_YUV420 = ("yuv420p", "yuvj420p")
"""Pixel formats with a full-size 8-bit brightness plane and two chroma planes of half the size."""


def luma(image: Image) -> NDArray[np.uint8]:
    """Brightness as (height, width) uint8. Read only: it may be the decoder's own memory.

    Video range (16..235) or full range, as the source has it; only differences of it mean anything.
    """
    import cv2

    native = image.native
    if native is not None and native.format in PLANAR_YUV420:
        frame = native.frame()
        if frame is not None:
            plane = frame.planes[0]
            whole = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
            if image.region is None and whole.shape == (image.height, image.width):
                return whole
            if image.region is not None:
                x1, y1, x2, y2 = image.region
                if whole.shape[0] >= y2 and whole.shape[1] >= x2:
                    return whole[y1:y2, x1:x2]
    gray: NDArray[np.uint8] = cv2.cvtColor(image.bgr, cv2.COLOR_BGR2GRAY)
    return gray


def small_luma(image: Image, max_side: int) -> NDArray[np.uint8]:
    """`luma`, shrunk by area averaging until its longer side is at most ``max_side`` pixels."""
    import cv2

    gray = luma(image)
    scale = max_side / max(gray.shape)
    if scale >= 1:
        return gray
    size = (max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale)))
    small: NDArray[np.uint8] = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return small
