"""Everything that happens before the first frame: find, check, fetch, open."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from pathlib import Path

import msgspec
import numpy as np

from llamapipe.catalog import Floor, Profile
from llamapipe.clock import Clock, Env
from llamapipe.control.plan import FaultPlan, RunPlan, SinkPlan, StreamPlan
from llamapipe.errors import LlamapipeError, SourceError, SpecError, UsageError
from llamapipe.inference import AssetStore, cache_root, local_file, open_catalogue, registered_files, use_catalogue
from llamapipe.media import (
    SINKS,
    AwaitedSource,
    ReconnectPolicy,
    SourceSpec,
    expand_sources,
    open_source,
    open_sources,
)
from llamapipe.media.contract import SinkContext, VideoSource
from llamapipe.report import RunSummary
from llamapipe.runtime import Boot, Machine, StreamFacts, StreamPoint, read_machine
from llamapipe.runtime.confinement import busy_ticks, idlest_cores
from llamapipe.session.allotment import Allotment, Memory, allotment_of, check_cores, job_of
from llamapipe.session.candidates import Choice, Needs
from llamapipe.session.changing import ways_to_stand_by
from llamapipe.session.checkpoints import (
    CHOICE,
    Checkpoint,
    CheckpointStore,
    check_same,
    fingerprint,
    look_back,
    resume_plan,
)
from llamapipe.session.compile import Compiled, compile_pipeline, latency_of, run_plan
from llamapipe.session.costs import prices_for
from llamapipe.session.objective import Objective, objective_of
from llamapipe.session.observing import uses_profiles
from llamapipe.session.outputs import RESERVED, absent_folders, prepare_folders, remove_empty
from llamapipe.session.pinned import missing_variant, needed_core_ms, read_pinned, with_pinned
from llamapipe.session.processes import boot_of, check_count, operator_files, parse_workers, workers_at
from llamapipe.session.request import RunRequest
from llamapipe.session.resolve import LoadedPipeline, load_pipeline
from llamapipe.session.sinks import with_asked_sinks, with_jsonl, with_results
from llamapipe.slo import workers_on
from llamapipe.spec import CORE_SECONDS, PipelineSpec, Prices, SloSpec, validate
from llamapipe.tune import Tuning

__all__ = ["OnAsset", "Prepared", "check_complete", "pinned_of", "prepare", "profiles_here", "resolve", "sources_of"]

_PATIENCE_S = 0.5
_USUAL_FPS = 25.0
_LOWEST_FPS = 5.0  # that counts for the length of segments: short ones make large videos

OnAsset = Callable[[str, int, int | None], None]
"""Told of a download: (asset, bytes so far, bytes in all or None)."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that can begin. Sources are open; ``failures`` are those that could not be, ``awaited`` may come later."""

    request: RunRequest
    compiled: Compiled
    plan: RunPlan
    objective: Objective
    specs: Mapping[str, SourceSpec]
    sources: dict[str, VideoSource]
    failures: Mapping[str, LlamapipeError]
    folders: Mapping[str, Path | None]
    cores: float
    boot: Boot | None  # of worker processes, where a stage runs in one
    store: CheckpointStore | None  # where something is kept for going on; None: there is nothing that can be
    fingerprint: Mapping[str, str]
    earlier: Checkpoint | None  # of the run that this one goes on with
    prices: Prices = CORE_SECONDS
    decoders: Mapping[str, int] = field(default_factory=dict)  # threads, by stream
    awaited: Mapping[str, AwaitedSource] = field(default_factory=dict)
    made: Sequence[Path] = ()  # folders that were made for it, the deepest first
    core_numbers: Sequence[int] = ()  # of the cores that it may use, the one first that has least to do
    allotment: Allotment = field(default_factory=lambda: Allotment(1, governed=False))
    memory: Memory | None = None  # of what runs like it needed

    @property
    def cores_held(self) -> float:
        """That it begins on: what is allotted to it, or all that it may use, of which one may be a part only."""
        return self.allotment.cores if self.allotment.cores < int(self.cores) else self.cores

    @property
    def facts(self) -> dict[str, StreamFacts]:
        """What stages are told of each stream; zeros of one that is not there yet."""
        return {plan.stream: _facts(self.sources.get(plan.stream)) for plan in self.plan.streams}

    def take_in(self, stream: str, source: VideoSource) -> StreamPlan:
        """A source that was awaited is there, and counts among the others from here on. Returns how it is to be run."""
        self.sources[stream] = source
        plan = next(plan for plan in self.plan.streams if plan.stream == stream)
        return msgspec.structs.replace(
            plan,
            drop_policy=_drop_policy(self.request, source),
            max_pending=_max_pending(source, self.objective),
            paced=_is_paced(self.request, source),
            awaited="",
        )

    def close_source(self, stream: str) -> None:
        """Stop reading it, or waiting for it. May be called from any thread."""
        (self.awaited.get(stream) or self.sources[stream]).close()

    def close(self) -> None:
        """Let go of every source, and of folders that nothing was put into."""
        _close(self.sources, self.awaited)
        remove_empty(self.made)

    def point(self, stream: str) -> StreamPoint | None:
        """Where the stream is gone on with."""
        return None if self.earlier is None else self.earlier.streams.get(stream)

    def context(self, stream: str, sink: SinkPlan) -> SinkContext:
        """What the stream's sink is told when it opens."""
        request = self.request
        plan = next(plan for plan in self.plan.streams if plan.stream == stream)
        keeps = self.store is not None and plan.segment_frames > 0
        point = self.point(stream)
        return SinkContext(
            info=self.sources[stream].info,
            directory=self.folders[stream],
            inputs=[edge.selector for edge in sink.inputs],
            hides=sink.hides,
            force=request.force or self.earlier is not None,
            params=_sink_params(sink),
            source_uri=self.specs[stream].uri,
            end_s=request.end_s,
            loop=request.loop,
            path=sink.path,
            segment_frames=plan.segment_frames,
            keep=self.store.keep(stream, sink.name) if self.store is not None and keeps else None,
            mark=None if point is None else msgspec.msgpack.decode(point.marks[sink.name]),
        )


