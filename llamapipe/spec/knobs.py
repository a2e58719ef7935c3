"""What a stage's keys mean: parameters of its operator, or knobs that llamapipe turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamapipe.operator import Knob, Manifest

__all__ = ["MODEL_KEYS", "MODEL_KNOBS", "knob_names", "split_knobs"]

MODEL_KNOBS = (
    Knob.MODEL,
    Knob.BACKEND,
    Knob.DEVICE,
    Knob.PRECISION,
    Knob.INPUT_SIZE,
    Knob.THREADS,
    Knob.MIN_SCORE,
)
"""Knobs of operators that run a model."""

MODEL_KEYS = ("task", "labels", "decoder")
"""What such operators are asked, beside the knobs: no tuner turns these."""


def knob_names(manifest: Manifest) -> tuple[str, ...]:
    """Keys that a stage of this operator takes beside its parameters."""
    still = (Knob.SKIP_STILL.value,) if manifest.can_skip_still else ()
    common = (Knob.BATCH.value, Knob.SAMPLE_FPS.value, *still, Knob.PLACEMENT.value)
    if not manifest.uses_model:
        return common
    return (*MODEL_KEYS, *(knob.value for knob in MODEL_KNOBS), *common)


def split_knobs(params: Mapping[str, Any], manifest: Manifest) -> tuple[dict[str, Any], dict[str, Any]]:
    """(knobs, parameters) of a stage. An operator's own parameter wins over a knob of that name."""
    names = knob_names(manifest)
    knobs = {key: value for key, value in params.items() if key in names and key not in manifest.params}
    return knobs, {key: value for key, value in params.items() if key not in knobs}
