"""What a run's tuning says of it: why it runs as it does, how right that is, and what was tried to find it."""

from __future__ import annotations

from dataclasses import dataclass

from llamapipe.report import TuningSummary
from llamapipe.report.tuned import rows_of, shown
from llamapipe.session.pinned import as_sets
from llamapipe.session.prepare import pinned_of
from llamapipe.session.request import RunRequest
from llamapipe.tune import Tuning

__all__ = ["AsTuned"]


@dataclass(frozen=True, slots=True)
class AsTuned:
    """Of one run. ``overruled`` are the tuned values that the user has set otherwise."""

    tuning: Tuning
    overruled: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: RunRequest) -> AsTuned | None:
        """None: the run was not tuned."""
        tuning = pinned_of(request)
        if tuning is None:
            return None
        same = as_sets(tuning.values)
        otherwise = [
            key
            for key, value in request.sets.items()
            if key in tuning.values and value not in (same[key], shown(tuning.values[key]))
        ]
        return cls(tuning, tuple(otherwise))

    @property
    def why(self) -> str:
        """That a stage runs so."""
        return f"as tuned on {self.tuning.video}"

    def has(self, stage: str) -> bool:
        """Whether the stage was tuned."""
        return any(key.rpartition(".")[0] == stage for key in self.tuning.values)

    def decides(self, stage: str) -> bool:
        """Whether it runs as it was tuned."""
        return self.has(stage) and not any(key.rpartition(".")[0] == stage for key in self.overruled)

    @property
    def accuracy(self) -> float | None:
        """At the sinks, of all that was tuned together. None: not measured, or not of what runs now."""
        predicted = self.tuning.predicted
        return None if predicted is None or self.overruled else predicted.accuracy

    @property
    def accuracy_of(self) -> str:
        """What it is; empty where there is none."""
        return "" if self.accuracy is None else f"{self.tuning.metric} at the sinks, {self.why}"

    def summary(self, cost_core_ms: float | None) -> TuningSummary:
        """For run.json; ``cost_core_ms`` is what a frame came to in the run."""
        tuning = self.tuning
        return TuningSummary(
            objective=tuning.objective,
            metric=tuning.metric,
            floor=tuning.floor,
            values={key: list(v) if isinstance(v, tuple) else v for key, v in tuning.values.items()},
            predicted=tuning.predicted,
            video=tuning.video,
            hardware=tuning.hardware,
            took_s=tuning.took_s,
            budget_s=tuning.budget_s,
            points=tuning.points,
            frames=tuning.frames,
            tried=rows_of(tuning),
            notes=list(tuning.notes),
            overruled=list(self.overruled),
            cost_core_ms=cost_core_ms,
        )
