"""Watches a run for its progress, its report and its event log."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO

from llamapipe.control import Controller, SinkAccount, encode_entry, encode_plan
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.report import ConfigurationChange, CoresHeld, LatencyTrace, Span, StageRuns, TraceRecorder
from llamapipe.runtime import Arena, Observer, StreamPoint
from llamapipe.session.costs import CostMeter
from llamapipe.session.governor import Governor
from llamapipe.session.keeper import Keeper
from llamapipe.session.leaving import Leaving
from llamapipe.session.objective import Objective
from llamapipe.session.observing import Observations
from llamapipe.session.quarantine import Quarantiner
from llamapipe.session.request import Progress
from llamapipe.session.stage_times import StageTimes
from llamapipe.session.stage_work import StageWork
from llamapipe.wire import Done, ItemInputs

__all__ = ["StageWatch", "Watcher"]

_LOG = logging.getLogger(__name__)
_PROGRESS_EVERY_S = 0.1


@dataclass(slots=True)
class StageWatch:
    """What one stage did."""

    items: int = 0
    invocations: int = 0
    failed: int = 0
    busy_s: float = 0.0
    latency: LatencyTrace = field(default_factory=LatencyTrace)  # of invocations
    load_s: list[float] = field(default_factory=list)  # a replica each
    served: dict[int, list[float]] = field(default_factory=dict)  # candidate -> [items, invocations, busy_s]

    def cost(self, rates: Sequence[float]) -> float:
        """Of all invocations, at ``rates`` a second by candidate; what earlier processes did, at the first one's."""
        known_s = sum(busy_s for _, _, busy_s in self.served.values())
        before = max(0.0, self.busy_s - known_s) * rates[0]
        return before + sum(busy_s * rates[choice] for choice, (_, _, busy_s) in self.served.items())


