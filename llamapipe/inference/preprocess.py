"""Pictures into tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Image
from llamapipe.inference.decoders import Letterbox, Preprocess

__all__ = ["new_tensor", "placer"]


def new_tensor(preprocess: Preprocess, batch: int, size: tuple[int, int]) -> NDArray[Any]:
    """An input for ``batch`` pictures of ``size`` (height, width), filled with the padding."""
    height, width = size
    shape = (batch, 3, height, width) if preprocess.layout == "nchw" else (batch, height, width, 3)
    if preprocess.dtype == "uint8":
        return np.full(shape, round(preprocess.pad_value), np.uint8)
    tensor = np.empty(shape, np.float32)
    axis = (1, 3, 1, 1) if preprocess.layout == "nchw" else (1, 1, 1, 3)
    gain, offset = _affine(preprocess)
    tensor[:] = (np.float32(preprocess.pad_value) * gain + offset).reshape(axis)
    return tensor


def placer(preprocess: Preprocess, size: tuple[int, int]) -> Callable[[Image, NDArray[Any]], Letterbox]:
    """A function that puts one picture into its slot of the tensor, (3, height, width) or (height, width, 3).

    A slot may hold an earlier, differently shaped picture: what the new one does not cover is padding again. Slots of
    one shape after the other, the common case, keep their padding.
    """
    import cv2

    height, width = size
    gain, offset = _affine(preprocess)
    plain = bool((gain == 1).all() and (offset == 0).all())
    order = (0, 1, 2) if preprocess.colour == "bgr" else (2, 1, 0)
    shapes: dict[int, tuple[int, int, int, int]] = {}  # by address of the slot: what its picture covers
    padding = (np.float32(preprocess.pad_value) * gain + offset) if preprocess.dtype == "float32" else None
    planes: list[NDArray[np.uint8]] = []  # kept: new memory for each picture costs more than the splitting

    def place(image: Image, slot: NDArray[Any]) -> Letterbox:
        box, (left, top, w, h) = _fit(preprocess, image.width, image.height, width, height)
        pixels = image.bgr_at(w, h)  # bilinear: what networks are trained on
        covered, address = (left, top, w, h), slot.ctypes.data
        if shapes.get(address) != covered:
            shapes[address] = covered
            _pad(slot, preprocess, padding, left, top, w, h)
        if preprocess.layout == "nhwc":
            target = slot[top : top + h, left : left + w]
            if preprocess.dtype == "uint8":
                cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=target) if preprocess.colour == "rgb" else np.copyto(
                    target, pixels
                )
                return box
            np.multiply(pixels if preprocess.colour == "bgr" else pixels[:, :, ::-1], gain, out=target)
            target += offset
            return box
        if not planes or planes[0].shape != (h, w):
            planes[:] = [np.empty((h, w), np.uint8) for _ in range(3)]
        cv2.split(pixels, planes)
        for channel, source in enumerate(order):
            target = slot[channel, top : top + h, left : left + w]
            target[:] = planes[source]
            if not plain and preprocess.dtype == "float32":
                target *= gain[channel]  # in place: faster than to multiply and convert at once
                if offset[channel]:
                    target += offset[channel]
        return box

    return place


def _affine(preprocess: Preprocess) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gain and offset (3,) per channel of the network's own order."""
    std, mean = np.array(preprocess.std, np.float32), np.array(preprocess.mean, np.float32)
    return np.float32(preprocess.scale) / std, -mean / std


def _fit(
    preprocess: Preprocess, picture_width: int, picture_height: int, width: int, height: int
) -> tuple[Letterbox, tuple[int, int, int, int]]:
    """The letterbox, and the place (left, top, width, height) of the picture in the input."""
    if preprocess.resize == "stretch":
        scale_x, scale_y = width / picture_width, height / picture_height
        return Letterbox(scale_x, scale_y, 0, 0, picture_width, picture_height), (0, 0, width, height)
    scale = min(width / picture_width, height / picture_height)
    w = min(width, max(1, int(picture_width * scale)))
    h = min(height, max(1, int(picture_height * scale)))
    left = top = 0
    if preprocess.resize == "letterbox-center":
        left, top = (width - w) // 2, (height - h) // 2
    return Letterbox(scale, scale, left, top, picture_width, picture_height), (left, top, w, h)


def _pad(
    slot: NDArray[Any],
    preprocess: Preprocess,
    padding: NDArray[np.float32] | None,
    left: int,
    top: int,
    w: int,
    h: int,
) -> None:
    """Fill the strips around the picture."""
    nchw = preprocess.layout == "nchw"
    strips = (
        (slice(0, top), slice(None)),
        (slice(top + h, None), slice(None)),
        (slice(top, top + h), slice(0, left)),
        (slice(top, top + h), slice(left + w, None)),
    )
    for rows, columns in strips:
        if padding is None:
            slot[(slice(None), rows, columns) if nchw else (rows, columns)] = round(preprocess.pad_value)
        elif nchw:
            slot[:, rows, columns] = padding[:, None, None]
        else:
            slot[rows, columns] = padding
