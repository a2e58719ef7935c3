"""Drives control in virtual time: workers, sources and sinks are a heap of future events."""

from __future__ import annotations

import gc
import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from msgspec.structs import replace

from llamapipe.control import Controller, Ledger, RunPlan
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.control.plan import replica_name
from llamapipe.errors import LlamapipeError
from llamapipe.sim.cores import SharedCores
from llamapipe.sim.profile import Moment, Moments, SourceTrace, World

__all__ = ["Meter", "SimResult", "simulate"]


class Meter(Protocol):
    """Is told what a simulation should be judged by. Times in virtual seconds."""

    def invocation(self, dispatch: act.Dispatch, start_s: float, busy_s: float) -> None:
        """A worker has begun an invocation, which will take so long if nobody disturbs it."""
        ...

    def delivered(self, stream: str, seq: int, captured_at_s: float, now_s: float) -> None:
        """A sink has written a frame."""
        ...

    def worker(self, worker: str, now_s: float, *, up: bool) -> None:
        """A worker is there from now on, or no more."""
        ...


@dataclass(slots=True)
class SimResult:
    """A simulated run. Times in virtual seconds since its start."""

    outcome: str
    reason: str
    ledger: Ledger
    wall_s: float
    num_invocations: int
    num_events: int
    busy_s: dict[str, float]  # by worker
    latencies_s: list[float]  # of delivered frames, from capture to commit at the first sink, in order of commit
    decided: Mapping[str, Mapping[tuple[int, str], int]] = field(default_factory=dict)  # see `Controller.decided`


@dataclass(slots=True)
class _Source:
    trace: SourceTrace
    first: int = 0  # number of the trace's first frame: above 0 in a run that goes on with another
    next: int = 0
    credits: int = 0
    free_at_s: float = 0.0
    stopped: bool = False
    ended: bool = False
    begun_s: float = 0.0  # what the trace's times count from
    granted: bool = False
    reading: bool = False  # a frame is being decoded on shared cores


@dataclass(slots=True)
class _Task:
    """Something that is being done on shared cores, and what happens when it is done."""

    events: list[ev.Event]
    line: str = ""  # that it is the first of
    source: str = ""  # that reads a frame
    weight: float = 1.0
    owner: tuple[str, int] | None = None


@dataclass(slots=True)
class _Line:
    """Tasks that are done one after another: a worker's, a sink's."""

    waiting: deque[tuple[float, _Task]] = field(default_factory=deque)
    busy: bool = False


