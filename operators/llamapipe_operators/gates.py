"""Operators that let some frames through and end the others here: sample, motion-gate."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, ClassVar

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
from llamapipe_operators.motion import COMPARISON, Scene

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

    Each picture is compared, small and smoothed, with the last one in which something had changed; what counts as noise
    is learned from the two, and light that changes everywhere is no motion. It works for a camera that stands still.
    Put it before costly stages of a feed that is empty most of the time. The first frame always passes. To keep every
    frame, and skip only a stage's work on those without motion, set that stage's `skip_still` instead.
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
            **COMPARISON,
            "hold_s": Param(
                float, 1.0, "seconds that the gate stays open after the last motion", minimum=0, maximum=600
            ),
        },
        state=State.PER_STREAM,
        filters=True,
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._scene = Scene(float(self.params["sensitivity"]), self.params["max_side"])
        self._open_until_s: float | None = None  # media time; None: nothing has come yet

    def process(self, inputs: Inputs) -> Outputs | Filtered:
        """Pass the frame if the gate is open."""
        image: Image = inputs["frames"]
        share = self._scene.changed(image)
        if self._open_until_s is None:
            self._scene.keep()
            self._open_until_s = image.pts_s  # the first frame passes, without holding the gate open
        elif share > float(self.params["threshold"]):
            self._scene.keep()
            self._open_until_s = image.pts_s + float(self.params["hold_s"])
        elif image.pts_s > self._open_until_s:
            return FILTERED
        return {"frames": image, "events": Events([Event("motion", value=round(share, 6))])}

    def snapshot(self) -> Any:
        """The picture compared with, and until when the gate is open, in seconds of media time."""
        return {"scene": self._scene.snapshot(), "open_until_s": self._open_until_s}

    def restore(self, state: Any) -> None:
        """See `snapshot`."""
        self._scene.restore(state["scene"])
        self._open_until_s = state["open_until_s"]
