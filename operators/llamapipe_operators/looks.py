"""Operators that change how a picture looks: vintage, toonify."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Image
from llamapipe.operator import Context, Inputs, Manifest, Operator, Outputs, Param, Port, PortKind

__all__ = ["Toonify", "Vintage"]

_LUMA = np.array([0.114, 0.587, 0.299], np.float32)  # brightness of blue, green, red (ITU-R BT.601)
_BROWN = np.array([0.78, 0.95, 1.08], np.float32)  # what sepia makes of white
_GRAIN_SIDE = 512  # pixels of the square that grain is taken from


class Vintage(Operator):
    """Make pictures look like old film: sepia, faded blacks, dark corners and grain.

    The grain of a frame follows from its number and `seed`, so that two runs give the same pictures.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/vintage@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={"frames": Port(PortKind.FRAMES, "the pictures")},
        outputs={"frames": Port(PortKind.FRAMES, "the same in an old look")},
        params={
            "sepia": Param(float, 0.8, "0 keeps the colours, 1 is brown only", minimum=0, maximum=1),
            "fade": Param(float, 0.3, "how pale black becomes", minimum=0, maximum=1),
            "vignette": Param(float, 0.5, "how dark the corners become; 1 is black", minimum=0, maximum=1),
            "grain": Param(float, 0.25, "0 none, 1 very coarse", minimum=0, maximum=1),
            "seed": Param(int, 0, "another number, another grain", minimum=0),
        },
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        sepia, fade = float(self.params["sepia"]), float(self.params["fade"])
        lift = 60.0 * fade
        # One affine map of colours does sepia and faded blacks at once.
        mixed = sepia * np.outer(_BROWN, _LUMA) + (1 - sepia) * np.eye(3, dtype=np.float32)
        self._colours = np.hstack([mixed * (1 - lift / 255), np.full((3, 1), lift)]).astype(np.float32)
        self._grain: NDArray[np.int16] | None = None
        self._vignettes: dict[tuple[int, int], NDArray[np.float32]] = {}

    def process(self, inputs: Inputs) -> Outputs:
        """Age one picture."""
        import cv2

        image: Image = inputs["frames"]
        pixels = cv2.transform(image.bgr, self._colours)
        if self.params["vignette"]:
            pixels = cv2.multiply(pixels, self._vignette(image.height, image.width), dtype=cv2.CV_8U)
        if self.params["grain"]:
            pixels = cv2.add(pixels, self._grain_for(image), dtype=cv2.CV_8U)
        return {"frames": image.replaced(pixels)}

    def _vignette(self, height: int, width: int) -> NDArray[np.float32]:
        """Brightness (height, width, 3) by which pixels are multiplied: 1 in the middle."""
        known = self._vignettes.get((height, width))
        if known is None:
            y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] if height > 1 else np.zeros((1, 1), np.float32)
            x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] if width > 1 else np.zeros((1, 1), np.float32)
            distance = (x * x + y * y) / 2  # 0 in the middle, 1 in the corners
            bright = 1 - np.float32(self.params["vignette"]) * distance**1.5
            self._vignettes.clear()  # crops come in every size: one mask is kept, not all
            known = self._vignettes[height, width] = np.repeat(bright[:, :, None], 3, axis=2).astype(np.float32)
        return known

    def _grain_for(self, image: Image) -> NDArray[np.int16]:
        """Grain (height, width, 3): a part of one large noise picture, elsewhere in it for each frame."""
        import cv2

        if self._grain is None:
            rng = np.random.default_rng(int(self.params["seed"]))
            noise = rng.standard_normal((_GRAIN_SIDE, _GRAIN_SIDE)).astype(np.float32)
            clumped = cv2.GaussianBlur(noise, (3, 3), 0.7)
            clumped *= 30.0 * float(self.params["grain"]) / float(clumped.std())
            self._grain = np.repeat(clumped.astype(np.int16)[:, :, None], 3, axis=2)
        top, left = np.random.default_rng([int(self.params["seed"]), image.seq]).integers(0, _GRAIN_SIDE, 2).tolist()
        grain: NDArray[np.int16] = cv2.copyMakeBorder(
            np.roll(self._grain, (-top, -left), axis=(0, 1)),
            0,
            max(0, image.height - _GRAIN_SIDE),
            0,
            max(0, image.width - _GRAIN_SIDE),
            cv2.BORDER_WRAP,
        )
        return grain[: image.height, : image.width]


class Toonify(Operator):
    """Make pictures look drawn: few flat colours with dark outlines."""

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/toonify@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={"frames": Port(PortKind.FRAMES, "the pictures")},
        outputs={"frames": Port(PortKind.FRAMES, "the same, drawn")},
        params={
            "levels": Param(int, 8, "levels that brightness is cut to; 256 keeps all", minimum=2, maximum=256),
            "smooth": Param(int, 4, "how often surfaces are smoothed", minimum=0, maximum=20),
            "edges": Param(float, 0.6, "how strong outlines are; 0 draws none", minimum=0, maximum=1),
            "vivid": Param(
                float, 1.3, "1 keeps the saturation of colours, more makes them stronger", minimum=0, maximum=4
            ),
        },
    )

    def process(self, inputs: Inputs) -> Outputs:
        """Draw one picture."""
        import cv2

        image: Image = inputs["frames"]
        pixels = self._flat(image.bgr)
        if self.params["edges"]:
            # Outlines darken: multiplied in, so that colours shine through thin ones.
            ink = cv2.cvtColor(self._outlines(image.bgr), cv2.COLOR_GRAY2BGR)
            pixels = cv2.multiply(pixels, ink, scale=1 / 255)
        return {"frames": image.replaced(pixels)}

    def _flat(self, bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Even surfaces (height, width, 3). Smoothed at half size: edges stay, and it costs a quarter."""
        import cv2

        height, width = bgr.shape[:2]
        small = cv2.resize(bgr, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
        for _ in range(int(self.params["smooth"])):
            small = cv2.bilateralFilter(small, 5, 30, 4)
        lab = cv2.cvtColor(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2LAB)
        flat: NDArray[np.uint8] = cv2.cvtColor(cv2.LUT(lab, self._table()), cv2.COLOR_LAB2BGR)
        return flat

    def _table(self) -> NDArray[np.uint8]:
        """Look-up (256, 1, 3): brightness in steps, colours stretched away from grey."""
        levels = int(self.params["levels"])
        ramp = np.arange(256, dtype=np.float32)
        stepped = np.round(np.round(ramp / 255 * (levels - 1)) * 255 / (levels - 1))
        vivid = np.clip((ramp - 128) * float(self.params["vivid"]) + 128, 0, 255).round()
        return np.stack([stepped, vivid, vivid], axis=-1).astype(np.uint8).reshape(256, 1, 3)

    def _outlines(self, bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Ink (height, width): 255 is paper. Where a wide blur is brighter than a narrow one, something dark ends."""
        import cv2

        gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        narrow, wide = cv2.GaussianBlur(gray, (0, 0), 1.0), cv2.GaussianBlur(gray, (0, 0), 2.6)
        depth: Any = cv2.subtract(wide, narrow).astype(np.float32)
        # Below 2 levels it is noise; full ink from there on within few levels, so that lines have soft edges.
        ink = np.clip((depth - 2.0) * (120.0 * float(self.params["edges"])) / 4.0, 0, 255 * float(self.params["edges"]))
        paper: NDArray[np.uint8] = (255 - ink).astype(np.uint8)
        return paper