@dataclass(slots=True)
class _Sim:
    controller: Controller
    world: World
    result: SimResult
    meter: Meter | None
    keep_latencies: bool
    now_s: float = 0.0
    heap: list[tuple[float, float, int, ev.Event]] = field(default_factory=list)
    order: count[int] = field(default_factory=count)
    worker_free_s: dict[str, float] = field(default_factory=dict)
    sink_free_s: dict[str, float] = field(default_factory=dict)
    sources: dict[str, _Source] = field(default_factory=dict)
    captured: dict[tuple[str, int], float] = field(default_factory=dict)
    cores: SharedCores | None = None
    lines: dict[str, _Line] = field(default_factory=dict)
    incarnations: dict[str, int] = field(default_factory=dict)
    owners: dict[int, tuple[str, int]] = field(default_factory=dict)  # entry in the heap -> (worker, incarnation)
    awaited: set[tuple[str, str, int]] = field(default_factory=set)  # frames that a sink is writing
    first_sink: str = ""

    def later(self, at_s: float, event: ev.Event, owner: tuple[str, int] | None = None) -> None:
        """Let an event happen, unless its owner dies before."""
        order = next(self.order)
        heapq.heappush(self.heap, (at_s, math.inf, order, event))
        if owner is not None:
            self.owners[order] = owner

    def as_recorded(self, moment: Moment | None, event: ev.Event) -> None:
        """Let an event happen when it did; None: it never did."""
        if moment is not None:
            heapq.heappush(self.heap, (max(self.now_s, moment[0]), moment[1], next(self.order), event))

    # -- sources ------------------------------------------------------------------------------------------------

    def begin(self, stream: str) -> None:
        """Let a source that keeps time send its first frame."""
        source = self.sources[stream]
        if source.trace.paced and self.world.moments is None and not source.trace.begins_when_granted:
            self.next_paced(stream)

    def next_paced(self, stream: str) -> None:
        """Bring on the next frame of a source that keeps time; one at a time, however long it will be."""
        source = self.sources[stream]
        if source.ended:
            return
        trace = source.trace
        if source.next < len(trace.pts_s):
            at_s = source.begun_s + trace.pts_s[source.next]
            delay_s = trace.decode_s if trace.begins_when_granted else 0.0
            self.later(at_s + delay_s, _frame(stream, trace, source.first, source.next, at_s))
            source.next += 1
        else:
            source.ended = True
            last_s = source.begun_s + trace.pts_s[-1] if trace.pts_s else 0.0
            self.later(max(self.now_s, last_s), self._end(stream))

    def _end(self, stream: str) -> ev.Event:
        source = self.sources[stream]
        return ev.StreamEnded(stream, source.first + source.next)

    def pump(self, stream: str) -> None:
        """Let a source that waits for credit read on."""
        source = self.sources[stream]
        trace = source.trace
        if trace.paced or self.world.moments is not None:
            return
        if self.cores is not None:
            if source.credits > 0 and source.next < len(trace.pts_s) and not source.stopped and not source.reading:
                source.credits -= 1
                source.reading = True
                frame = _frame(stream, trace, source.first, source.next, 0.0)
                source.next += 1
                self.cores.add(self.now_s, trace.decode_s, _Task([frame], source=stream))
            ended = source.stopped or source.next == len(trace.pts_s)
            if ended and not source.ended and not source.reading:
                source.ended = True
                self.later(self.now_s, self._end(stream))
            return
        while source.credits > 0 and source.next < len(trace.pts_s) and not source.stopped:
            source.credits -= 1
            source.free_at_s = max(source.free_at_s, self.now_s) + trace.decode_s
            self.later(source.free_at_s, _frame(stream, trace, source.first, source.next, source.free_at_s))
            source.next += 1
        if not source.ended and (source.stopped or source.next == len(trace.pts_s)):
            source.ended = True
            self.later(max(source.free_at_s, self.now_s), self._end(stream))

    def stop_source(self, stream: str) -> None:
        source = self.sources[stream]
        source.stopped = True
        if source.trace.paced and not source.ended and self.world.moments is None:
            source.ended = True
            waiting = [entry for entry in self.heap if _of_source(entry[3], stream)]
            source.next -= len(waiting)
            self.heap = [entry for entry in self.heap if not _of_source(entry[3], stream)]
            heapq.heapify(self.heap)
            self.later(self.now_s, self._end(stream))
        self.pump(stream)

    # -- workers and sinks --------------------------------------------------------------------------------------

    def work(
        self,
        name: str,
        work_s: float,
        events: list[ev.Event],
        weight: float = 1.0,
        owner: tuple[str, int] | None = None,
    ) -> None:
        """Queue a task of a worker or a sink on the shared cores."""
        assert self.cores is not None
        line = self.lines.setdefault(name, _Line())
        task = _Task(events, line=name, weight=weight, owner=owner)
        if line.busy:
            line.waiting.append((work_s, task))
        else:
            line.busy = True
            self.cores.add(self.now_s, work_s, task, weight)

    def task_done(self, task: object) -> None:
        """A task on the shared cores has ended: its events happen now, and whoever it kept waiting begins."""
        assert isinstance(task, _Task)
        for event in task.events:
            if isinstance(event, ev.FramesArrived):
                event = ev.FramesArrived(event.stream, event.first_seq, [self.now_s], event.pts_s)
            self.later(self.now_s, event, task.owner)
        if task.source:
            self.sources[task.source].reading = False
            self.pump(task.source)
            return
        line = self.lines[task.line]
        line.busy = False
        if line.waiting:
            line.busy = True
            work_s, following = line.waiting.popleft()
            assert self.cores is not None
            self.cores.add(self.now_s, work_s, following, following.weight)

    def on_worker(self, worker: str, work_s: float, event: ev.Event, weight: float = 1.0) -> float:
        """Let a worker do something after all that it has to do already; when it begins."""
        owner = worker, self.incarnations.get(worker, 0)
        if self.cores is not None:
            self.work(f"{owner[0]}.{owner[1]}", work_s, [event], weight, owner)
            return self.now_s
        start_s = max(self.now_s, self.worker_free_s.get(worker, 0.0))
        self.worker_free_s[worker] = start_s + work_s
        self.later(start_s + work_s, event, owner)
        return start_s

    def start_worker(self, action: act.StartWorker) -> None:
        worker = action.worker
        self.incarnations[worker] = action.incarnation
        self.worker_free_s[worker] = self.now_s
        self.on_worker(worker, self.world.starting_s(worker), ev.WorkerJoined(worker))
        lives_s = self.world.dies_after_s(worker, action.incarnation)
        if lives_s is not None:
            self.later(self.now_s + lives_s, ev.WorkerLost(worker, "died"), (worker, action.incarnation))
        if self.meter is not None:
            self.meter.worker(worker, self.now_s, up=True)

    def lose_worker(self, worker: str) -> None:
        """It is gone: nothing comes any more of what it was doing."""
        self.incarnations[worker] = -1
        if self.meter is not None:
            self.meter.worker(worker, self.now_s, up=False)

    def answer(self, action: act.Dispatch) -> ev.InvocationDone:
        """What comes of an invocation; the stages of a chain work on what the ones before them gave."""
        first = self.run_stage(action, range(len(action.items)))
        chain: list[ev.Chained] = []
        counts = first.counts
        for stage in action.chain:
            alive = [i for i, count in enumerate(counts) if count >= 0]
            items = [action.items[i] for i in alive]
            replica = replica_name(action.worker, stage)
            part = self.run_stage(replace(action, stage=stage, replica=replica, items=items, chain=()), alive)
            came_out = dict(zip(alive, part.counts, strict=True))
            figures = dict(zip(alive, part.measures, strict=False))
            counts = [came_out.get(i, ev.NOT_RUN) for i in range(len(action.items))]
            measures = [figures.get(i, []) for i in range(len(action.items))] if figures else []
            chain.append(ev.Chained(counts, measures, part.errors, part.busy_s))
        return ev.InvocationDone(
            action.invocation, first.counts, first.measures, first.errors, first.busy_s, chain=chain
        )

    def run_stage(self, action: act.Dispatch, places: Sequence[int]) -> ev.Chained:
        """What comes of one stage's items; ``places`` are theirs in the invocation."""
        if not action.items:
            return ev.Chained([])
        busy_s = self.world.work_s(action, self.now_s)
        outcomes = self.world.outcomes_of(action)
        return ev.Chained(
            [outcome.count for outcome in outcomes],
            [list(o.measures) for o in outcomes] if any(o.measures for o in outcomes) else [],
            {place: o.error for place, o in zip(places, outcomes, strict=True) if o.error},
            busy_s,
        )

    def dispatch(self, action: act.Dispatch) -> None:
        world = self.world
        done = self.answer(action)
        busy_s = done.busy_s + sum(part.busy_s for part in done.chain)
        result = self.result
        result.num_invocations += 1
        result.busy_s[action.worker] = result.busy_s.get(action.worker, 0.0) + busy_s
        if world.moments is not None:
            self.as_recorded(*world.moments.done.get(action.invocation, (None, done)))
            return
        start_s = self.on_worker(action.worker, busy_s, done, world.weight(action))
        if self.meter is not None:
            self.meter.invocation(action, start_s, busy_s)

    def deliver(self, action: act.Deliver) -> None:
        moments = self.world.moments
        committed = ev.Committed(action.stream, action.sink, action.seq)
        sink_s = self.world.sinking_s(action.stream, action.sink, action.seq)
        if moments is not None:  # one commit may have stood for several frames
            free_s = max(self.now_s, self.sink_free_s.get(action.stream, 0.0)) + sink_s
            self.sink_free_s[action.stream] = free_s
            if action.outcome == "delivered" and action.sink == self.first_sink:
                self.result.latencies_s.append(free_s - self.captured[action.stream, action.seq])
            self.as_recorded(moments.committed.get((action.stream, action.sink, action.seq)), committed)
            return
        events: list[ev.Event] = [committed]
        if action.mark:
            events.append(ev.SinkMarked(action.stream, action.sink, action.seq + 1))
        if action.outcome == "delivered":
            self.awaited.add((action.stream, action.sink, action.seq))
        if self.cores is not None:
            self.work(f"sink {action.stream}", sink_s if action.outcome == "delivered" else 0.0, events)
            return
        free_s = max(self.now_s, self.sink_free_s.get(action.stream, 0.0)) + sink_s
        self.sink_free_s[action.stream] = free_s
        for event in events:
            self.later(free_s, event)

    def commits(self, event: ev.Committed) -> None:
        """A frame has left the pipeline."""
        key = (event.stream, event.sink, event.seq)
        if key not in self.awaited:  # it was dropped, or has failed
            return
        self.awaited.discard(key)
        if event.sink != self.first_sink:  # a frame's latency is that of the first; every sink's would count it twice
            return
        captured_s = self.captured[event.stream, event.seq]
        if self.keep_latencies:
            self.result.latencies_s.append(self.now_s - captured_s)
        if self.meter is not None:
            self.meter.delivered(event.stream, event.seq, captured_s, self.now_s)

    def carry_out(self, action: act.Action) -> None:
        moments = self.world.moments
        match action:
            case act.Dispatch():
                self.dispatch(action)
            case act.Deliver():
                self.deliver(action)
            case act.Release():
                self.captured.pop((action.stream, action.seq), None)
            case act.Grant():
                source = self.sources[action.stream]
                source.credits += action.credits
                if source.trace.begins_when_granted and not source.granted:
                    source.granted, source.begun_s = True, self.now_s
                    self.next_paced(action.stream)
                self.pump(action.stream)
            case act.StartWorker() | act.KillWorker() | act.Restore() | act.Capture() if moments is not None:
                pass  # what came of it is among the events from outside
            case act.StartWorker():
                self.start_worker(action)
            case act.KillWorker():
                self.later(self.now_s, ev.WorkerLost(action.worker, action.reason))
            case act.StopWorker():
                if self.meter is not None:
                    self.meter.worker(action.worker, self.now_s, up=False)
            case act.Restore():
                self.on_worker(action.worker, 0.0, ev.StateRestored(action.stage, action.stream, action.worker))
            case act.Capture():
                self.on_worker(action.worker, 0.0, ev.StateCaptured(action.stage, action.stream, action.seq))
            case act.Load():
                load_s = self.world.loading_s(action.worker, action.stage, action.choice)
                loaded = ev.ReplicaLoaded(action.replica, load_s)
                if moments is not None:
                    self.as_recorded(moments.loaded.get(action.replica), loaded)
                else:
                    self.on_worker(action.worker, load_s, loaded)
            case act.StopSource():
                self.stop_source(action.stream)
            case act.CloseStream():
                closed = ev.StreamClosed(action.stream)
                if moments is not None:
                    self.as_recorded(moments.closed.get(action.stream), closed)
                elif self.cores is not None:
                    self.work(f"sink {action.stream}", 0.0, [closed])
                else:
                    self.later(max(self.now_s, self.sink_free_s.get(action.stream, 0.0)), closed)
            case act.Finish():
                self.result.outcome, self.result.reason = action.outcome, action.reason
                self.result.wall_s = self.now_s

    # -- the loop -----------------------------------------------------------------------------------------------

    def next_event(self) -> ev.Event | None:
        """The next thing that happens, at `now_s`; None where nothing does."""
        while True:
            due_s = self.controller.next_deadline_s() if self.world.moments is None else None
            heap_s = self.heap[0][0] if self.heap else math.inf
            task_s = self.cores.next_s() if self.cores is not None else None
            if task_s is not None and task_s < heap_s and (due_s is None or task_s <= due_s):
                assert self.cores is not None
                self.now_s = max(self.now_s, task_s)
                self.task_done(self.cores.pop(self.now_s))
                continue
            if due_s is not None and due_s < heap_s:
                self.now_s = max(self.now_s, due_s)
                return ev.Tick()
            if not self.heap:
                return None
            self.now_s, _, order, event = heapq.heappop(self.heap)
            owner = self.owners.pop(order, None)
            if owner is not None and self.incarnations.get(owner[0], 0) != owner[1]:
                continue  # whoever was doing it is dead
            return event

    def note(self, event: ev.Event) -> None:
        """What is kept of an event before control hears of it."""
        if isinstance(event, ev.FramesArrived):
            for i, at_s in enumerate(event.captured_at_s):
                self.captured[event.stream, event.first_seq + i] = at_s
        elif isinstance(event, ev.FrameUndecodable):
            self.captured[event.stream, event.seq] = self.now_s
        elif isinstance(event, ev.Committed) and self.world.moments is None:
            self.commits(event)
        elif isinstance(event, ev.WorkerLost) and self.world.moments is None:
            self.lose_worker(event.worker)


