"""Bridging a detector that blinks: hold."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import cleandoc
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Boxes
from llamapipe.operator import Context, Inputs, Manifest, Operator, Outputs, Param, Port, PortKind, State
from llamapipe_operators.overlap import iou

__all__ = ["Hold"]

_DEFAULT_FPS = 25.0


@dataclass(slots=True)
class _Held:
    xyxy: NDArray[np.float32]  # (4,) where it is thought to be now
    velocity: NDArray[np.float32]  # (2,) pixels a frame
    score: float
    label: str
    missed: int = 0  # frames since it was last seen


class Hold(Operator):
    """Keep boxes for a short while after they were last seen.

    A detector misses a face now and then; what hides faces must not blink with it. A box that vanishes stays for
    `seconds`, moves on as it moved, and grows a little with every frame, as its place gets less sure. A box that
    overlaps it takes its place.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/hold@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={"boxes": Port(PortKind.BOXES, "what was found in each frame, in order", many=True)},
        outputs={"boxes": Port(PortKind.BOXES, "the same, followed by the boxes held over from frames before")},
        params={
            "seconds": Param(
                float, 0.5, "how long a box stays after it was last seen, at the nominal rate", minimum=0, maximum=60
            ),
            "grow": Param(
                float, 0.03, "how much wider and higher a held box gets a frame, as a share", minimum=0, maximum=1
            ),
            "min_iou": Param(
                float, 0.1, "overlap (IoU) from which a new box takes a held one's place", minimum=0.01, maximum=1
            ),
        },
        state=State.PER_STREAM,
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        fps = context.fps if context.fps > 0 else _DEFAULT_FPS
        self._max_missed = round(float(self.params["seconds"]) * fps)
        self._held: list[_Held] = []

    def process(self, inputs: Inputs) -> Outputs:
        """Add what is held to the boxes of the next frame of the stream."""
        boxes: Boxes = inputs["boxes"]
        for held in self._held:
            held.xyxy = held.xyxy + np.tile(held.velocity, 2)
        taken = self._match(boxes.xyxy)
        fresh: list[_Held] = []
        for i, label in enumerate(boxes.labels):
            xyxy = boxes.xyxy[i].copy()
            old = taken.get(i)
            velocity = np.zeros(2, np.float32)
            if old is not None:
                # The old box has been moved on already: what is left is how wrong its velocity was.
                error = (_centre(xyxy) - _centre(old.xyxy)) / np.float32(old.missed + 1)
                velocity = (old.velocity + np.float32(0.5) * error).astype(np.float32)
            fresh.append(_Held(xyxy, velocity, float(boxes.score[i]), label))
        used = {id(held) for held in taken.values()}
        kept = [held for held in self._held if id(held) not in used and held.missed < self._max_missed]
        for held in kept:
            held.missed += 1
            held.xyxy = _grown(held.xyxy, float(self.params["grow"]))
        self._held = fresh + kept
        return {"boxes": Boxes.concat([boxes, _as_boxes(kept)]) if kept else boxes}

    def _match(self, xyxy: NDArray[np.float32]) -> dict[int, _Held]:
        """Which held box each new one (by index) continues: best overlaps first, each used once."""
        if not self._held or not len(xyxy):
            return {}
        overlap = iou(xyxy, np.stack([held.xyxy for held in self._held]))
        taken: dict[int, _Held] = {}
        used: set[int] = set()
        for flat in np.argsort(-overlap, axis=None, kind="stable").tolist():
            i, j = divmod(flat, overlap.shape[1])
            if overlap[i, j] < float(self.params["min_iou"]):
                break
            if i not in taken and j not in used:
                taken[i] = self._held[j]
                used.add(j)
        return taken

    def snapshot(self) -> Any:
        """Each held box as plain data, in pixels of the source."""
        return [
            {
                "box": held.xyxy.tolist(),
                "velocity": held.velocity.tolist(),
                "score": held.score,
                "label": held.label,
                "missed": held.missed,
            }
            for held in self._held
        ]

    def restore(self, state: Any) -> None:
        """See `snapshot`."""
        self._held = [
            _Held(
                np.array(entry["box"], np.float32),
                np.array(entry["velocity"], np.float32),
                entry["score"],
                entry["label"],
                entry["missed"],
            )
            for entry in state
        ]


def _as_boxes(held: list[_Held]) -> Boxes:
    names = tuple(dict.fromkeys(one.label for one in held))
    return Boxes(
        np.stack([one.xyxy for one in held]),
        np.array([one.score for one in held], np.float32),
        np.array([names.index(one.label) for one in held], np.int32),
        names,
    )


def _centre(xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    return (xyxy[:2] + xyxy[2:]) / np.float32(2)


def _grown(xyxy: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    room = np.float32(share / 2) * (xyxy[2:] - xyxy[:2])
    return np.concatenate([xyxy[:2] - room, xyxy[2:] + room])
