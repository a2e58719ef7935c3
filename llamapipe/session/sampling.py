"""What a plan can see of stages that have no model, and so no profile: a short run on the video's first frames."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from llamapipe.catalog import BatchPoint
from llamapipe.clock import Clock, Env
from llamapipe.errors import LlamapipeError
from llamapipe.media import SINKS
from llamapipe.session.prepare import Prepared
from llamapipe.session.request import RunRequest
from llamapipe.session.resolve import load_asked

__all__ = ["NOTHING_SEEN", "Samples", "sampled"]

_FRAMES = (5, 40)  # least and most
_PACED_S = 1.6  # of the video, at its own rate


@dataclass(frozen=True, slots=True)
class Samples:
    """By stage, what a frame takes of it, as a batch of one.

    ``frame_s``: median from a frame's capture to its delivery, at the video's own rate; 0: not looked at.
    """

    stages: Mapping[str, BatchPoint] = field(default_factory=dict)
    frame_s: float = 0.0


NOTHING_SEEN = Samples()


def sampled(prepared: Prepared, request: RunRequest, clock: Clock, env: Env) -> Samples:
    """Nothing where a stage has a model, where there is no file to sample, or where a sink writes elsewhere.

    A plan leaves nothing behind: what it looks at is written to a temporary folder, and not at all where a sink of the
    pipeline would not keep to it. What cannot be run is left to the run, which says why.
    """
    plan = prepared.plan
    files = [(name, spec) for name, spec in prepared.specs.items() if spec.kind == "file" and name in prepared.sources]
    models = any(stage.configuration.variant is not None for stage in plan.stages)
    if not plan.stages or not files or models or _writes_elsewhere(request, env):
        return NOTHING_SEEN
    from llamapipe.session.execute import run

    name, spec = files[0]
    paced, (least, most) = plan.latency_slo_s is not None, _FRAMES
    fps = float(prepared.sources[name].info.fps or 0)
    with tempfile.TemporaryDirectory() as folder:
        few = replace(
            request,
            sources=[spec.uri],
            output=Path(folder) / "run",
            slo=None,
            sinks=(),
            max_frames=max(least, min(most, round(_PACED_S * fps))) if paced else most,
            loop=1,
            realtime=paced,
            cores="all",
            workers=1,  # of each worker the first invocation is the slowest
        )
        try:
            # A look at forty frames is nothing to remember of runs.
            summary = run(few, clock=clock, env={**env, "LLAMAPIPE_PROFILES": "off"})
        except LlamapipeError:
            return NOTHING_SEEN
    if summary.outcome != "done" or not summary.frames.delivered:
        return NOTHING_SEEN
    stages = {
        stage.name: BatchPoint(1, took.p50 / 1000, took.p95 / 1000, stage.busy_s / summary.frames.delivered)
        for stage in summary.stages
        if (took := stage.latency_ms) is not None
    }
    return Samples(stages, summary.latency_ms.p50 / 1000 if paced and summary.latency_ms is not None else 0.0)


def _writes_elsewhere(request: RunRequest, env: Env) -> bool:
    """Whether a sink of the pipeline would not keep to the output folder. Of a plan's own sinks there are none."""
    loaded = load_asked(request, env=env)
    return any(
        SINKS[sink.type].default_path is None or PurePath(sink.path or "").is_absolute() for sink in loaded.spec.sinks
    )
