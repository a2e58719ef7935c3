"""What a search came to, as plain data: the content of a pinned configuration and of the catalogue's cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from llamapipe.tune.signature import VideoSignature

__all__ = ["Predicted", "Tried", "Tuning"]


class Predicted(msgspec.Struct, frozen=True):
    """What a configuration came to on the sampled frames."""

    cost_core_ms: float  # a frame: how long workers are held
    cost_deviation: float  # relative, of the cost
    frames_per_s: float  # on this machine, read as fast as it can be
    accuracy: float | None  # by the tuning's metric; None: there is nothing to compare
    accuracy_low: float | None  # end of the 95 % interval
    accuracy_high: float | None
    p50_ms: float | None = None  # end to end, at the video's own rate; None: not measured
    p95_ms: float | None = None
    p99_ms: float | None = None


class Tried(msgspec.Struct, frozen=True):
    """A configuration that was tried."""

    values: Mapping[str, Any]  # "stage.knob" -> value
    predicted: Predicted | None = None  # None: it failed
    fits: bool = False  # floor and objective are met
    took_s: float = 0.0
    what: str = ""  # "reference", "default"; a failed one's reason


class Tuning(msgspec.Struct, frozen=True):
    """The outcome. ``values`` are empty where nothing that was tried fits."""

    pipeline: str
    digest: str  # of the pipeline's stages as they were before the tuning
    objective: str  # "p95<=200ms", "deadline=30s"; empty: none
    metric: str  # "agreement", "ap50", or "none"
    floor: float
    hardware: str  # fingerprint of the machine
    signature: VideoSignature
    video: str  # name of the video that it was searched on
    values: Mapping[str, Any]
    predicted: Predicted | None
    reference: Mapping[str, Any]
    tried: tuple[Tried, ...]
    points: int  # of the space
    frames: int  # of the video that were looked at
    budget_s: float
    took_s: float
    notes: tuple[str, ...] = ()
    nearest: Tried | None = None  # where nothing fits: what comes closest
    close: Tried | None = None  # where nothing fits: what is right enough, and late by less than trials can tell
    version: int = 1

    @property
    def feasible(self) -> bool:
        """Whether something fits."""
        return self.predicted is not None
