"""What a run was tuned with, as run.json has it, and how a tuning is told in rows."""

from __future__ import annotations

from typing import Any

import msgspec

from llamapipe.tune import Predicted, Tried, Tuning

__all__ = ["TriedRow", "TuningSummary", "difference", "rows_of", "shown"]


class TriedRow(msgspec.Struct, frozen=True):
    """One configuration that the search tried. Without figures it failed, and ``what`` says why."""

    what: str  # "reference", "default", "dearer"; of a failed one the reason
    differs: str  # from the reference, in words
    fits: bool  # floor and objective are met
    chosen: bool  # it is what the run was given
    took_s: float
    cost_core_ms: float | None = None
    frames_per_s: float | None = None
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    p95_ms: float | None = None


class TuningSummary(msgspec.Struct, frozen=True):
    """The search that a run's configuration comes from, and what it promised."""

    objective: str  # that was searched for; empty: none
    metric: str  # of accuracy: "agreement", "ap50", or "none"
    floor: float
    values: dict[str, Any]  # "stage.knob" -> value
    predicted: Predicted | None
    video: str  # that it was searched on
    hardware: str  # fingerprint of the machine that it was searched on
    took_s: float
    budget_s: float
    points: int  # of the space
    frames: int  # of the video that were looked at
    tried: list[TriedRow]  # in order
    notes: list[str] = []  # of the search
    overruled: list[str] = []  # of ``values``, what the user has set otherwise for this run
    cost_core_ms: float | None = None  # what a frame came to in the run, as ``predicted`` counts it


def rows_of(tuning: Tuning) -> list[TriedRow]:
    """All that was tried, in order."""
    return [_row(tried, tuning) for tried in tuning.tried]


def _row(tried: Tried, tuning: Tuning) -> TriedRow:
    chosen = bool(tuning.values) and _plain(tried.values) == _plain(tuning.values)
    told = (tried.what, difference(tried, tuning), tried.fits, chosen and tried.predicted is not None, tried.took_s)
    if (p := tried.predicted) is None:
        return TriedRow(*told)
    return TriedRow(*told, p.cost_core_ms, p.frames_per_s, p.accuracy, p.accuracy_low, p.accuracy_high, p95_ms=p.p95_ms)


def _plain(values: Any) -> dict[str, str]:
    """To compare: what was read from a file has lists where a search has tuples."""
    return {key: shown(value) for key, value in values.items()}


def difference(tried: Tried, tuning: Tuning) -> str:
    """What a configuration has other than the reference, in words."""
    keys = dict.fromkeys([*tuning.reference, *tried.values])
    return " ".join(
        f"{key}={shown(tried.values[key])}" if key in tried.values else f"{key}=as it is"
        for key in keys
        if tried.values.get(key) != tuning.reference.get(key)
    )


def shown(value: object) -> str:
    """A knob's value as people read it."""
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