def _sink_params(sink: SinkPlan) -> Mapping[str, object]:
    declared = SINKS[sink.type].params
    return {name: sink.params.get(name, param.default) for name, param in declared.items()}


def pinned_of(request: RunRequest) -> Tuning | None:
    """The configuration that a run is given. Raises UsageError for a file that is none."""
    return read_pinned(request.config) if isinstance(request.config, Path) else request.config


def resolve(request: RunRequest, *, env: Env, results: bool, trial: bool = False) -> LoadedPipeline:
    """The request's pipeline with the sinks that this run has: of a trial nobody is told."""
    tuning = pinned_of(request)
    sets, floor = (request.sets, request.min_accuracy) if tuning is None else ({}, None)
    loaded = load_pipeline(
        request.pipeline, env=env, params=request.params, sets=sets, ops_files=request.ops_files, min_accuracy=floor
    )
    manifests = {op.name: loaded.registry.manifest(op.type) for op in loaded.spec.ops}
    spec = loaded.spec
    if tuning is not None:
        types = {op.type: manifests[op.name] for op in spec.ops}
        spec = with_pinned(spec, tuning, request.sets, types, min_accuracy=request.min_accuracy)
        if problems := validate(spec, types, SINKS):
            raise SpecError(problems)
    if request.output is None:
        needs_folder = [sink.type for sink in spec.sinks if SINKS[sink.type].default_path is not None]
        if not results and needs_folder:
            raise UsageError(f"pipeline {spec.name!r} writes files, no folder was given", hint="add -o DIR")
        fileless = [sink for sink in spec.sinks if SINKS[sink.type].default_path is None and not trial]
        spec = spec.model_copy(update={"sinks": tuple(fileless)})
    spec = with_asked_sinks(spec, request.sinks, manifests)
    for sink in spec.sinks:  # of those that are asked for by flags nobody has looked at this
        problem = SINKS[sink.type].problem(len(sink.inputs), sink.path) or SINKS[sink.type].missing
        if problem is not None:
            raise UsageError(f"sink {sink.name}: {problem}")
    if request.output is not None:
        spec = with_jsonl(spec, manifests)
    if results:
        spec = with_results(spec, manifests)
    if not spec.sinks:
        raise UsageError(f"pipeline {spec.name!r} has nowhere to write to", hint="add -o DIR, or --sink KIND=PATH")
    return LoadedPipeline(spec, loaded.registry, loaded.locations)