class Watcher(Observer):
    """Told by the engine; asked by the session."""

    def __init__(
        self,
        controller: Controller,
        *,
        started_s: float,
        waited_s: float = 0.0,
        num_frames: int | None,
        objective: Objective,
        on_progress: Callable[[Progress], None] | None,
        log: IO[bytes] | None,
        costs: CostMeter | None = None,
        quarantiner: Quarantiner | None = None,
        keeper: Keeper | None = None,
        governor: Governor | None = None,
    ) -> None:
        self._controller = controller
        self.started_s = started_s
        self.waited_s = waited_s  # before that, since the user asked
        # Charts have one axis for all processes that a run took: this one's part comes after the earlier ones'.
        self._zero_s = started_s - (keeper.first.tallies.wall_s if keeper is not None else 0.0)
        self._num_frames = num_frames
        self._objective = objective
        self._on_progress = on_progress
        self._log = log
        self.costs = costs
        self.joined_s: dict[str, float] = {}  # by stream that was awaited: when it was there, from ``started_s``
        self.in_time = 0  # frames delivered within the objective
        self.times = StageTimes(controller.plan, started_s) if controller.plan.latency_slo_s is not None else None
        self.observations = Observations(controller.plan)
        self.unkept_profiles = ""
        self._quarantiner = quarantiner
        self._keeper = keeper
        self.governor = governor
        self._unkept: set[str] = set()  # stages that cannot say what they remember
        self._lost: Counter[str] = Counter()
        self._forgotten: list[str] = []
        self.changes: list[ConfigurationChange] = []  # of how stages are run
        self._sinks = [sink.name for sink in controller.plan.sinks]
        self.leaving = Leaving(len(self._sinks), self._left)
        self._just_left: list[tuple[float, float]] = []  # when, and latency: what the governor was not told of yet
        self._streams = [stream.stream for stream in controller.plan.streams]
        self._next_progress_s = 0.0
        self._missing = len(controller.plan.stages) * len(controller.plan.workers)
        self._first_pts_s: dict[str, float] = {}
        self._last_pts_s: dict[str, float] = {}
        self.first_dispatch_s: float | None = None
        self.first_delivered_s: float | None = None
        self.last_delivered_s: float | None = None
        self.last_of: dict[str, float] = {}  # by stream: when its last frame was delivered
        self.latency = LatencyTrace()
        self.trace = TraceRecorder()
        self.stages = {stage.name: StageWatch() for stage in controller.plan.stages}
        self._work: dict[str, StageWork] = {}  # by stage, where checkpoints are kept
        self.running_before_s = 0.0  # of the processes that this one goes on for
        if keeper is not None:
            self.running_before_s = keeper.first.tallies.running_s
            tallies = keeper.first.tallies.stages
            for name, tally in tallies.items():
                self.stages[name] = StageWatch(tally.items, tally.invocations, tally.failed, tally.busy_s)
            points = {
                stream.stream: stream.resume.seq if stream.resume is not None else 0
                for stream in controller.plan.streams
                if stream.segment_frames
            }
            self._work = {name: StageWork(tallies.get(name), points) for name in self.stages}
        self._done_before = self.num_done
        if log is not None:
            log.write(encode_plan(controller.plan) + b"\n")

    def event(self, event: ev.Event, now_s: float, actions: Sequence[act.Action]) -> None:
        """See `Observer`."""
        if self._log is not None:
            self._log.write(encode_entry(now_s, event, actions) + b"\n")
        if self.costs is not None:
            self.costs.event(event, now_s, actions)
        if self.governor is not None:
            self.governor.event(event, now_s)
        for action in actions:
            if isinstance(action, act.Changed):
                self._changed(action, now_s)
            elif isinstance(action, act.Deliver):
                self.leaving.ended(action)
            elif isinstance(action, act.Release):
                self.leaving.released(action.stream, action.seq)
                if self.times is not None:
                    self.times.released(action.stream, action.seq)
            elif isinstance(action, act.Finish) and self.governor is not None:
                self.governor.end(self.num_done)
        if self._just_left:  # a sink that they are kept from was the last to say so
            self._tell_governor()
        if isinstance(event, ev.FramesArrived):
            self._first_pts_s.setdefault(event.stream, event.pts_s[0])
            self._last_pts_s[event.stream] = max(event.pts_s)
            if self.times is not None:
                self.times.arrived(event.stream, event.first_seq, event.captured_at_s)
        elif isinstance(event, ev.StreamOpened):
            self.joined_s[event.stream] = now_s - self.started_s
        elif isinstance(event, ev.WorkerLost):
            self._lost[event.reason] += 1
        elif isinstance(event, ev.StateCaptured) and not event.kept:
            self._unkept.add(event.stage)

    def _changed(self, action: act.Changed, now_s: float) -> None:
        plans = {stage.name: stage for stage in self._controller.plan.stages}
        runs: list[StageRuns] = []
        for setting in action.settings:
            configuration = plans[setting.stage].choice(setting.choice)
            variant = None if configuration.variant is None else configuration.variant.name
            holds = setting.holds and plans[setting.stage].hold_unless is not None
            runs.append(StageRuns(setting.stage, variant, configuration.batch, setting.sample_fps, holds))
        frame = max(self._controller.ledger.decoded.values(), default=0)
        self.changes.append(ConfigurationChange(now_s - self.started_s, frame, action.why, runs, action.error))

    def checkpoint(self, stream: str, point: StreamPoint, now_s: float) -> None:
        """See `Observer`."""
        if self._keeper is not None:
            running_s = self.running_before_s + (now_s - (self.first_dispatch_s or now_s))
            for work in self._work.values():
                work.passed(stream, point.seq)
            stages = {name: work.tally() for name, work in self._work.items()}
            reserved_s = self.costs.reserved_s(now_s) if self.costs is not None else {}
            self._keeper.checkpoint(stream, point, running_s, stages, reserved_s)

    def quarantined(self, action: act.Quarantine, item: ItemInputs, arena: Arena) -> None:
        """See `Observer`."""
        if self._quarantiner is not None:
            try:
                self._quarantiner.keep(action, item, arena)
            except Exception as error:  # the item may be what nobody can read: it is no reason to end the run
                _LOG.warning("item %d of %s could not be kept: %s", action.seq, action.stream, error)

    def forgotten(self, stage: str, stream: str, reason: str) -> None:
        """See `Observer`."""
        self._forgotten.append(f"stage {stage} began stream {stream} anew in the middle: {reason}")

    @property
    def num_lost(self) -> int:
        """Workers that were lost."""
        return self._lost.total()

    @property
    def notes(self) -> list[str]:
        """What a user should know of a run that went on all the same."""
        lost = [f"{count} workers were lost and replaced: {reason}" for reason, count in self._lost.items()]
        files = self._quarantiner.files if self._quarantiner is not None else []
        kept = (
            [f"{len(files)} items are kept in {files[0].parent}; see: llamapipe reproduce {files[0]}"] if files else []
        )
        lost = [note.replace("1 workers were", "1 worker was") for note in lost]
        unkept = [
            f"had it been killed, the run could not have been gone on with: stage {stage} gives no snapshot"
            for stage in sorted(self._unkept)
        ]
        profiles = [self.unkept_profiles] if self.unkept_profiles else []
        return [
            *lost,
            *self._forgotten,
            *unkept,
            *kept,
            *profiles,
            *(self._keeper.notes if self._keeper is not None else ()),
        ]

    def loaded(self, stage: str, worker: str, load_s: float, variant: str | None) -> None:
        """See `Observer`."""
        self.stages[stage].load_s.append(load_s)
        self._missing -= 1

    def invocation(self, dispatch: act.Dispatch, done: Done) -> None:
        """See `Observer`."""
        stage = self.stages[dispatch.stage]
        busy_s = done.ended_s - done.started_s
        failures = {i for i, outputs in enumerate(done.items) if outputs.count == ev.FAILED_ITEM}
        failed = len(failures)
        if self._work:
            self._work[dispatch.stage].did(dispatch.items, failures, busy_s)
        stage.items += len(done.items)
        stage.invocations += 1
        stage.failed += failed
        stage.busy_s += busy_s
        served = stage.served.setdefault(dispatch.choice, [0, 0, 0.0])
        served[0] += len(done.items)
        served[1] += 1
        served[2] += busy_s
        stage.latency.add(done.ended_s - self._zero_s, busy_s)
        if self.times is not None:
            self.times.done(dispatch.stage, dispatch.items, done.ended_s)
        self.observations.saw(dispatch, done, failed)
        if self.first_dispatch_s is None:
            self.first_dispatch_s = done.started_s
        self.trace.add(
            Span(
                dispatch.worker,
                dispatch.stage,
                done.started_s - self._zero_s,
                done.ended_s - self._zero_s,
                len(done.items),
                dispatch.items[0][1],
                failed,
                dispatch.choice,
            )
        )

    def delivered(self, stream: str, sink: str, latencies: Sequence[tuple[float, float]]) -> None:
        """See `Observer`. A frame counts once, with the latency of the last sink that it is for."""
        self.leaving.taken(stream, sink, latencies)
        self._tell_governor()

    def _left(self, stream: str, at_s: float, latency_s: float) -> None:
        self.latency.add(at_s - self._zero_s, latency_s)
        self.in_time += self._is_in_time(at_s, latency_s)
        self._just_left.append((at_s, latency_s))
        if self.first_delivered_s is None:
            self.first_delivered_s = at_s
        self.last_delivered_s = at_s if self.last_delivered_s is None else max(self.last_delivered_s, at_s)
        self.last_of[stream] = max(self.last_of.get(stream, at_s), at_s)

    def _tell_governor(self) -> None:
        if self._just_left and self.governor is not None:
            self.governor.delivered(self._just_left)
        self._just_left.clear()

    def _is_in_time(self, at_s: float, latency_s: float) -> bool:
        slo, bound = self._objective.slo, self._objective.quantile
        if bound is not None:
            return latency_s <= bound[1]
        return (
            slo is not None and slo.deadline_s is not None and self.waited_s + at_s - self.started_s <= slo.deadline_s
        )

    def poll(self, now_s: float) -> None:
        """See `Observer`."""
        if self.governor is not None and now_s >= self.governor.next_s and self.first_delivered_s is not None:
            self.governor.poll(now_s, self.num_done, self._most(lambda account: sum(account.dropped.values())))
        if self._on_progress is not None and now_s >= self._next_progress_s:
            self._next_progress_s = now_s + _PROGRESS_EVERY_S
            self._on_progress(self.progress(now_s))

    @property
    def cores(self) -> list[CoresHeld]:
        """On how many the run was held, and from when on."""
        return self.governor.held if self.governor is not None else []

    @property
    def num_done(self) -> int:
        """Frames that are through at every sink, however they ended."""
        accounts = self._controller.ledger.accounts
        return sum(min(accounts[stream, sink].total for sink in self._sinks) for stream in self._streams)

    def _most(self, of: Callable[[SinkAccount], int]) -> int:
        """Frames of all streams, each at the sink that has the most of them."""
        accounts = self._controller.ledger.accounts
        return sum(max(of(accounts[stream, sink]) for sink in self._sinks) for stream in self._streams)

    def progress(self, now_s: float, state: str | None = None) -> Progress:
        """The run at this moment."""
        done = self.num_done
        begun_s = self.first_dispatch_s if self.first_dispatch_s is not None else now_s
        running_s = max(1e-9, now_s - begun_s)
        fps = (done - self._done_before) / running_s if done else 0.0
        shown_s = sum(last_s - self._first_pts_s[stream] for stream, last_s in self._last_pts_s.items())
        judged = self._objective.slo is not None and not self._objective.unjudged
        bound = self._objective.quantile
        value = self.latency.quantile(bound[0]) if bound is not None and judged else None
        dropped = self._most(lambda account: sum(account.dropped.values()))
        failed = self._most(lambda account: sum(account.failed.values()))
        worked = max(0, done - dropped - failed) / done if done else 0.0
        left = None if self._num_frames is None else max(0, self._num_frames - done)
        # What a frame is of its stream's time goes by those that came: more than are through, and as far apart.
        came = sum(self._controller.ledger.decoded[stream] - 1 for stream in self._last_pts_s)
        frame_s = shown_s / came / len(self._last_pts_s) if came > 0 else 0.0
        return Progress(
            state=state or ("loading" if self.first_dispatch_s is None else "running"),
            frames_done=done,
            frames_total=self._num_frames,
            fps=fps,
            x_realtime=worked * fps * frame_s if done and frame_s else None,
            p95_ms=None if value is None else value * 1000,
            slo=self._objective.text or None,
            dropped=dropped,
            failed=failed,
            eta_s=left / fps if left is not None and fps else None,
            elapsed_s=now_s - self.started_s,
        )
