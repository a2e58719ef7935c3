"""PipelineSpec: what YAML and the DSL both make. Immutable, and free of anything that only a run knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = [
    "FIRST_PORT",
    "SOURCE",
    "AccuracyFloor",
    "OpSpec",
    "OverloadPolicy",
    "PipelineSpec",
    "Selector",
    "SinkSpec",
    "SloSpec",
]

SOURCE = "$source"
Selector = str
"""``$source.frames`` or ``$ops.NAME.PORT``."""

FIRST_PORT = ""
"""Key in ``OpSpec.inputs`` for the operator's first input port, left unnamed; `resolve_types` names it."""

OverloadPolicy = Literal["degrade", "drop", "late"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _WithParams(_Frozen):
    params: Mapping[str, Any] = Field(default_factory=dict)

    @field_validator("params", mode="before")
    @classmethod
    def _as_written(cls, value: Any) -> Any:
        # A tuple and the list that YAML makes of it are the same parameter.
        return _listed(value)


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    return value


class SloSpec(_Frozen):
    """The objective. At most one of the latency quantiles and the deadline."""

    latency_p50_ms: float | None = Field(None, gt=0, description="median end-to-end latency, milliseconds")
    latency_p95_ms: float | None = Field(None, gt=0, description="95th percentile of latency, milliseconds")
    latency_p99_ms: float | None = Field(None, gt=0, description="99th percentile of latency, milliseconds")
    deadline_s: float | None = Field(None, gt=0, description="the whole job is done in so many seconds")
    max_drop_share: float = Field(0.0, ge=0, le=1, description="share of frames that may be dropped")

    @property
    def latency(self) -> tuple[float, float] | None:
        """(quantile in 0..1, seconds) of the latency bound, the highest quantile if there are several; None without."""
        bounds = ((0.99, self.latency_p99_ms), (0.95, self.latency_p95_ms), (0.5, self.latency_p50_ms))
        return next(((quantile, ms / 1000) for quantile, ms in bounds if ms is not None), None)


class AccuracyFloor(_Frozen):
    """``min`` alone means agreement with the best configuration that can be had; with ``metric``, that metric.

    ``degraded`` is the floor while ``on_overload: degrade`` has to give way.
    """

    min: float = Field(ge=0, le=1)
    metric: str | None = None
    degraded: float | None = Field(default=None, ge=0, le=1)


class OpSpec(_WithParams):
    """A stage. ``inputs`` maps input ports to selectors; ``params`` holds parameters and knobs alike."""

    name: str
    type: str
    inputs: Mapping[str, tuple[Selector, ...]]
    when: str | None = None  # see llamapipe.spec.when


class SinkSpec(_WithParams):
    """Where results go. ``params`` are the sink type's own; ``path`` is relative to the output folder."""

    name: str
    type: str  # "llamapipe/video@v1"
    inputs: tuple[Selector, ...]
    path: str | None = None


class PipelineSpec(_Frozen):
    """A pipeline: what to compute and how well."""

    version: Literal[1] = 1
    name: str
    description: str = ""
    slo: SloSpec | None = None
    accuracy: AccuracyFloor | None = None
    on_overload: OverloadPolicy | None = None
    ops: tuple[OpSpec, ...]
    sinks: tuple[SinkSpec, ...] = ()