def _frame(stream: str, trace: SourceTrace, first: int, index: int, at_s: float) -> ev.Event:
    seq = first + index
    reason = trace.undecodable.get(seq)
    if reason is not None:
        return ev.FrameUndecodable(stream, seq, reason, trace.pts_s[index])
    return ev.FramesArrived(stream, seq, [at_s], [trace.pts_s[index]])


def _from_outside(sim: _Sim, moments: Moments) -> None:
    for moment, event in moments.outside:
        sim.as_recorded(moment, event)


def _of_source(event: ev.Event, stream: str) -> bool:
    return isinstance(event, ev.FramesArrived | ev.FrameUndecodable) and event.stream == stream


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Nothing in a simulation refers to itself: the garbage collector would only walk over all that is in flight."""
    at_work = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if at_work:
            gc.enable()


def simulate(
    plan: RunPlan,
    world: World,
    *,
    observe: Callable[[float, ev.Event, list[act.Action]], None] | None = None,
    meter: Meter | None = None,
    keep_latencies: bool = True,
) -> SimResult:
    """Run ``plan`` in the given world.

    Raises LlamapipeError where nothing is left to happen and the run is not over: a deadlock, hence a bug.
    """
    controller = Controller(plan)
    result = SimResult("", "", controller.ledger, 0.0, 0, 0, {}, [], controller.decided)
    sim = _Sim(controller, world, result, meter, keep_latencies, first_sink=plan.sinks[0].name if plan.sinks else "")
    if world.cores is not None:
        sim.cores = SharedCores(world.cores)
    for stream in plan.streams:
        first = stream.resume.seq if stream.resume is not None else 0
        sim.sources[stream.stream] = _Source(world.trace(stream.stream), first)
        sim.begin(stream.stream)
    if world.moments is not None:
        _from_outside(sim, world.moments)
    else:
        sim.later(0.0, ev.Start())
        for awaited in plan.streams:
            if awaited.awaited:  # a world without moments says what comes, not when
                sim.later(0.0, ev.StreamOpened(awaited.stream, awaited.drop_policy, awaited.max_pending, awaited.paced))
    with _collector_at_rest():
        while not result.outcome:
            event = sim.next_event()
            if event is None:
                raise LlamapipeError("the simulation stopped before the run was over: nothing is left to happen")
            sim.note(event)
            result.num_events += 1
            actions = controller.step(event, sim.now_s)
            if observe is not None:
                observe(sim.now_s, event, actions)
            for action in actions:
                sim.carry_out(action)
            arrives = isinstance(event, ev.FramesArrived | ev.FrameUndecodable) and world.moments is None
            if arrives and sim.sources[event.stream].trace.paced:  # type: ignore[union-attr]  # narrowed by `arrives`
                sim.next_paced(event.stream)  # type: ignore[union-attr]  # as above
    return result
