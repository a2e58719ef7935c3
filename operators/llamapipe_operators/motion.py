"""What moves: the comparison of pictures that the motion gate goes by too, and motion, which tells of it.

Notation: f, k are two small, smoothed pictures (h, w) of brightness, 0..255; k is the one that is kept. What the whole
picture does (light that fades, exposure) is no motion, and noise of camera and codec is what the picture itself has:

    d = f - k                        m = median(d)
    s = 1.4826 median(|d - m|)       robust deviation; half of the picture may move before it tells of motion
    level = min(max(least, 6 s), 40)
    share = mean(|d - m| > level), or 1 where |m| > 40

A picture is compared with the one that something was last seen to change in, not with the one before: slow motion adds
up until it counts, and what stands still again counts no more.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Event, Events, Image
from llamapipe.operator import Context, Inputs, Manifest, Operator, Outputs, Param, Port, PortKind, State
from llamapipe_operators.luma import small_luma

__all__ = ["COMPARISON", "Motion", "Scene"]

_STRONG = 40.0  # levels: a change that counts whatever the noise
_WEAK = 4.0  # levels: just above what a codec leaves of a still picture
_DEVIATIONS = 6.0  # of the noise, which a smoothed picture of 20,000 pixels hardly ever has by chance
_SIGMA = 1.4826  # of a normal distribution, by the median of its absolute values
_EVERY = 2  # pixels, either way, that medians are taken of

COMPARISON = {
    "threshold": Param(float, 0.004, "share of the picture that must change for it to count", minimum=0, maximum=1),
    "sensitivity": Param(
        float,
        0.7,
        "how small a change of brightness counts: 0 only strong, 1 the slightest; never what noise alone may do",
        minimum=0,
        maximum=1,
    ),
    "max_side": Param(int, 192, "longer side of the small picture compared, pixels", minimum=16, maximum=1920),
}
"""Parameters of operators that compare pictures."""


class Scene:
    """The picture that others are compared with."""

    def __init__(self, sensitivity: float, max_side: int) -> None:
        self._least = _STRONG * (_WEAK / _STRONG) ** sensitivity
        self._max_side = max_side
        self._kept: NDArray[np.float32] | None = None
        self._small: NDArray[np.float32] | None = None

    def changed(self, image: Image) -> float:
        """Share of the picture, 0..1, that is not as in the one kept; 1 where none is, or one of another size."""
        import cv2

        small = cv2.GaussianBlur(small_luma(image, self._max_side), (5, 5), 0).astype(np.float32)
        self._small = small
        if self._kept is None or self._kept.shape != small.shape:
            return 1.0
        difference = small - self._kept
        some = difference[::_EVERY, ::_EVERY]
        shift = np.median(some)
        if abs(shift) > _STRONG:
            return 1.0
        noise = _SIGMA * float(np.median(np.abs(some - shift)))
        level = min(max(self._least, _DEVIATIONS * noise), _STRONG)
        return float(np.count_nonzero(np.abs(difference - shift) > level) / difference.size)

    def keep(self) -> None:
        """From now on the last picture that was asked about."""
        self._kept = self._small

    def snapshot(self) -> Any:
        """The kept picture as float32 bytes with its shape."""
        kept = self._kept
        return {"shape": None, "picture": b""} if kept is None else {"shape": [*kept.shape], "picture": kept.tobytes()}

    def restore(self, state: Any) -> None:
        """See `snapshot`."""
        shape = state["shape"]
        self._kept = None if shape is None else np.frombuffer(state["picture"], np.float32).reshape(shape).copy()


class Motion(Operator):
    """Tell which frames show something else than before: an event for each.

    Each picture is compared, small and smoothed, with the last one that had an event; what counts as noise is learned
    from the two, and light that changes everywhere is no motion. Made for a camera that stands still: where it moves,
    every frame has an event. The first frame has one always, and another comes after `still_s` at the latest, whatever
    is seen. A stage's knob `skip_still` puts this before it.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/motion@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={"frames": Port(PortKind.FRAMES, "the frames of one stream, in order")},
        outputs={"events": Port(PortKind.EVENTS, "`motion` for a frame that differs; value: share of the picture")},
        params={
            **COMPARISON,
            "still_s": Param(
                float, 5.0, "seconds without motion after which an event comes anyhow", minimum=0, maximum=3600
            ),
        },
        state=State.PER_STREAM,
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._scene = Scene(float(self.params["sensitivity"]), self.params["max_side"])
        self._last_s: float | None = None  # presentation time of the last event

    def process(self, inputs: Inputs) -> Outputs:
        """Compare the next frame of the stream."""
        image: Image = inputs["frames"]
        share = self._scene.changed(image)
        # Time that went back is a source that began anew.
        due = self._last_s is None or not 0 <= image.pts_s - self._last_s < float(self.params["still_s"])
        if share <= float(self.params["threshold"]) and not due:
            return {"events": Events([])}
        self._scene.keep()
        self._last_s = image.pts_s
        return {"events": Events([Event("motion", value=round(share, 6))])}

    def snapshot(self) -> Any:
        """The picture compared with, and the last event's time in seconds of media time."""
        return {"scene": self._scene.snapshot(), "last_s": self._last_s}

    def restore(self, state: Any) -> None:
        """See `snapshot`."""
        self._scene.restore(state["scene"])
        self._last_s = state["last_s"]
