"""Changing how pictures look: denoise, toonify, vintage."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Image
from llamapipe.operator import Context, Inputs, Manifest, Operator, Outputs, Param, Port, PortKind

__all__ = ["Denoise", "Toonify", "Vintage"]

_INPUTS = {"frames": Port(PortKind.FRAMES, "the pictures")}

# Blue, green, red of a sepia print from blue, green, red of the picture: a luma (ITU-R BT.601) tinted brown.
_LUMA = np.array([0.114, 0.587, 0.299], np.float32)
_BROWN = np.array([0.78, 0.95, 1.08], np.float32)


class Denoise(Operator):
    """Take sensor noise out of pictures and keep edges.

    `bilateral` is quick and good for video; `median` takes out single wrong pixels and is quickest; `nlmeans` looks
    best and takes seconds a frame.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/denoise@v1",
        doc=cleandoc(__doc__ or ""),
        inputs=_INPUTS,
        outputs={"frames": Port(PortKind.FRAMES, "the pictures with less noise")},
        params={
            "method": Param(str, "bilateral", "how", choices=("bilateral", "median", "nlmeans")),
            "strength": Param(float, 0.4, "from 0, nothing, to 1, flat areas", minimum=0, maximum=1),
        },
    )

    def process(self, inputs: Inputs) -> Outputs:
        """Denoise one picture; the same picture at strength 0."""
        image: Image = inputs["frames"]
        strength = float(self.params["strength"])
        if strength == 0:
            return {"frames": image}
        return {"frames": image.replaced(self._denoised(image.bgr, strength))}

    def _denoised(self, pixels: NDArray[np.uint8], strength: float) -> NDArray[Any]:
        import cv2

        method = self.params["method"]
        if method == "median":
            return np.asarray(cv2.medianBlur(pixels, 3 if strength <= 0.5 else 5))
        if method == "nlmeans":
            return np.asarray(cv2.fastNlMeansDenoisingColored(pixels, None, 20 * strength, 20 * strength, 7, 21))
        return np.asarray(cv2.bilateralFilter(pixels, 5, 100 * strength, 3))


class Toonify(Operator):
    """Make pictures look drawn: flat colours, dark outlines."""

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/toonify@v1",
        doc=cleandoc(__doc__ or ""),
        inputs=_INPUTS,
        outputs={"frames": Port(PortKind.FRAMES, "the pictures as a drawing")},
        params={
            "levels": Param(int, 10, "levels that brightness is cut to", minimum=2, maximum=64),
            "edges": Param(float, 0.5, "how much is outlined, from 0 to 1", minimum=0, maximum=1),
        },
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        levels = int(self.params["levels"])
        steps = np.floor(np.arange(256) * levels / 256)
        self._table = np.round((steps + 0.5) * 255 / levels).clip(0, 255).astype(np.uint8)

    def process(self, inputs: Inputs) -> Outputs:
        """Draw one picture."""
        import cv2

        image: Image = inputs["frames"]
        pixels = image.bgr
        height, width = pixels.shape[:2]
        small = cv2.resize(pixels, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
        for _ in range(2):  # flat areas without lost edges
            small = cv2.bilateralFilter(small, 7, 40, 5)
        hue = cv2.cvtColor(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2HSV)
        hue[:, :, 2] = cv2.LUT(hue[:, :, 2], self._table)  # brightness alone: levels of each channel would tint greys
        flat = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)
        edges = float(self.params["edges"])
        if edges > 0:
            grey = cv2.medianBlur(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), 5)
            lines = cv2.adaptiveThreshold(
                grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 9, 2 + 10 * (1 - edges)
            )
            flat = cv2.bitwise_and(flat, cv2.cvtColor(lines, cv2.COLOR_GRAY2BGR))
        return {"frames": image.replaced(np.asarray(flat))}


class Vintage(Operator):
    """Make pictures look like an old print: brown, darker towards the corners, grainy.

    The grain of a frame depends on its number alone, so a second run gives the same pictures.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/vintage@v1",
        doc=cleandoc(__doc__ or ""),
        inputs=_INPUTS,
        outputs={"frames": Port(PortKind.FRAMES, "the pictures as old prints")},
        params={
            "sepia": Param(float, 0.8, "how brown, from 0 to 1", minimum=0, maximum=1),
            "vignette": Param(float, 0.5, "how dark the corners are, from 0 to 1", minimum=0, maximum=1),
            "grain": Param(float, 0.3, "how grainy, from 0 to 1", minimum=0, maximum=1),
        },
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        sepia = np.float32(self.params["sepia"])
        self._matrix = (1 - sepia) * np.eye(3, dtype=np.float32) + sepia * np.outer(_BROWN, _LUMA)
        self._shades: dict[tuple[int, int], NDArray[np.float32]] = {}

    def process(self, inputs: Inputs) -> Outputs:
        """Age one picture."""
        import cv2

        image: Image = inputs["frames"]
        height, width = image.height, image.width
        pixels = cv2.transform(image.bgr, self._matrix).astype(np.float32)
        grain = float(self.params["grain"])
        if grain > 0:
            noise = np.random.default_rng(image.seq).standard_normal(((height + 1) // 2, (width + 1) // 2), np.float32)
            pixels += cv2.resize(noise * np.float32(40 * grain), (width, height))[:, :, None]
        if self.params["vignette"]:
            pixels *= self._shade(height, width)
        return {"frames": image.replaced(np.clip(pixels, 0, 255).astype(np.uint8))}

    def _shade(self, height: int, width: int) -> NDArray[np.float32]:
        """Brightness (height, width, 1), 1 in the middle."""
        if (height, width) not in self._shades:
            y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
            x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
            shade = 1 - float(self.params["vignette"]) * (x**2 + y**2) / 2
            self._shades[height, width] = shade.astype(np.float32)[:, :, None]
        return self._shades[height, width]
