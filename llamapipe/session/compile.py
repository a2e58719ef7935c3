"""From a validated spec to what control and the workers start from: the first fitting variant everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from llamapipe.catalog import Configuration, Profile, Variant
from llamapipe.control.chains import chains_of
from llamapipe.control.plan import (
    MECHANISMS,
    Candidate,
    EdgePlan,
    FaultPlan,
    JobPlan,
    PolicyPlan,
    RunPlan,
    SinkPlan,
    StagePlan,
    StreamPlan,
    WorkerPlan,
)
from llamapipe.errors import LlamapipeError, Problem, SpecError, UsageError
from llamapipe.inference import (
    AssetStore,
    choose_variant,
    is_given_file,
    label_table,
    model_named,
    required_assets,
    task_labels,
)
from llamapipe.operator import Manifest, PortKind, Registry, State
from llamapipe.runtime import StageSetup
from llamapipe.session.candidates import Choice, Needs, Weighed, candidates_for, way_to_run, weigh
from llamapipe.session.setups import predictor_loader, when_atoms
from llamapipe.session.stillness import MotionStages
from llamapipe.spec import (
    PLACEMENTS,
    PipelineSpec,
    SloSpec,
    feeds_hiding,
    hides_upstream,
    levels,
    parse_when,
    split_knobs,
    topological,
)
from llamapipe.spec.model import OpSpec

__all__ = ["Compiled", "compile_pipeline", "latency_of", "run_plan"]

_MAX_ITEMS = 64  # of a stage that makes several of one, where it has no parameter of that name
_LIVE_FRAMES = 4  # of a stream that does not wait, in flight: what comes in a moment in which others have their turn


@dataclass(frozen=True, slots=True)
class Compiled:
    """A pipeline ready to be run on any streams."""

    spec: PipelineSpec
    stages: tuple[StagePlan, ...]
    sinks: tuple[SinkPlan, ...]
    setups: Mapping[str, StageSetup]
    weighed: Mapping[str, Sequence[Weighed]] = field(default_factory=dict)  # by stage with a model: what was considered


def compile_pipeline(
    spec: PipelineSpec,
    registry: Registry,
    assets: AssetStore,
    *,
    on_asset: Callable[[str, int, int | None], None] | None = None,
    fetch: bool = True,
    placement: str = "thread",
    profiles: Sequence[Profile] = (),
    needs: Needs = Needs(),  # noqa: B008  # frozen
    standby: Mapping[str, Sequence[tuple[Variant, int]]] | None = None,
    agreed: Mapping[str, Mapping[Variant, float]] | None = None,
    kept: Mapping[str, Choice] | None = None,
) -> Compiled:
    """Choose every stage's candidates and, unless told not to, fetch what they need.

    ``placement`` is where stages run that do not say: thread or process. ``profiles`` are what is known of variants on
    this machine; without any, a stage has the first variant that fits. ``standby`` are (variant, batch) that a stage
    may be changed to while it runs. ``agreed`` says by stage how far variants agree on the video that is run. ``kept``
    is what another process has chosen, which is not chosen again.

    Raises SpecError where no variant fits a stage, AssetError where a model cannot be had.
    """
    manifests = {op.name: registry.manifest(op.type) for op in spec.ops}
    stage_levels = levels(spec, manifests)
    depths: dict[str, int] = {}
    stages: list[StagePlan] = []
    motions = MotionStages([op.name for op in spec.ops])
    setups: dict[str, StageSetup] = {}
    problems: list[Problem] = []
    weighed: dict[str, Sequence[Weighed]] = {}
    # A stage that cannot be configured has a depth like any other, so that the stages below it are looked at too.
    for name in topological(spec):
        op = next(op for op in spec.ops if op.name == name)
        try:
            if (motion := motions.before(op, manifests[name])) is not None and motion.name not in depths:
                known = {**manifests, motion.name: registry.manifest(motion.type)}
                plan, params, _ = _stage(motion, known, "", depths, placement, profiles, needs, None, None)
                depths[motion.name] = plan.depth
                stages.append(plan)
                setups[motion.name] = StageSetup(plan, registry.get(motion.type), params)
            ways = (standby or {}).get(name)
            its = needs if agreed is None or name not in agreed else replace(needs, agreed=agreed[name])
            plan, params, weighed[name] = _stage(
                op,
                manifests,
                stage_levels[name],
                depths,
                placement,
                profiles,
                its,
                ways,
                (kept or {}).get(name),
                motion,
            )
        except LlamapipeError as error:
            problems.append(Problem(error.code, error.message, f"stage {name}", error.hint))
            depths[name] = 1
            continue
        depths[name] = plan.depth
        stages.append(plan)
        setups[name] = StageSetup(plan, registry.get(op.type), params)
    if problems:
        raise SpecError(problems)
    watched = feeds_hiding(spec, manifests)
    stages = [msgspec.structs.replace(plan, feeds_hiding=plan.name in watched) for plan in stages]
    for plan in stages:
        setups[plan.name] = replace(
            setups[plan.name],
            plan=plan,
            atoms=when_atoms(plan.name, stages),
            load_predictor=predictor_loader(assets),
        )
        for number in range(plan.num_choices if fetch else 0):
            variant = plan.choice(number).variant
            for asset in required_assets(variant) if variant is not None else ():
                assets.pull(asset, on_asset)
    sinks = tuple(
        SinkPlan(
            sink.name,
            sink.type,
            tuple(_edge("input", selector, manifests) for selector in sink.inputs),
            any(hides_upstream(spec, manifests, selector) for selector in sink.inputs),
            sink.path,
            dict(sink.params),
        )
        for sink in spec.sinks
    )
    return Compiled(spec, tuple(stages), sinks, setups, weighed)


def run_plan(
    compiled: Compiled,
    streams: Sequence[StreamPlan],
    *,
    workers: int,
    sinks: Sequence[SinkPlan],
    slo: SloSpec | None,
    faults: FaultPlan,
    cores: Sequence[int] = (),
    needs: Needs = Needs(),  # noqa: B008  # frozen
    job: JobPlan | None = None,
    without: Sequence[str] = (),
) -> RunPlan:
    """The initial state of a run on these streams: ``workers`` of each kind that a stage asks for.

    Where there are no more processes than ``cores``, each is bound to one. ``without`` names what is switched off.

    Raises UsageError for a mechanism that is none.
    """
    for name in without:
        if name not in MECHANISMS:
            raise UsageError(f"{name} is no mechanism of a run", hint=f"what can be left out: {', '.join(MECHANISMS)}")
    kinds = [kind for kind in PLACEMENTS if any(stage.placement == kind for stage in compiled.stages)]
    seats = [
        WorkerPlan(
            f"worker-{i + workers * position}",
            kind,
            (cores[i],) if kind == "process" and workers <= len(cores) else (),
            device="",  # each may have all devices of this machine
        )
        for position, kind in enumerate(kinds)
        for i in range(workers)
    ]
    largest_batch = max(
        (stage.choice(i).batch for stage in compiled.stages for i in range(stage.num_choices)), default=1
    )
    max_queued = 2
    live = sum(stream.drop_policy != "block" for stream in streams)
    paced = any(stream.paced for stream in streams)
    in_hand = len(seats) * max_queued
    plan = RunPlan(
        pipeline=compiled.spec.name,
        stages=compiled.stages,
        sinks=tuple(sinks),
        streams=tuple(streams),
        workers=tuple(seats),
        # Enough to keep every worker's queue full while as much waits at the sinks, and every camera's last moments. In
        # a job the engine rests between looks, and what was answered, written and decoded meanwhile waits for it.
        max_in_flight=max(8, 2 * in_hand * largest_batch + (0 if paced or live else in_hand), _LIVE_FRAMES * live),
        max_queued=max_queued,
        latency_slo_s=latency_of(slo),
        job=job,
        policy=_policy(compiled, needs, without),
        faults=faults,
    )
    return plan if "fusing" in without else msgspec.structs.replace(plan, chains=chains_of(plan))


def _policy(compiled: Compiled, needs: Needs, without: Sequence[str]) -> PolicyPlan:
    off: dict[str, Any] = {name.replace("-", "_"): False for name in without if name != "fusing"}
    if not needs.chooses or not any(stage.candidates for stage in compiled.stages):
        return PolicyPlan(**off)
    return PolicyPlan(
        name="llamapipe",
        floor=needs.floor.value if needs.floor is not None else 0.0,
        second_floor=needs.second_floor,
        on_overload=compiled.spec.on_overload or "late",
        quantile=needs.quantile,
        **off,
    )


def latency_of(slo: SloSpec | None) -> float | None:
    """The latency bound, seconds."""
    return slo.latency[1] if slo is not None and slo.latency is not None else None


def _edge(port: str, selector: str, manifests: Mapping[str, Manifest]) -> EdgePlan:
    parts = selector.split(".")
    if parts[0] == "$source":
        return EdgePlan(port, "", parts[1], PortKind.FRAMES.value)
    _, stage, output = parts
    return EdgePlan(port, stage, output, manifests[stage].outputs[output].kind.value)


def _max_items(manifest: Manifest, params: Mapping[str, Any]) -> int:
    """Pictures that a fan-out makes of one at most: what its own parameter says, where that is a number above 0."""
    most = params.get("max_items") if manifest.fan_out else None
    return most if isinstance(most, int) and most > 0 else _MAX_ITEMS


def _stage(
    op: OpSpec,
    manifests: Mapping[str, Manifest],
    level: str,
    depths: Mapping[str, int],
    placement: str,
    profiles: Sequence[Profile],
    needs: Needs,
    ways: Sequence[tuple[Variant, int]] | None,
    kept: Choice | None,
    motion: OpSpec | None = None,
) -> tuple[StagePlan, Mapping[str, Any], Sequence[Weighed]]:
    manifest = manifests[op.name]
    knobs, given = split_knobs(op.params, manifest)
    params = {name: given.get(name, param.default) for name, param in manifest.params.items()}
    edges = tuple(_edge(port, selector, manifests) for port in manifest.inputs for selector in op.inputs.get(port, ()))
    partial = bool(level) or needs.frames_per_s is not None  # a file's frames, and they alone, fill batches
    if level:  # a frame brings several items at once
        needs = replace(needs, frames_per_s=None)
    configuration, candidates, standby, weighed = _configurations(
        manifest, knobs, params, profiles, needs, ways or (), kept, partial
    )
    above = [depths[edge.stage] for edge in edges if edge.stage]
    above += [depths[atom.stage] for atom in parse_when(op.when).atoms] if op.when else []
    above += [depths[motion.name]] if motion is not None else []
    return (
        StagePlan(
            name=op.name,
            type=op.type,
            inputs=edges,
            outputs={port: spec.kind.value for port, spec in manifest.outputs.items()},
            configuration=configuration,
            level=level,
            depth=1 + max(above, default=0),
            stateful=manifest.state is State.PER_STREAM,
            fan_out=manifest.fan_out,
            max_items=_max_items(manifest, params),
            cuts=manifest.cuts,
            filters=manifest.filters,
            hides=manifest.hides,
            when=op.when,
            sample_fps=knobs.get("sample_fps"),
            hold_unless=None if motion is None else f"any($ops.{motion.name}.events)",
            placement=knobs.get("placement") or placement,
            candidates=candidates,
            standby=standby,
            changeable=ways is not None,
        ),
        params,
        weighed,
    )


def _configurations(
    manifest: Manifest,
    knobs: Mapping[str, Any],
    params: Mapping[str, Any],
    profiles: Sequence[Profile],
    needs: Needs,
    ways: Sequence[tuple[Variant, int]],
    kept: Choice | None,
    partial: bool,
) -> tuple[Configuration, tuple[Candidate, ...], tuple[Candidate, ...], Sequence[Weighed]]:
    """What is budgeted for, all candidates where something is known of them, what stands by, and what was considered.

    ``ways`` are those that the stage may be changed to; ``kept`` has been chosen before; ``partial``: its batches are
    often not full.
    """
    batch = int(knobs.get("batch") or 1)
    if not manifest.uses_model:
        return Configuration(None, batch, params), (), (), ()
    wanted = {**manifest.defaults, **knobs}
    given = label_table(wanted.get("labels"))
    default = choose_variant(
        task=wanted.get("task"),
        model=wanted.get("model"),
        backend=wanted.get("backend"),
        device=wanted.get("device"),
        precision=wanted.get("precision"),
        input_size=wanted.get("input_size"),
        threads=wanted.get("threads"),
        decoder=wanted.get("decoder"),
        labels=given or None,
        batch=batch,
    )

    def configure(variant: Variant, batch: int) -> Configuration:
        labels = given
        if is_given_file(variant.model):  # there `labels` was the network's table
            labels = ()
        elif not labels:
            known = model_named(variant.model).labels
            labels = tuple(label for label in task_labels(wanted.get("task")) if label in known and known != (label,))
        return Configuration(variant, batch, params, wanted.get("min_score"), labels, partial and batch > 1)

    if kept is None:
        candidates = candidates_for(default, wanted, profiles, needs, configure)
        first = candidates[0].configuration if candidates else configure(default, batch)
    else:
        candidates = tuple(
            msgspec.structs.replace(way_to_run(variant, number, profiles, needs, configure), accuracy=accuracy)
            for variant, number, accuracy in kept.candidates
        )
        first = configure(*kept.first)
    weighed = weigh(default, wanted, profiles, needs, candidates)
    known = [first, *(candidate.configuration for candidate in candidates)]
    standby = [way_to_run(variant, number, profiles, needs, configure) for variant, number in dict.fromkeys(ways)]
    return first, candidates, tuple(way for way in standby if way.configuration not in known), weighed
