"""Frames without motion: the stages that tell others of them, and how many of a video's frames they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Image
from llamapipe.operator import Context, Manifest, Registry
from llamapipe.session.stretches import Stretches
from llamapipe.spec import split_knobs
from llamapipe.spec.model import OpSpec

__all__ = ["MotionStages", "looks_at"]

_MOTION = "llamapipe/motion@v1"


class MotionStages:
    """Those that stages with ``skip_still`` ask: one for all that ask the same of the same frames.

    ``names`` are taken by others.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = set(names)
        self._known: dict[tuple[str, float], OpSpec] = {}

    def before(self, op: OpSpec, manifest: Manifest) -> OpSpec | None:
        """The one that this stage asks; None: it looks at all frames."""
        share = split_knobs(op.params, manifest)[0].get("skip_still")
        if not share:
            return None
        frames = op.inputs[manifest.frames_input or ""][0]
        if (frames, share) not in self._known:
            name = f"{op.name}-motion"
            while name in self._names:
                name += "-2"
            self._names.add(name)
            stage = OpSpec(name=name, type=_MOTION, inputs={"frames": (frames,)}, params={"threshold": share})
            self._known[frames, share] = stage
        return self._known[frames, share]


def looks_at(
    luma: Sequence[NDArray[np.uint8]], held: Stretches, registry: Registry, shares: Sequence[float]
) -> dict[float, float]:
    """By share of the picture that must change: the share of frames, 0..1, that a stage would still look at.

    ``luma`` are `Stretches.luma` of the frames.
    """
    pictures = [picture for stretch in luma for picture in stretch]
    images = [
        Image.from_bgr(np.repeat(picture[:, :, None], 3, axis=2), seq=index, pts_s=index / held.fps)
        for index, picture in zip(held.indices, pictures, strict=True)
    ]
    operator = registry.get(_MOTION)
    defaults = {name: param.default for name, param in operator.manifest.params.items()}
    found: dict[float, float] = {}
    for share in shares:
        motion = operator(Context(params={**defaults, "threshold": share}, fps=held.fps))
        outputs: list[Any] = [motion.process({"frames": image}) for image in images]
        found[share] = sum(bool(len(each["events"])) for each in outputs) / len(images)
    return found
