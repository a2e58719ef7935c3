"""Operators that let some frames through and end the others here: sample, motion-gate."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Event, Events, Image
from llamapipe.operator import (
    FILTERED,
    REQUIRED,
    Context,
    Filtered,
    Inputs,
    Manifest,
    Operator,
    Outputs,
    Param,
    Port,
    PortKind,
    State,
)
from llamapipe_operators.luma import small_luma

__all__ = ["MotionGate", "Sample"]


class Sample(Operator):
    """Let frames through at `fps` frames a second; the others end here and count as filtered.

    Frames are picked by their time stamps, so a source of variable rate gives an even sample, and a source that
    is slower than `fps` loses nothing. To run only one stage at a lower rate, and keep every frame, set that
    stage's `sample_fps` instead.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/sample@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={"frames": Port(PortKind.FRAMES, "the frames of one stream, in order")},
        outputs={"frames": Port(PortKind.FRAMES, "those that were picked, untouched")},
        params={
            "fps": Param(float, REQUIRED, "frames a second to let through, at most", minimum=0.001, maximum=1000),
        },
        state=State.PER_STREAM,
        filters=True,
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._interval_s = 1.0 / float(self.params["fps"])
        # Time stamps are rounded to the container's ticks (1 ms in Matroska): a frame that is nearly due counts as due.
        self._slack_s = min(self._interval_s / 4, 0.002)
        self._due_s: float | None = None

    def process(self, inputs: Inputs) -> Outputs | Filtered:
        """Pass the frame if it is due."""
        image: Image = inputs["frames"]
        pts_s = image.pts_s
        if self._due_s is None or pts_s < self._due_s - 2 * self._interval_s:  # first frame, or time went back
            self._due_s = pts_s
        if pts_s < self._due_s - self._slack_s:
            return FILTERED
        self._due_s += self._interval_s
        if self._due_s <= pts_s:  # a gap in the source: start a new beat instead of catching up
            self._due_s = pts_s + self._interval_s
        return {"frames": image}

    def snapshot(self) -> Any:
        """When the next frame is due, seconds of media time."""
        return {"due_s": self._due_s}

    def restore(self, state: Any) -> None:
        """See `snapshot`."""
        self._due_s = state["due_s"]


class MotionGate(Operator):
    """Let frames through while something moves; the others end here and count as filtered.

    Each picture is compared, small and smoothed, with a background that slowly follows the scene. It works for a
    camera that stands still. Put it before costly stages of a feed that is empty most of the time. The first
    frame always passes.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/motion-gate@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={"frames": Port(PortKind.FRAMES, "the frames of one stream, in order")},
        outputs={
            "frames": Port(PortKind.FRAMES, "those with motion, untouched"),
            "events": Port(PortKind.EVENTS, "`motion` for each frame let through; value: share of the picture moving"),
        },
        params={
            "threshold": Param(
                float, 0.004, "share of the picture that must change to open the gate", minimum=0, maximum=1
            ),
            "sensitivity": Param(
                float,
                0.7,
                "how small a change of brightness counts: 0 only strong, 1 the slightest",
                minimum=0,
                maximum=1,
            ),
            "hold_s": Param(
                float, 1.0, "seconds that the gate stays open after the last motion", minimum=0, maximum=600
            ),
            "adapt_s": Param(
                float, 4.0, "seconds in which the background takes up what stays still", minimum=0.04, maximum=3600
            ),
            "max_side": Param(int, 192, "longer side of the small picture compared, pixels", minimum=16, maximum=1920),
        },
        state=State.PER_STREAM,
        filters=True,
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        # In levels of brightness: 40 (a shadow does not count) down to 4 (just above sensor noise after smoothing).
        self._min_change = 40.0 * 0.1 ** float(self.params["sensitivity"])
        self._background: NDArray[np.float32] | None = None
        self._last_s = 0.0
        self._open_until_s = float("-inf")

    def process(self, inputs: Inputs) -> Outputs | Filtered:
        """Pass the frame if the gate is open."""
        import cv2

        image: Image = inputs["frames"]
        small = cv2.GaussianBlur(small_luma(image, self.params["max_side"]), (5, 5), 0).astype(np.float32)
        background = self._background
        if background is None or background.shape != small.shape:
            self._background = small
            self._last_s = image.pts_s
            self._open_until_s = image.pts_s  # the first frame passes, without holding the gate open
            return {"frames": image, "events": Events([Event("motion", value=1.0)])}
        changed = np.abs(small - background) > self._min_change
        share = float(changed.mean())
        elapsed_s = max(0.0, image.pts_s - self._last_s)
        # A first-order filter in time: after adapt_s, 63 % of a lasting change has become background.
        weight = 1.0 - float(np.exp(-elapsed_s / float(self.params["adapt_s"])))
        self._background = background + np.float32(weight) * (small - background)
        self._last_s = image.pts_s
        if share > float(self.params["threshold"]):
            self._open_until_s = image.pts_s + float(self.params["hold_s"])
        elif image.pts_s > self._open_until_s:
            return FILTERED
        return {"frames": image, "events": Events([Event("motion", value=round(share, 6))])}

    def snapshot(self) -> Any:
        """Background as float32 bytes with its shape, and the gate's times in seconds of media time."""
        background = self._background
        return {
            "shape": None if background is None else list(background.shape),
            "background": b"" if background is None else background.tobytes(),
            "last_s": self._last_s,
            "open_until_s": None if np.isinf(self._open_until_s) else self._open_until_s,
        }

    def restore(self, state: Any) -> None:
        """See `snapshot`."""
        self._background = None
        if state["shape"] is not None:
            self._background = np.frombuffer(state["background"], np.float32).reshape(state["shape"]).copy()
        self._last_s = state["last_s"]
        self._open_until_s = float("-inf") if state["open_until_s"] is None else state["open_until_s"]
