"""What a run was planned to do, and why: the content of ``llamapipe plan``, and part of run.json."""

from __future__ import annotations

import msgspec

__all__ = ["Considered", "PlanView", "StageView"]


class Considered(msgspec.Struct, frozen=True):
    """One variant that a stage could be run with."""

    variant: str
    verdict: str  # "first", "candidate" or "lost"
    why: str
    batch: int | None  # of a candidate
    p95_ms: float | None  # of one item
    core_ms: float | None  # an item, in its batch
    cost: float | None  # marginal, of a thousand items in their batch
    accuracy: float | None


class StageView(msgspec.Struct, frozen=True):
    """One operation."""

    name: str
    type: str
    budget_ms: float | None  # its share of the objective; of a deadline: of the time that workers have for a frame
    takes_ms: float | None  # 95th percentile of what is budgeted for; None: not profiled
    variant: str | None
    considered: list[Considered]
    why: str = ""  # it runs so
    items: float = 1.0  # a frame, that it works on: as runs like it did, else as the pipeline says


class PlanView(msgspec.Struct, frozen=True):
    """The whole plan."""

    pipeline: str
    objective: str
    feasible: bool | None  # None: without an objective, or without profiles, nobody can say
    reason: str
    policy: str
    workers: int
    predicted_p50_ms: float | None
    predicted_p95_ms: float | None
    predicted_core_s: float | None  # of the stages with a model, for a thousand frames
    predicted_cost: float | None  # the same in ``unit``: what invocations take, not what is reserved
    predicted_fps: float | None  # frames a second, all sources together: what models allow, or the sources' own rate
    predicted_reserved: float | None  # in ``unit``, for a thousand frames at that rate
    unit: str  # of costs: core-s, or the currency of the prices
    accuracy: float | None  # the least right of the candidates that are budgeted for; of what was tuned: at the sinks
    stages: list[StageView]
    cores: int = 0  # that it begins on; 0: of a release that did not say
    why_cores: str = ""
    notes: list[str] = []  # what will not be as the pipeline or its user may think
    accuracy_of: str = ""  # what accuracy is, where it is the tuning's; empty: as the candidates are rated
