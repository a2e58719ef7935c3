"""Taking noise out of pictures: denoise."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Image
from llamapipe.operator import Context, Inputs, Manifest, Operator, Outputs, Param, Port, PortKind, State

__all__ = ["Denoise"]

_METHODS = ("temporal", "bilateral", "median", "nlmeans")


class Denoise(Operator):
    """Take noise out of pictures.

    `temporal`, the default, averages over time what stands still, and smooths in space only what moves: it keeps
    detail and is fast. The others look at one picture alone: `bilateral` keeps edges, `median` is for single wrong
    pixels, `nlmeans` is thorough and takes about a hundred times as long.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/denoise@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={"frames": Port(PortKind.FRAMES, "the frames of one stream, in order")},
        outputs={"frames": Port(PortKind.FRAMES, "the same with less noise")},
        params={
            "method": Param(str, "temporal", "how", choices=_METHODS),
            "strength": Param(float, 0.4, "how strong the noise is: 0 none, 1 very strong", minimum=0, maximum=1),
        },
        state=State.PER_STREAM,
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sigma = 25.0 * float(self.params["strength"])  # of the noise, in levels of brightness
        self._mean: NDArray[np.uint8] | None = None
        self._new_weights = _new_weights(self._sigma)

    def process(self, inputs: Inputs) -> Outputs:
        """Clean the next frame of the stream."""
        import cv2

        image: Image = inputs["frames"]
        if not self._sigma:
            return {"frames": image}
        bgr, method = image.bgr, self.params["method"]
        if method == "temporal":
            return {"frames": image.replaced(self._averaged(bgr))}
        if method == "bilateral":
            return {"frames": image.replaced(self._smoothed(bgr))}
        if method == "median":
            return {"frames": image.replaced(cv2.medianBlur(bgr, 3 if self._sigma <= 12 else 5))}
        cleaned = cv2.fastNlMeansDenoisingColored(bgr, None, self._sigma * 0.7, self._sigma * 0.7, 5, 15)
        return {"frames": image.replaced(cleaned)}

    def _smoothed(self, bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import cv2

        smooth: NDArray[np.uint8] = cv2.bilateralFilter(bgr, 5, 3 * self._sigma, 2)
        return smooth

    def _averaged(self, bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Mix the picture into the running mean, pixel by pixel as much as it differs from it."""
        import cv2

        mean = self._mean
        if mean is None or mean.shape != bgr.shape:
            self._mean = self._smoothed(bgr)
            return self._mean
        # Differences are averaged over a small area: noise cancels out there, motion does not.
        change = cv2.cvtColor(cv2.absdiff(cv2.blur(bgr, (5, 5)), cv2.blur(mean, (5, 5))), cv2.COLOR_BGR2GRAY)
        weight = cv2.LUT(cv2.dilate(change, np.ones((3, 3), np.uint8)), self._new_weights)
        mixed: NDArray[np.uint8] = cv2.blendLinear(self._smoothed(bgr), mean, weight, 1 - weight)
        self._mean = mixed
        return mixed

    def snapshot(self) -> Any:
        """The running mean, as bytes with its shape."""
        mean = self._mean
        return None if mean is None else {"shape": list(mean.shape), "mean": mean.tobytes()}

    def restore(self, state: Any) -> None:
        """See `snapshot`."""
        self._mean = None
        if state is not None:
            self._mean = np.frombuffer(state["mean"], np.uint8).reshape(state["shape"]).copy()


def _new_weights(sigma: float) -> NDArray[np.float32]:
    """Weight (256,) of a new pixel in the mean, by how much its surroundings changed, in levels."""
    change = np.arange(256, dtype=np.float32)
    # What is left of the noise after a 5 x 5 average is sigma / 5; twice that is still noise, six times is motion.
    quiet, moving = 0.4 * sigma + 0.5, 1.2 * sigma + 2.0
    share = np.clip((change - quiet) / (moving - quiet), 0, 1)
    weights: NDArray[np.float32] = (0.15 + 0.85 * share).astype(np.float32)
    return weights
