"""What a run would do, without doing it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from llamapipe.clock import Clock, Env, SystemClock, system_env
from llamapipe.media import SINKS
from llamapipe.report import PlanView
from llamapipe.session.prepare import Prepared, prepare
from llamapipe.session.remarks import remarks_of
from llamapipe.session.request import RunRequest
from llamapipe.spec import tree

__all__ = ["RunPreview", "plan_run"]


@dataclass(frozen=True, slots=True)
class RunPreview:
    """A run that was looked at and not begun."""

    pipeline: str
    graph: str
    stages: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    outputs: list[str]
    slo: str
    slo_note: str
    workers: int
    notes: list[str] = field(default_factory=list)  # what will not be as the pipeline or its user may think
    plan: PlanView | None = None  # what is planned and why, where that was asked for

    def to_dict(self) -> dict[str, Any]:
        """Plain data; ``plan`` only where it was asked for."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("graph", "plan")}
        return found if self.plan is None else {**found, "plan": msgspec.to_builtins(self.plan)}

    def __str__(self) -> str:
        lines = [self.graph.rstrip(), "", "stages:"]
        width = max((len(stage["name"]) for stage in self.stages), default=0)
        lines += [f"  {s['name']:<{width}}  {s['variant'] or s['type']}, batch {s['batch']}" for s in self.stages]
        lines += ["sources:"]
        for source in self.sources:
            if "error" in source:
                lines.append(f"  {source['name']}: {source['error']}")
                continue
            frames = "unknown length" if source["frames"] is None else f"{source['frames']} frames"
            rate = "" if source["fps"] is None else f", {source['fps']:g} fps"
            lines.append(f"  {source['name']}: {source['width']}x{source['height']}{rate}, {frames}")
        lines += ["outputs:", *(f"  {output}" for output in self.outputs)]
        if self.slo:
            lines.append(f"SLO: {self.slo}" + (f" (not judged: {self.slo_note})" if self.slo_note else ""))
        lines.append(f"workers: {self.workers}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def plan_run(
    request: RunRequest, *, explain: bool = False, clock: Clock | None = None, env: Env | None = None
) -> RunPreview:
    """Check everything, choose every variant, open the sources, and say what would be run. Nothing is written.

    ``explain`` adds what is planned and why, as `explain_plan` says it. Raises what `run` raises where the run could
    not begin.
    """
    clock = clock if clock is not None else SystemClock()
    env = env if env is not None else system_env()
    from llamapipe.session.agreeing import with_agreements

    request = with_agreements(request, clock=clock, env=env)
    began_s = clock.now_s()
    prepared = prepare(request, clock=clock, env=env, dry=True)
    try:
        preview = _preview(prepared)
        if not explain:
            return preview
        from llamapipe.session.planning import view_of
        from llamapipe.session.sampling import sampled

        ready_s = clock.now_s() - began_s
        return replace(preview, plan=view_of(prepared, ready_s, sampled(prepared, request, clock, env)))
    finally:
        prepared.close()


def _preview(prepared: Prepared) -> RunPreview:
    sources: list[dict[str, Any]] = []
    for name in prepared.specs:
        if name in prepared.failures:
            sources.append({"name": name, "error": str(prepared.failures[name])})
            continue
        info = prepared.sources[name].info
        sources.append(
            {
                "name": name,
                "uri": info.uri,
                "width": info.width,
                "height": info.height,
                "fps": float(info.fps) if info.fps else None,
                "frames": info.num_frames,
                "live": info.live,
            }
        )
    outputs: list[str] = []
    for folder in prepared.folders.values():
        for sink in prepared.plan.sinks:
            path = sink.path or SINKS[sink.type].default_path
            outputs.append(str((folder or Path()) / path) if path else sink.type)
    return RunPreview(
        pipeline=prepared.compiled.spec.name,
        graph=tree(prepared.compiled.spec),
        stages=[
            {
                "name": stage.name,
                "type": stage.type,
                "variant": stage.configuration.variant.name if stage.configuration.variant else None,
                "batch": stage.configuration.batch,
                "params": dict(stage.configuration.params),
            }
            for stage in prepared.plan.stages
        ],
        sources=sources,
        outputs=outputs,
        slo=prepared.objective.text,
        slo_note=prepared.objective.unjudged,
        workers=len(prepared.plan.workers),
        notes=remarks_of(prepared),
    )
