"""What is drawn on: a picture's planes where it has them, else a copy of its pixels. Both look the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Image, Planes

__all__ = ["Canvas", "Colour", "Overlay", "Tile", "canvas_of"]

Colour = tuple[int, int, int]  # blue, green, red


class Tile:
    """A small opaque picture (height, width, 3), blue first, of even size, that is drawn again and again."""

    def __init__(self, bgr: NDArray[np.uint8]) -> None:
        self.bgr = bgr
        self.height, self.width = bgr.shape[:2]
        self._planes: dict[tuple[int, bool], list[NDArray[np.uint8]]] = {}

    def planes_for(self, planes: Planes) -> list[NDArray[np.uint8]]:
        """The tile in the colours of ``planes``: Y, U, V."""
        key = planes.matrix, planes.full_range
        if key not in self._planes:
            self._planes[key] = [np.clip(p.round(), 0, 255).astype(np.uint8) for p in planes.converted(self.bgr)]
        return self._planes[key]


@dataclass(frozen=True, slots=True)
class _Layer:
    """What becomes of single samples of a plane: sample * keep + add."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    keep: NDArray[np.float32]  # (n,), or (n, 1) for pixels of three values
    add: NDArray[np.float32]  # (n,) or (n, 3)

    @classmethod
    def of(cls, alpha: NDArray[np.float32], add: NDArray[np.float32], shape: tuple[int, ...]) -> _Layer:
        height, width = shape[:2]
        rows, columns = np.nonzero(alpha[:height, :width])
        keep = 1 - alpha[rows, columns]
        return cls(rows, columns, keep[:, None] if add.ndim == 3 else keep, add[rows, columns])

    def apply(self, plane: NDArray[np.uint8]) -> None:
        found = plane[self.rows, self.columns] * self.keep + self.add
        plane[self.rows, self.columns] = np.clip(found + 0.5, 0, 255).astype(np.uint8)


class Overlay:
    """Lines as large as the picture, with soft edges, that are drawn into every frame."""

    def __init__(self, width: int, height: int, paint: Callable[[NDArray[np.uint8]], None]) -> None:
        # What is painted on black and on white tells how much of the ground shines through.
        dark = np.zeros((height + height % 2, width + width % 2, 3), np.uint8)
        light = np.full_like(dark, 255)
        paint(dark[:height, :width])
        paint(light[:height, :width])
        self._add = dark.astype(np.float32)
        self._alpha = 1 - (light.astype(np.float32) - dark).mean(axis=2) / 255
        self._layers: dict[tuple[int, bool] | None, list[_Layer]] = {}

    def on_pixels(self, bgr: NDArray[np.uint8]) -> None:
        """Draw it into (height, width, 3) uint8, blue first."""
        if None not in self._layers:
            self._layers[None] = [_Layer.of(self._alpha, self._add, bgr.shape)]
        self._layers[None][0].apply(bgr)

    def on_planes(self, planes: Planes) -> None:
        """Draw it into planes."""
        targets = (planes.y, planes.u, planes.v)
        key = planes.matrix, planes.full_range
        if key not in self._layers:
            height, width = self._alpha.shape
            few = self._alpha.reshape(height // 2, 2, width // 2, 2).mean((1, 3))
            added = planes.converted(self._add, self._alpha)
            alphas = (self._alpha, few, few)
            self._layers[key] = [
                _Layer.of(alpha, add, plane.shape) for alpha, add, plane in zip(alphas, added, targets, strict=True)
            ]
        for layer, plane in zip(self._layers[key], targets, strict=True):
            layer.apply(plane)


class Canvas(Protocol):
    """Draws, and gives the picture that has been drawn."""

    @property
    def image(self) -> Image:
        """The picture with the drawing. Nothing may be drawn once it is given away."""
        ...

    def fill(self, x1: int, y1: int, x2: int, y2: int, colour: Colour) -> None:
        """Make the pixels [y1:y2, x1:x2] one colour, as far as they are in the picture."""
        ...

    def paste(self, tile: Tile, x: int, y: int) -> None:
        """Put the tile's upper left corner at (x, y), both even; what is outside is cut off."""
        ...

    def lay(self, overlay: Overlay) -> None:
        """Draw an overlay of the picture's size."""
        ...


def canvas_of(image: Image) -> Canvas:
    """A canvas with the picture on it; the picture itself stays as it is."""
    copy = image.to_draw_on()
    return _PixelCanvas(image) if copy is None else _PlaneCanvas(*copy)


class _PixelCanvas:
    def __init__(self, image: Image) -> None:
        self._pixels = image.bgr.copy()
        self.image = image.replaced(self._pixels)

    def fill(self, x1: int, y1: int, x2: int, y2: int, colour: Colour) -> None:
        self._pixels[max(0, y1) : max(0, y2), max(0, x1) : max(0, x2)] = colour

    def paste(self, tile: Tile, x: int, y: int) -> None:
        _paste(self._pixels, tile.bgr, x, y)

    def lay(self, overlay: Overlay) -> None:
        overlay.on_pixels(self._pixels)


class _PlaneCanvas:
    def __init__(self, image: Image, planes: Planes) -> None:
        self.image = image
        self._planes = planes

    def fill(self, x1: int, y1: int, x2: int, y2: int, colour: Colour) -> None:
        self._planes.fill(x1, y1, x2, y2, colour)

    def paste(self, tile: Tile, x: int, y: int) -> None:
        bright, blue, red = tile.planes_for(self._planes)
        _paste(self._planes.y, bright, x, y)
        _paste(self._planes.u, blue, x // 2, y // 2)
        _paste(self._planes.v, red, x // 2, y // 2)

    def lay(self, overlay: Overlay) -> None:
        overlay.on_planes(self._planes)


def _paste(target: NDArray[np.uint8], source: NDArray[np.uint8], x: int, y: int) -> None:
    height, width = target.shape[:2]
    left, top = max(0, x), max(0, y)
    right, bottom = min(width, x + source.shape[1]), min(height, y + source.shape[0])
    if right > left and bottom > top:
        target[top:bottom, left:right] = source[top - y : bottom - y, left - x : right - x]
