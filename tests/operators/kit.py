"""What tests of operators share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llamapipe.data import Boxes, Classes, Image, Tracks
from llamapipe.operator import Context, Operator, Predictor


class BrightSpot:
    """A predictor without a model file: finds the box around the pixels much brighter than the average."""

    names = ("spot",)

    def predict(self, images: Sequence[Image]) -> Sequence[Boxes]:
        return [self._found(image) for image in images]

    def _found(self, image: Image) -> Boxes:
        gray = image.bgr.mean(axis=2)
        ys, xs = np.nonzero(gray > gray.mean() + 40)
        if not len(xs):
            return Boxes.empty(self.names)
        box = [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]
        return Boxes(np.array(box, np.float32), np.array([0.9], np.float32), np.array([0], np.int32), self.names)


class Overall:
    """A predictor that names pictures: light or dark."""

    names = ("dark", "light")

    def predict(self, images: Sequence[Image]) -> Sequence[Classes]:
        return [
            Classes(
                np.array([[0, 0, image.width, image.height]], np.float32),
                np.array([0.8], np.float32),
                np.array([int(image.bgr.mean() > 127)], np.int32),
                self.names,
            )
            for image in images
        ]


def make(
    cls: type[Operator],
    *,
    size: tuple[int, int] = (320, 240),
    rate: float = 25.0,
    predictor: Predictor | None = None,
    **params: Any,
) -> Operator:
    """An operator with its defaults filled in, as the runtime makes it."""
    filled = {name: params.get(name, param.default) for name, param in cls.manifest.params.items()}
    return cls(Context("stage", filled, predictor, "cam", *size, rate))


def boxes(*xyxy: Sequence[float], score: float = 0.9, label: str = "person", tracks: Sequence[int] = ()) -> Boxes:
    """Boxes that are all alike but for their places."""
    n = len(xyxy)
    places = np.array(xyxy, np.float32).reshape(-1, 4)
    scores, labels = np.full(n, score, np.float32), np.zeros(n, np.int32)
    if tracks:
        return Tracks(places, scores, labels, (label,), np.array(tracks))
    return Boxes(places, scores, labels, (label,))


def gray(width: int = 320, height: int = 240, level: int = 128, *, seq: int = 0, fps: float = 25.0) -> Image:
    """An even picture."""
    return Image.from_bgr(np.full((height, width, 3), level, np.uint8), stream="cam", seq=seq, pts_s=seq / fps)


def textured(width: int = 320, height: int = 240, seed: int = 0) -> Image:
    """A picture full of fine detail."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.from_bgr(pixels, stream="cam")


def decoded(width: int = 320, height: int = 240, *, textured: bool = False, matrix: int = 2) -> Image:
    """A picture as decoders give it, 4:2:0 planes in the colours of ``matrix``: gray or full of fine detail."""
    import av  # not above: a test looks at what operators import by themselves

    from llamapipe.media import AvPicture

    frame = av.VideoFrame(width, height, "yuv420p")
    frame.colorspace = matrix
    rng = np.random.default_rng(0)
    for plane in frame.planes:
        samples = np.frombuffer(plane, np.uint8)
        samples[:] = rng.integers(60, 200, len(samples), np.uint8) if textured else 128
    return Image(width=width, height=height, native=AvPicture(frame), stream="cam")
