"""Run a pipeline: drive the engine, then say what happened."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from queue import Full, Queue, SimpleQueue
from typing import IO, TYPE_CHECKING

import msgspec

from llamapipe.clock import Clock, Env, SystemClock, system_env
from llamapipe.control import Controller
from llamapipe.control import events as ev
from llamapipe.control.plan import SinkPlan
from llamapipe.errors import AssetError, InterruptedRun, LlamapipeError, OutputError, UsageError
from llamapipe.inference import cache_root, registered_files
from llamapipe.media import SINKS
from llamapipe.media.contract import Sink, SinkItem, VideoSource
from llamapipe.media.sinks.files import PendingFile, writing
from llamapipe.operator import file_being_imported
from llamapipe.report import PictureStrip, PlanView, RunSummary, write_report_html, write_run_json
from llamapipe.runtime import (
    Engine,
    EngineResult,
    LocalArena,
    ProcessWorker,
    SharedArena,
    SinkWriter,
    SourceReader,
    Worker,
    WorkerPeer,
    boot_streams,
    read_machine,
)
from llamapipe.runtime.confinement import Confinement, CoreClaims
from llamapipe.runtime.open_files import allow_open_files
from llamapipe.runtime.whole_process import one_thread
from llamapipe.session.account import summarise
from llamapipe.session.changing import change_to
from llamapipe.session.checkpoints import Tallies, look_back
from llamapipe.session.costs import CostMeter
from llamapipe.session.governor import confined, governor_of
from llamapipe.session.joining import Joining
from llamapipe.session.keeper import Keeper
from llamapipe.session.observing import Neighbours, not_comparable, uses_profiles
from llamapipe.session.outputs import EVENTS_FILE, REPORT_FILE, SUMMARY_FILE
from llamapipe.session.planning import view_of
from llamapipe.session.prepare import OnAsset, Prepared, check_complete, pinned_of, prepare, profiles_here
from llamapipe.session.processes import operator_files, slot_bytes
from llamapipe.session.quarantine import Quarantiner
from llamapipe.session.remarks import disturbed, remarks_of
from llamapipe.session.request import Progress, RunRequest
from llamapipe.session.resolve import load_pipeline
from llamapipe.session.results import FrameResult
from llamapipe.session.sinks import FunctionSink, PictureTap
from llamapipe.session.stopping import Linked, first_ctrl_c
from llamapipe.session.watch import Watcher
from llamapipe.spec import tree

if TYPE_CHECKING:
    from llamapipe.session.shadow import Shadow
    from llamapipe.tune import Tuning

__all__ = ["run", "run_held", "stream"]

_LOG = logging.getLogger(__name__)
_RESULTS = "llamapipe/results@v1"
_MOST_SHADOW = 0.5
_APART_S = 0.25  # of a paced video, between two pictures that are kept for the report
_WAITING_RESULTS = 4  # finished frames that may wait for the caller


def run(
    request: RunRequest,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    on_plan: Callable[[PlanView], None] | None = None,
    interrupt: threading.Event | None = None,
    clock: Clock | None = None,
    env: Env | None = None,
) -> RunSummary:
    """Run to the end and write every file. ``on_plan`` is told what is planned, before the first frame.

    Setting ``interrupt`` stops the run: what was decoded is finished, every output is finalised. So does Ctrl-C in
    the main thread where there is none, and an exception of ``on_progress``; both are raised then. Raises
    UsageError, SpecError, SourceError, OutputError or AssetError where the run cannot begin; what goes wrong later
    is in the summary.
    """
    clock = clock if clock is not None else SystemClock()
    env = env if env is not None else system_env()
    _refuse_while_imported()
    stop, raised = Linked(interrupt), list[Exception]()
    job = _Job(request, clock, env, _telling(on_progress, stop, raised), stop, None, on_plan)
    with first_ctrl_c(stop) if interrupt is None else contextlib.nullcontext():
        summary = job.run()
    if raised:
        raise raised[0]
    return summary


def stream(
    request: RunRequest,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    interrupt: threading.Event | None = None,
    clock: Clock | None = None,
    env: Env | None = None,
) -> Iterator[FrameResult]:
    """Run, and yield every frame's results in order, as they are ready. Leaving the loop ends the run.

    ``on_progress`` is called by another thread. Raises what `run` raises, and LlamapipeError at the end where the run
    failed.
    """
    clock = clock if clock is not None else SystemClock()
    env = env if env is not None else system_env()
    _refuse_while_imported()
    stop, raised = Linked(interrupt), list[Exception]()
    queue: Queue[FrameResult | None] = Queue(_WAITING_RESULTS)
    left = threading.Event()

    def give(result: FrameResult | None) -> None:
        while not left.is_set():
            with contextlib.suppress(Full):
                queue.put(result, timeout=0.1)
                return

    told = _telling(on_progress, stop, raised)
    job = _Job(request, clock, env, told, stop, lambda item: give(FrameResult.from_item(item)))
    outcome: list[RunSummary | BaseException] = []

    def work() -> None:
        try:
            outcome.append(job.run())
        except BaseException as error:
            outcome.append(error)
        give(None)

    thread = threading.Thread(target=work, name="llamapipe run", daemon=True)
    thread.start()
    try:
        while (result := queue.get()) is not None:
            yield result
    finally:
        left.set()
        stop.set()
        thread.join()
    if raised:
        raise raised[0]
    ended = outcome[0]
    if isinstance(ended, BaseException):
        raise ended
    if ended.outcome == "cancelled":
        raise InterruptedRun("the run was interrupted")
    if ended.outcome == "failed":
        raise LlamapipeError(ended.error or "the run failed")


def run_held(
    request: RunRequest,
    video: VideoSource,
    take: Callable[[FrameResult], None],
    *,
    interrupt: threading.Event,
    clock: Clock,
    env: Env,
) -> RunSummary:
    """Run on ``video`` in place of the request's only source, and hand every frame's results to ``take``.

    Raises what `run` raises; a run that was interrupted says so in its summary.
    """
    job = _Job(request, clock, env, None, interrupt, lambda item: take(FrameResult.from_item(item)), held=video)
    return job.run()


def _telling(
    on_progress: Callable[[Progress], None] | None, stop: Linked, raised: list[Exception]
) -> Callable[[Progress], None] | None:
    if on_progress is None:
        return None

    def tell(progress: Progress) -> None:
        try:
            on_progress(progress)
        except Exception as error:  # the caller's own, and no reason to lose what the run has done
            raised.append(error)
            stop.set()

    return tell


def _refuse_while_imported() -> None:
    file = file_being_imported()
    if file is not None:
        raise UsageError(
            f"{file} begins a run while it is imported for its operators or pipelines",
            hint="put what it runs under: if __name__ == '__main__':",
        )


@dataclass(slots=True)
class _Job:
    request: RunRequest
    clock: Clock
    env: Env
    on_progress: Callable[[Progress], None] | None
    interrupt: threading.Event
    take: Callable[[SinkItem], None] | None
    on_plan: Callable[[PlanView], None] | None = None
    held: VideoSource | None = None

    def run(self) -> RunSummary:
        if self.held is not None:  # a trial: it has what the run has that it is made for
            return self._run(None)
        confinement = Confinement(CoreClaims(cache_root(self.env) / "cores"))
        try:
            return self._run(confinement)
        finally:
            confinement.end()

    def _run(self, confinement: Confinement | None) -> RunSummary:
        asked_s = self.clock.now_s()
        # Read once: what the run was given is still to be told at its end, whatever became of the file meanwhile.
        self.request = replace(self.request, config=pinned_of(self.request))
        if self.held is None:
            from llamapipe.session.agreeing import with_agreements

            self.request = with_agreements(
                self.request,
                clock=self.clock,
                env=self.env,
                on_asset=self._on_asset(asked_s),
                interrupt=self.interrupt,
            )
        started_s, started_cpu_s = self.clock.now_s(), self.clock.cpu_s()
        self.request = replace(self.request, waited_s=self.request.waited_s + started_s - asked_s)
        started_at = datetime.fromtimestamp(self.clock.wall_s(), UTC).isoformat(timespec="seconds")
        if self.request.resume and self.request.output is not None:
            left = look_back(self.request.output)
            if left.kind == "complete" and left.summary is not None:
                check_complete(left.summary, self.request, env=self.env, results=self.take is not None)
                return left.summary
        try:
            prepared = prepare(
                self.request,
                clock=self.clock,
                env=self.env,
                results=self.take is not None,
                on_asset=self._on_asset(started_s),
                interrupt=self.interrupt,
                held=self.held,
            )
        except AssetError as error:
            if self.interrupt.is_set():  # Ctrl-C reaches pip too, which then gives up
                raise InterruptedRun("interrupted while a model or clip was fetched") from error
            raise
        with ExitStack() as stack:
            stack.callback(prepared.close)
            if confinement is not None and int(prepared.cores_held) < int(read_machine().cores):
                prepared = confined(prepared, confinement, stack)
            changes: SimpleQueue[ev.Event] = SimpleQueue()
            shadow = self._shadow(prepared, changes)
            if shadow is not None:
                stack.callback(shadow.close, cancelled=True)  # wherever this ends
                watched = {name: shadow.watching(source) for name, source in prepared.sources.items()}
                prepared = replace(prepared, sources=watched)
            if self.on_plan is not None:
                self.on_plan(view_of(prepared))
            keeper = Keeper(prepared, self.clock, started_at) if prepared.store is not None else None
            if keeper is not None:
                stack.enter_context(keeper)
                started_at = keeper.first.started_at
            log = stack.enter_context(_event_log(self.request)) if self.request.record_events else None
            controller = Controller(prepared.plan)
            costs = CostMeter(
                prepared.plan,
                prepared.prices,
                cores=prepared.cores_held,
                decoders=prepared.decoders,
                before=keeper.first.tallies.reserved_s if keeper is not None else None,
            )
            governor = None
            if confinement is not None:
                governor = governor_of(prepared, confinement, costs, changes.put, self.clock, started_s)
            watcher = Watcher(
                controller,
                started_s=started_s,
                waited_s=self.request.waited_s,
                num_frames=_num_frames(prepared),
                objective=prepared.objective,
                on_progress=self.on_progress,
                log=log,
                costs=costs,
                quarantiner=self._quarantiner(prepared),
                keeper=keeper,
                governor=governor,
            )
            paced = any(stream.paced for stream in prepared.plan.streams)
            pictures = PictureStrip(apart_s=_APART_S if paced else 0.0)
            neighbours = Neighbours(self.clock, prepared.core_numbers, prepared.cores)
            try:
                result = self._drive(prepared, controller, watcher, pictures, changes)
            finally:
                if shadow is not None:
                    shadow.close(cancelled=self.interrupt.is_set())
            controller.ledger.check()
            foreign = neighbours.share()
            observed = self._observed(prepared, watcher, costs, foreign)
            ended_s = self.clock.now_s()
            before = keeper.first.tallies if keeper is not None else Tallies()
            summary = summarise(
                prepared,
                controller,
                watcher,
                result,
                costs,
                ended_s=ended_s,
                started_at=started_at,
                wall_s=ended_s - started_s + before.wall_s,
                cpu_s=self.clock.cpu_s() - started_cpu_s + before.cpu_s,
                observed=observed,
            )
            if prepared.memory is not None and governor is not None and governor.learns and result.outcome == "done":
                items = {stage.name: stage.items / max(1, summary.frames.decoded) for stage in summary.stages}
                prepared.memory.learn(governor.core_s or 0.0, summary.load_s, items)
            notes = remarks_of(prepared) + disturbed(summary.slo, foreign)
            notes += shadow.notes if shadow is not None else []
            seen = shadow.summary if shadow is not None else None
            summary = msgspec.structs.replace(
                summary, notes=[*summary.notes, *notes], shadow=seen, foreign=round(foreign, 4)
            )
            if self.request.output is not None:
                summary = _write_reports(self.request.output, summary, watcher, pictures, prepared)
            if keeper is not None:
                keeper.over(result.outcome, controller)
        if self.on_progress is not None:
            self.on_progress(watcher.progress(ended_s, "done"))
        return summary

    def _observed(self, prepared: Prepared, watcher: Watcher, costs: CostMeter, foreign: float) -> dict[str, int]:
        """Tell the catalogue what variants took, where that compares with what it knows."""
        if not uses_profiles(self.env) or not watcher.observations.ripe:
            return {}
        why_not = not_comparable(
            workers=len(prepared.plan.workers),
            threads=costs.most_threads,
            cores=min([prepared.cores, *(held.cores for held in watcher.cores)]),
            foreign=foreign,
            lost=watcher.num_lost,
        )
        if why_not:
            _LOG.debug("the catalogue is told nothing of this run: %s", why_not)
            return {}
        observed, watcher.unkept_profiles = watcher.observations.tell(self.env)
        return observed

    def _shadow(self, prepared: Prepared, changes: SimpleQueue[ev.Event]) -> Shadow | None:
        """What looks at some frames again, where that is asked for, and puts what follows into ``changes``.

        Raises UsageError.
        """
        share = self.request.shadow
        if not share:
            return None
        if not 0 < share <= _MOST_SHADOW:
            raise UsageError(f"--shadow {share:g}: expected a share of frames, over 0 and up to {_MOST_SHADOW:g}")
        tuning = pinned_of(self.request)
        if tuning is None or tuning.metric != "agreement":
            what = "there is none" if tuning is None else f"this one was tuned by {tuning.metric}"
            raise UsageError(
                f"--shadow compares a configuration with its reference, {what}", hint="give --config FILE, or --tune"
            )
        if len(prepared.plan.streams) > 1:
            raise UsageError(f"--shadow follows one source, there are {len(prepared.plan.streams)}")
        from llamapipe.session.shadow import Shadow
        from llamapipe.session.trials import judged_results

        loaded = load_pipeline(
            self.request.pipeline, env=self.env, params=self.request.params, ops_files=self.request.ops_files
        )
        results = judged_results(loaded.spec, {op.name: loaded.registry.manifest(op.type) for op in loaded.spec.ops})

        def change(to: Tuning, why: str) -> None:
            stages, profiles = prepared.plan.stages, profiles_here(self.env)
            changes.put(change_to(to, why, self.request, stages, profiles, env=self.env))

        changing = change if self.request.retune else None
        return Shadow(self.request, tuning, results, share, changing, clock=self.clock, env=self.env)

    def _on_asset(self, started_s: float) -> OnAsset:
        """Tells of what is fetched before the run, as progress, and fetches nothing more once interrupted."""

        def tell(name: str, done_bytes: int, total_bytes: int | None) -> None:
            if self.interrupt.is_set():
                raise InterruptedRun("interrupted before the run began")
            if not done_bytes and (show := self.on_progress) is not None:
                elapsed_s = self.clock.now_s() - started_s
                show(Progress("fetching", 0, None, 0.0, None, None, None, 0, 0, None, elapsed_s, fetching=name))

        return tell

    def _quarantiner(self, prepared: Prepared) -> Quarantiner | None:
        # What a pipeline hides must not lie in a file beside its outputs.
        if self.request.output is None or any(sink.hides for sink in prepared.plan.sinks):
            return None
        stages = {stage.name: stage for stage in prepared.plan.stages}
        operators = operator_files(prepared.compiled, prepared.plan.stages, self.request.ops_files)
        return Quarantiner(
            self.request.output, stages, lambda: boot_streams(prepared.facts), operators, registered_files()
        )

    def _drive(
        self,
        prepared: Prepared,
        controller: Controller,
        watcher: Watcher,
        pictures: PictureStrip,
        changes: SimpleQueue[ev.Event],
    ) -> EngineResult:
        arena: LocalArena | SharedArena = LocalArena()
        if prepared.boot is not None:
            allow_open_files()
            arena = SharedArena(slot_bytes(prepared.facts.values()))
        peers: dict[str, SourceReader | SinkWriter] = {}
        points = {name: point for name in prepared.sources if (point := prepared.point(name)) is not None}
        going = [name for name in prepared.sources if name not in points or not points[name].ended]
        for name in going:
            plan = next(s for s in prepared.plan.streams if s.stream == name)
            reader = SourceReader(
                name,
                prepared.sources[name],
                arena=arena,
                clock=self.clock,
                waits=plan.drop_policy == "block",
                paced=plan.paced,
                first_seq=points[name].seq if name in points else 0,
            )
            peers[reader.name] = reader
        writers: dict[str, SinkWriter] = {}
        for name, sinks in self._all_sinks(prepared, going, pictures).items():
            writer = SinkWriter(name, prepared.plan.sinks, sinks, arena=arena, clock=self.clock)
            if _never_waits(prepared, name):
                writers[name] = writer
            else:
                peers[writer.name] = writer
        joining = Joining(
            prepared, lambda name: self._all_sinks(prepared, [name], pictures)[name], arena=arena, clock=self.clock
        )
        peers |= {reader.name: reader for reader in joining.readers()}
        address = f"llamapipe-{os.getpid()}-{id(controller):x}"
        engine = Engine(
            controller,
            arena=arena,
            clock=self.clock,
            make_worker=self._maker(prepared, arena),
            peers=peers,
            close_source=prepared.close_source,
            observer=watcher,
            interrupt=self.interrupt,
            address=f"inproc://{address}",
            # An abstract address: no file is made, and none is left. Anybody on this machine may connect to it, so
            # processes prove with a token that this engine started them.
            process_address=None if prepared.boot is None else f"ipc://@{address}",
            resume=points,
            writers=writers,
            joining=joining.writer,
            changes=changes,
        )
        try:
            with one_thread():
                return engine.run()
        finally:
            joining.close()
            arena.close()

    def _maker(self, prepared: Prepared, arena: LocalArena | SharedArena) -> Callable[[str, int], WorkerPeer]:
        plans = {worker.name: worker for worker in prepared.plan.workers}
        token = secrets.token_hex(16)

        def make(name: str, incarnation: int) -> WorkerPeer:
            identity = f"{name}#{incarnation}"
            if plans[name].kind == "thread":
                return Worker(
                    name,
                    identity=identity,
                    setups=prepared.compiled.setups,
                    streams=prepared.facts,
                    arena=arena,
                    clock=self.clock,
                )
            assert prepared.boot is not None
            assert isinstance(arena, SharedArena)
            boot = msgspec.structs.replace(
                prepared.boot,
                name=name,
                identity=identity,
                token=token,
                fd=arena.memory.fd,
                slot_bytes=arena.memory.slot_bytes,
                streams=boot_streams(prepared.facts),
                cores=plans[name].cores,
            )
            return ProcessWorker(name, boot, self.env)

        return make

    def _all_sinks(
        self, prepared: Prepared, streams: Sequence[str], pictures: PictureStrip
    ) -> Mapping[str, Mapping[str, Sink]]:
        """By stream, by name. Where one cannot be made, none is left behind."""
        made: dict[str, dict[str, Sink]] = {name: {} for name in streams}
        try:
            for name, sinks in made.items():
                self._make_sinks(prepared, name, pictures, sinks)
        except BaseException:
            for sinks in made.values():
                for sink in sinks.values():
                    sink.abort()
            raise
        return made

    def _make_sinks(self, prepared: Prepared, stream_name: str, pictures: PictureStrip, made: dict[str, Sink]) -> None:
        tapped = False
        for plan in prepared.plan.sinks:
            sink = self._sink(prepared, stream_name, plan)
            if not tapped and plan.type != _RESULTS and any(edge.kind == "frames" for edge in plan.inputs):
                sink, tapped = PictureTap(sink, pictures.show), True
            made[plan.name] = sink

    def _sink(self, prepared: Prepared, stream_name: str, plan: SinkPlan) -> Sink:
        if plan.type == _RESULTS:
            assert self.take is not None
            return FunctionSink(self.take, keeps=prepared.boot is not None)
        return SINKS[plan.type].make(prepared.context(stream_name, plan))


def _never_waits(prepared: Prepared, stream: str) -> bool:
    """Whether a stream's sinks are none to wait for: nothing is encoded or sent, nothing brought to the disk."""
    plan = next(s for s in prepared.plan.streams if s.stream == stream)
    light = all((kind := SINKS.get(sink.type)) is not None and kind.light for sink in prepared.plan.sinks)
    return light and not plan.segment_frames