def prepare(
    request: RunRequest,
    *,
    clock: Clock,
    env: Env,
    results: bool = False,
    dry: bool = False,
    on_asset: OnAsset | None = None,
    interrupt: threading.Event | None = None,
    held: VideoSource | None = None,
) -> Prepared:
    """Do all of it. ``held`` is read in place of the request's only source, which is not opened.

    Raises UsageError, SpecError, SourceError, OutputError, AssetError, and InterruptedRun where ``interrupt`` was set
    while a source was connecting; nothing stays open then.

    ``dry`` makes no folder, and fetches no model.
    """
    started_s, ticks = clock.now_s(), busy_ticks()
    earlier = _earlier(request)
    kept = None if earlier is None else earlier.choices
    trial = held is not None
    asked = _asked(request, env=env, results=results, on_asset=on_asset, fetch=not dry, trial=trial, kept=kept)
    specs, compiled, objective, machine = asked.specs, asked.compiled, asked.objective, asked.machine
    boot = boot_of(compiled, request.ops_files, cache_root(env))
    identity = asked.fingerprint
    if earlier is not None:
        check_same(earlier.fingerprint, identity)
    points = earlier.streams if earlier is not None else {}
    policy = _reconnect(request)
    decoders = {name: _decoder_threads(request, spec, len(specs), machine.cores) for name, spec in specs.items()}
    chances = dict(zip(specs, np.random.default_rng().spawn(len(specs)), strict=True))

    def open_one(spec: SourceSpec, unwanted: Callable[[], bool], *, policy: ReconnectPolicy) -> VideoSource:
        return open_source(
            spec,
            clock=clock,
            start_s=request.start_s,
            end_s=request.end_s,
            max_frames=request.max_frames,
            loop=request.loop,
            realtime=request.realtime,
            threads=decoders[spec.name],
            reconnect=policy,
            rng=chances[spec.name],
            unwanted=unwanted,
            skip=points[spec.name].seq if spec.name in points else 0,
        )

    sources: dict[str, VideoSource] = {}
    failures: dict[str, SourceError] = {}
    awaited: dict[str, AwaitedSource] = {}
    if held is not None:
        sources = dict.fromkeys(specs, held)
    else:
        sources, failures, awaited = open_sources(
            specs,
            partial(open_one, policy=policy),
            clock=clock,
            unwanted=(interrupt or threading.Event()).is_set,
            # Without a limit of its own a source is called for as long as others are there.
            insist=partial(open_one, policy=replace(policy, first_s=inf)) if request.reconnect_for_s is None else None,
        )
    if dry:
        failures |= {name: _not_there(specs[name]) for name in awaited}
        _close(awaited)
        awaited = {}
    made: Sequence[Path] = ()
    try:
        if not sources:
            raise next(iter(failures.values()))
        # Folders come last: a run that cannot begin leaves nothing behind.
        force = request.force or earlier is not None
        made = absent_folders(request.output, list(specs)) if request.output is not None and not dry else ()
        folders = prepare_folders(request.output, specs, compiled.sinks, force=force, dry=dry)
        streams = [
            StreamPlan(
                name,
                _drop_policy(request, source),
                max_pending=_max_pending(source, objective),
                paced=_is_paced(request, source),
                segment_frames=0 if results or dry else _segment_frames(request, specs[name], source),
                resume=resume_plan(points.get(name)),
            )
            if (source := sources.get(name)) is not None
            # Most likely a camera; what it is will be told when it is there.
            else StreamPlan(
                name,
                request.drop_policy or "drop-oldest",
                paced=True,
                awaited="limit" if policy.first_s > 0 else "others",
            )
            for name in specs
            if name not in failures
        ]
        usable, numbers = max(1, int(machine.cores)), idlest_cores(machine.core_numbers, ticks)
        if request.cores is None or boot is not None:  # threads are bound later, to those that nobody has claimed
            numbers = numbers[:usable]
        memory = Memory(env, compiled.spec, objective, sources)
        needed = memory.recall()
        plan = run_plan(
            compiled,
            streams,
            workers=asked.workers if awaited else _workers(asked, request, sources),
            sinks=compiled.sinks,
            slo=_judged(objective),
            faults=_faults(request),
            cores=numbers if request.cores is None else tuple(sorted(numbers)),
            needs=asked.needs,
            job=job_of(_judged(objective), sources, started_s, clock.now_s(), request.waited_s, needed),
            without=request.without,
        )
        keeps = request.output is not None and any(stream.segment_frames for stream in streams)
        allotment = allotment_of(
            asked=request.cores,
            plan=plan,
            objective=objective,
            sources=sources,
            usable=usable,
            own_workers=held is None
            and not isinstance(request.workers, int)
            and parse_workers(request.workers)[1] is None,
            needed=needed,
            left_s=None if plan.job is None else plan.job.began_s + plan.job.deadline_s - clock.now_s(),
        )
        if allotment.cores < usable:
            workers = workers_on(allotment.cores, latency=plan.latency_slo_s is not None)
            plan = msgspec.structs.replace(plan, allotted=workers)
        return Prepared(
            request=request,
            compiled=compiled,
            plan=plan,
            objective=objective,
            specs=specs,
            sources=sources,
            failures=failures,
            folders=folders,
            cores=machine.cores,
            boot=boot,
            store=CheckpointStore(request.output) if request.output is not None and keeps else None,
            fingerprint=identity,
            earlier=earlier,
            prices=asked.needs.prices,
            decoders=decoders,
            awaited=awaited,
            made=made,
            core_numbers=numbers,
            allotment=allotment,
            memory=memory,
        )
    except BaseException:
        _close(sources, awaited)
        remove_empty(made)
        raise


