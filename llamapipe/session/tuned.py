"""What a run's tuning says of it: why it runs as it does, how right that is, and what was tried to find it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llamapipe.clock import system_env
from llamapipe.errors import LlamapipeError
from llamapipe.operator import Manifest
from llamapipe.report import TuningSummary
from llamapipe.report.tuned import rows_of, shown
from llamapipe.session.pinned import of_stages
from llamapipe.session.prepare import pinned_of
from llamapipe.session.request import RunRequest
from llamapipe.session.resolve import load_pipeline
from llamapipe.spec import PipelineSpec, apply_sets
from llamapipe.spec.yaml_tree import parse_scalar
from llamapipe.tune import Tuning

__all__ = ["AsTuned"]


@dataclass(frozen=True, slots=True)
class AsTuned:
    """Of one run. ``overruled``: what the user has set of stages, other than what the tuning ran with."""

    tuning: Tuning
    overruled: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: RunRequest) -> AsTuned | None:
        """None: the run was not tuned."""
        tuning = pinned_of(request)
        if tuning is None:
            return None
        otherwise = [
            key for key, text in request.sets.items() if key in tuning.values and not _means(text, tuning.values[key])
        ]
        return cls(tuning, (*otherwise, *_beside(request, tuning)))

    @property
    def why(self) -> str:
        """That a stage runs so."""
        return f"as tuned on {self.tuning.video}"

    def has(self, stage: str) -> bool:
        """Whether the stage was tuned."""
        return any(key.rpartition(".")[0] == stage for key in self.tuning.values)

    def decides(self, stage: str) -> bool:
        """Whether it runs as it was tuned."""
        overruled = [key for key in self.overruled if key in self.tuning.values]
        return self.has(stage) and not any(key.rpartition(".")[0] == stage for key in overruled)

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


def _beside(request: RunRequest, tuning: Tuning) -> list[str]:
    """Of what is set beside the tuned values, that which the pipeline says otherwise: it was tuned with that."""
    beside = {
        key: text
        for key, text in of_stages(request.sets).items()
        if key not in tuning.values and not key.endswith(".placement")  # which changes no result
    }
    if not beside:
        return []
    try:
        loaded = load_pipeline(request.pipeline, env=system_env(), params=request.params, ops_files=request.ops_files)
        manifests = {op.type: loaded.registry.manifest(op.type) for op in loaded.spec.ops}
        return [
            key
            for key, text in beside.items()
            if not _alike(
                _value(apply_sets(loaded.spec, {key: text}, manifests), key, manifests),
                _value(loaded.spec, key, manifests),
            )
        ]
    except LlamapipeError:  # the pipeline's file is gone, or another one by now: nobody knows what it said
        return list(beside)


def _value(spec: PipelineSpec, key: str, manifests: Mapping[str, Manifest]) -> Any:
    stage, _, name = key.partition(".")
    op = next(op for op in spec.ops if op.name == stage)
    param = manifests[op.type].params.get(name)
    return op.params.get(name, None if param is None else param.default)


def _means(text: str, value: Any) -> bool:
    return text == shown(value) or _alike(parse_scalar(text), value)


def _alike(one: Any, other: Any) -> bool:
    """Whether two values are the same to a run: 5 and 5.0, 320 and [320, 320], a list and a tuple; not 1 and true."""
    one, other = (list(value) if isinstance(value, tuple) else value for value in (one, other))
    if isinstance(one, list) and not isinstance(other, list):
        one, other = other, one
    if isinstance(other, list) and isinstance(one, int):  # a size
        one = [one, one]
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