def _num_frames(prepared: Prepared) -> int | None:
    """Of all streams together; None where that of one is not known."""
    counts = [source.info.num_frames for source in prepared.sources.values()]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(prepared.plan.streams) else None


@contextlib.contextmanager
def _event_log(request: RunRequest) -> Iterator[IO[bytes]]:
    """The event log, under its final name once the run is over, however it ends."""
    assert request.output is not None
    pending = PendingFile(request.output / EVENTS_FILE, force=True)  # nobody else writes it meanwhile
    try:
        with writing(pending.path), open(pending.fd, "wb", closefd=False) as file:
            yield file
        pending.commit()
    finally:
        pending.abort()


def _write_reports(
    output: Path, summary: RunSummary, watcher: Watcher, pictures: PictureStrip, prepared: Prepared
) -> RunSummary:
    """Write both; the summary as it is then. What cannot be written fails the run, and hides no earlier reason."""
    try:
        write_run_json(output / SUMMARY_FILE, summary)
        write_report_html(
            output / REPORT_FILE,
            summary,
            trace=watcher.trace,
            latency=watcher.latency,
            pictures=pictures,
            graph=tree(prepared.compiled.spec),
        )
    except OutputError as error:
        failed = msgspec.structs.replace(summary, outcome="failed", exit_code=error.exit_code)
        if summary.error is None:
            failed = msgspec.structs.replace(failed, error=error.message)
        else:
            failed = msgspec.structs.replace(failed, notes=[*summary.notes, error.message])
        with contextlib.suppress(OutputError):  # what it says must not be that all went well
            write_run_json(output / SUMMARY_FILE, failed)
        return failed
    return summary