def _needs(spec: PipelineSpec, objective: Objective, prices: Prices, paced: int) -> Needs:
    """What the pipeline asks of its models. Without an objective that is judged there is nothing to choose by."""
    slo = _judged(objective)
    floor = spec.accuracy
    return Needs(
        floor=None if floor is None else Floor(floor.min, floor.metric or "agreement"),
        second_floor=(floor.degraded or 0.0) if floor is not None and spec.on_overload == "degrade" else 0.0,
        latency_s=latency_of(slo),
        quantile=0.95 if objective.quantile is None else objective.quantile[0],
        chooses=slo is not None,
        threads=1,  # a worker is one thread: the cores are shared among workers
        prices=prices,
        frames_per_s=_USUAL_FPS * paced if paced else None,
    )


def profiles_here(env: Env) -> list[Profile]:
    """What is known of variants on this machine; nothing where there is no catalogue yet, or it is not to be used."""
    if not uses_profiles(env):
        return []
    with open_catalogue(env) as catalogue:
        return catalogue.profiles()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, understood. No source is open."""

    specs: Mapping[str, SourceSpec]
    objective: Objective
    machine: Machine
    workers: int
    tuning: Tuning | None
    needs: Needs
    compiled: Compiled
    fingerprint: Mapping[str, str]


def _asked(
    request: RunRequest,
    *,
    env: Env,
    results: bool,
    on_asset: OnAsset | None,
    fetch: bool,
    trial: bool = False,
    kept: Mapping[str, Choice] | None = None,
) -> _Asked:
    if request.record_events and request.output is None:
        raise UsageError("--events needs a folder to write to", hint="add -o DIR")
    loaded = resolve(request, env=env, results=results, trial=trial)
    assets = AssetStore(cache_root(env), env=env)
    specs = {spec.name: spec for spec in sources_of(request.sources, env, on_asset)}
    live = [spec.shown for spec in specs.values() if spec.kind != "file"]
    unpaced = [spec.shown for spec in specs.values() if spec.kind == "file" and not request.realtime]
    objective = objective_of(request.slo, loaded.spec.slo, unpaced=unpaced, live=live)
    machine = read_machine()
    check_cores(request.cores, max(1, int(machine.cores)))
    if isinstance(request.cores, int):
        machine = replace(machine, cores=float(request.cores))
    kind, count = parse_workers(request.workers)
    workers = count if count is not None else _own_count(kind, machine)
    placements = {str(op.params.get("placement") or kind or "thread") for op in loaded.spec.ops}
    check_count(workers, sorted(placements), machine.cores)
    needs = _needs(loaded.spec, objective, prices_for(request.prices, env), 0 if unpaced else len(specs))
    tuning = pinned_of(request)
    profiles = profiles_here(env)
    standby = None
    if tuning is not None and request.shadow and request.retune and tuning.metric == "agreement":
        standby = ways_to_stand_by(request, tuning, profiles, env=env)
    try:
        compiled = compile_pipeline(
            loaded.spec,
            loaded.registry,
            assets,
            on_asset=on_asset,
            fetch=fetch,
            placement=kind or "thread",
            profiles=profiles,
            needs=needs,
            standby=standby,
            agreed=request.agreed.by_stage if request.agreed is not None else None,
            kept=kept,
        )
    except SpecError as error:
        raise error if tuning is None else missing_variant(error, tuning) from error
    given = [*operator_files(compiled, compiled.stages, request.ops_files), *(file[0] for file in registered_files())]
    variants = [stage.configuration.variant for stage in compiled.stages]
    files = {local_file(variant.model) for variant in variants if variant is not None}
    given += [str(file) for file in files if file is not None and str(file.resolve()) not in given]
    identity = fingerprint(request, loaded.spec, compiled.stages, compiled.sinks, specs, given)
    return _Asked(specs, objective, machine, workers, tuning, needs, compiled, identity)


def sources_of(sources: Sequence[str], env: Env, on_asset: OnAsset | None) -> list[SourceSpec]:
    """The sources that a user names, samples fetched. Raises UsageError, AssetError."""
    assets = AssetStore(cache_root(env), env=env)
    use_catalogue(assets.root)

    def sample(name: str) -> Path:
        return assets.pull(_sample_asset(name, assets), on_asset)

    return expand_sources(sources, env=env, resolve_sample=sample, reserved=RESERVED)


def check_complete(summary: RunSummary, request: RunRequest, *, env: Env, results: bool) -> None:
    """Raise UsageError unless the request asks for the run that has been made, whichever versions made it, and how."""
    if not summary.fingerprint:  # of a release that kept none
        return
    now = _asked(request, env=env, results=results, on_asset=None, fetch=False).fingerprint
    check_same(_as_asked(summary.fingerprint), _as_asked(now), what="complete")


def _as_asked(given: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in given.items() if not name.startswith(("version", CHOICE))}


def _reconnect(request: RunRequest) -> ReconnectPolicy:
    give_up_s, stall_timeout_s = request.reconnect_for_s, request.stall_timeout_s
    if give_up_s is None:
        return ReconnectPolicy(stall_timeout_s=stall_timeout_s)
    return ReconnectPolicy(give_up_s=give_up_s, first_s=give_up_s, stall_timeout_s=stall_timeout_s)


def _earlier(request: RunRequest) -> Checkpoint | None:
    """The run to go on with, if that is wanted and there is one."""
    if not request.resume:
        return None
    if request.output is None:
        raise UsageError("--resume needs the folder of the run to go on with", hint="add -o DIR")
    left = look_back(request.output)
    if left.summary is not None:
        raise UsageError(
            f"{request.output} holds a run that has ended as {left.summary.outcome}: it cannot be gone on with",
            hint="begin anew with --force instead of --resume",
        )
    return left.checkpoint


def _segment_frames(request: RunRequest, spec: SourceSpec, source: VideoSource) -> int:
    """Frames between two places where the stream can be gone on with; 0 for what cannot be read again alike."""
    if request.output is None or request.realtime or source.info.live or _drop_policy(request, source) != "block":
        return 0
    if spec.kind != "file" or not Path(spec.uri).is_file():
        return 0
    fps = max(float(source.info.fps or _USUAL_FPS), _LOWEST_FPS)
    return max(1, round(request.segment_s * fps))


def _faults(request: RunRequest) -> FaultPlan:
    timeout_s = request.invocation_timeout_s
    if timeout_s is None:
        return FaultPlan()
    return FaultPlan(hang_factor=0.0, hang_floor_s=timeout_s, first_hang_s=max(timeout_s, FaultPlan().first_hang_s))


def _judged(objective: Objective) -> SloSpec | None:
    return None if objective.unjudged else objective.slo


def _workers(asked: _Asked, request: RunRequest, sources: Mapping[str, VideoSource]) -> int:
    """Where the user has named no number, no more than are of use at the sources' own rate.

    That is what was tuned keeps busy, and a worker a core where there are more sources: these leave no core idle, and
    workers that take turns on one only drive each other out of its cache.
    """
    tuning, rates = asked.tuning, [float(source.info.fps or 0) for source in sources.values()]
    paced = all(_is_paced(request, source) for source in sources.values())
    if not paced or parse_workers(request.workers)[1] is not None:
        return asked.workers
    cores = max(1, int(asked.machine.cores))
    most = cores if len(sources) > cores else asked.workers
    if tuning is None or not all(rates):
        return most
    cost_core_ms = needed_core_ms(tuning, reference_too=bool(request.shadow) and request.retune)
    return most if cost_core_ms is None else workers_at(sum(rates), cost_core_ms, most)


def _own_count(kind: str | None, machine: Machine) -> int:
    """A worker a core; one thread more, so that decoding and encoding leave no core idle. Processes cost more."""
    cores = max(1, int(machine.cores))
    return cores if kind == "process" else cores + 1


def _decoder_threads(request: RunRequest, spec: SourceSpec, num_sources: int, cores: float) -> int:
    """Threads that decode a source: two for a file that is to be read fast.

    Each thread more holds a picture back until the next one has come, which a paced source would feel as latency.
    """
    fast = spec.kind == "file" and not request.realtime
    return 2 if fast and num_sources <= cores else 1


def _max_pending(source: VideoSource, objective: Objective) -> int:
    """Frames that may wait before some are dropped: as many as can still be on time, half a second's without an SLO."""
    bound = objective.quantile
    wait_s = bound[1] if bound is not None else _PATIENCE_S
    return max(StreamPlan("").max_pending, round(float(source.info.fps or 0) * wait_s))


def _is_paced(request: RunRequest, source: VideoSource) -> bool:
    return request.realtime or source.info.live


def _facts(source: VideoSource | None) -> StreamFacts:
    if source is None:
        return StreamFacts(0, 0, 0.0)
    return StreamFacts(source.info.width, source.info.height, float(source.info.fps or 0))


def _close(*sources: Mapping[str, VideoSource] | Mapping[str, AwaitedSource]) -> None:
    for of_kind in sources:
        for source in of_kind.values():
            source.close()


def _not_there(spec: SourceSpec) -> SourceError:
    return SourceError(
        f"source {spec.shown} is not there", hint="a run begins without it, and takes it in when it comes"
    )


def _drop_policy(request: RunRequest, source: VideoSource) -> str:
    if request.drop_policy is not None:
        return request.drop_policy
    return "drop-oldest" if source.info.live else "block"


def _sample_asset(name: str, assets: AssetStore) -> str:
    samples = {Path(asset).stem: asset for asset in assets.names() if asset.endswith(".mp4")}
    if name not in samples:
        raise UsageError(f"unknown sample {name!r}: expected one of {', '.join(sorted(samples))}")
    return samples[name]
