"""What a plan can see of stages that have no model, and so no profile: a short run on the video's first frames."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from llamapipe.clock import Clock, Env
from llamapipe.errors import LlamapipeError
from llamapipe.media import SINKS
from llamapipe.session.prepare import Prepared
from llamapipe.session.request import RunRequest

__all__ = ["Sampled", "Samples", "sampled"]

_FRAMES = 40


@dataclass(frozen=True, slots=True)
class Sampled:
    """Seconds of an invocation of one stage, and core-seconds that a frame takes of it."""

    p50_s: float
    p95_s: float
    core_s: float


@dataclass(frozen=True, slots=True)
class Samples:
    """Of a run. ``frame_s``: median from a frame's capture to its delivery, at the video's own rate; 0: not seen."""

    stages: Mapping[str, Sampled] = field(default_factory=dict)
    frame_s: float = 0.0


def sampled(prepared: Prepared, request: RunRequest, clock: Clock, env: Env) -> Samples:
    """Nothing where a stage has a model, where there is no file to sample, or where a sink writes no file.

    What cannot be run is left to the run, which says why.
    """
    plan = prepared.plan
    files = [spec for spec in prepared.specs.values() if spec.kind == "file"]
    kinds = [SINKS.get(sink.type) for sink in plan.sinks]  # None: the one that the caller has results of
    elsewhere = any(kind is not None and kind.default_path is None for kind in kinds)
    models = any(stage.configuration.variant is not None for stage in plan.stages)
    if not plan.stages or not files or elsewhere or models:
        return Samples()
    from llamapipe.session.execute import run

    paced = plan.latency_slo_s is not None
    with tempfile.TemporaryDirectory() as folder:
        few = replace(
            request,
            sources=[files[0].uri],
            output=Path(folder) / "run",
            slo=None,
            sinks=(),
            max_frames=_FRAMES,
            loop=1,
            realtime=paced,
            cores="all",
            workers=1,  # of each worker the first invocation is the slowest
        )
        try:
            # A look at forty frames is nothing to remember of runs.
            summary = run(few, clock=clock, env={**env, "LLAMAPIPE_PROFILES": "off"})
        except LlamapipeError:
            return Samples()
    if summary.outcome != "done" or not summary.frames.delivered:
        return Samples()
    stages = {
        stage.name: Sampled(
            stage.latency_ms.p50 / 1000, stage.latency_ms.p95 / 1000, stage.busy_s / summary.frames.delivered
        )
        for stage in summary.stages
        if stage.latency_ms is not None
    }
    return Samples(stages, summary.latency_ms.p50 / 1000 if paced and summary.latency_ms is not None else 0.0)
