"""Drives control in virtual time: workers, sources and sinks are a heap of future events."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from llamapipe.control import Controller, Ledger, RunPlan
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.control.plan import choice_name
from llamapipe.errors import LlamapipeError
from llamapipe.sim.profile import Moment, Moments, SourceTrace, WorldProfile

__all__ = ["SimResult", "simulate"]


@dataclass(slots=True)
class SimResult:
    """A simulated run. Times in virtual seconds since its start."""

    outcome: str
    reason: str
    ledger: Ledger
    wall_s: float
    num_invocations: int
    busy_s: dict[str, float]  # by worker
    latencies_s: list[float]  # of delivered frames, from capture to commit at a sink, in order of commit


@dataclass(slots=True)
class _Source:
    trace: SourceTrace
    first: int = 0  # number of the trace's first frame: above 0 in a run that goes on with another
    next: int = 0
    credits: int = 0
    free_at_s: float = 0.0
    stopped: bool = False
    ended: bool = False


@dataclass(slots=True)
class _Sim:
    controller: Controller
    profile: WorldProfile
    now_s: float = 0.0
    heap: list[tuple[float, float, int, ev.Event]] = field(default_factory=list)
    order: count[int] = field(default_factory=count)
    worker_free_s: dict[str, float] = field(default_factory=dict)
    sink_free_s: dict[str, float] = field(default_factory=dict)
    sources: dict[str, _Source] = field(default_factory=dict)
    captured: dict[tuple[str, int], float] = field(default_factory=dict)
    result: SimResult | None = None

    def later(self, at_s: float, event: ev.Event) -> None:
        heapq.heappush(self.heap, (at_s, math.inf, next(self.order), event))

    def as_recorded(self, moment: Moment | None, event: ev.Event) -> None:
        """Let an event happen when it did; None: it never did."""
        if moment is not None:
            heapq.heappush(self.heap, (max(self.now_s, moment[0]), moment[1], next(self.order), event))

    def pump(self, stream: str) -> None:
        """Let a source that waits for credit read on."""
        source = self.sources[stream]
        trace = source.trace
        if trace.paced or self.profile.moments is not None:
            return
        while source.credits > 0 and source.next < len(trace.pts_s) and not source.stopped:
            source.credits -= 1
            source.free_at_s = max(source.free_at_s, self.now_s) + trace.decode_s
            self.later(source.free_at_s, _frame(stream, trace, source.first, source.next, source.free_at_s))
            source.next += 1
        if not source.ended and (source.stopped or source.next == len(trace.pts_s)):
            source.ended = True
            self.later(max(source.free_at_s, self.now_s), ev.StreamEnded(stream, source.first + source.next))

    def carry_out(self, action: act.Action) -> None:
        moments = self.profile.moments
        match action:
            case act.Dispatch():
                fixed_s, item_s = self.profile.service_s.get(choice_name(action.stage, action.choice), (0.0, 0.0))
                busy_s = fixed_s + item_s * len(action.items)
                start_s = max(self.now_s, self.worker_free_s.get(action.worker, 0.0))
                self.worker_free_s[action.worker] = start_s + busy_s
                assert self.result is not None
                self.result.num_invocations += 1
                self.result.busy_s[action.worker] = self.result.busy_s.get(action.worker, 0.0) + busy_s
                outcomes = [self.profile.outcome(action.stage, *item) for item in action.items]
                done = ev.InvocationDone(
                    action.invocation,
                    [outcome.count for outcome in outcomes],
                    [list(o.measures) for o in outcomes] if any(o.measures for o in outcomes) else [],
                    {i: o.error for i, o in enumerate(outcomes) if o.error},
                    busy_s,
                )
                if moments is not None:
                    self.as_recorded(*moments.done.get(action.invocation, (None, done)))
                else:
                    self.later(start_s + busy_s, done)
            case act.StartWorker() | act.KillWorker() | act.Restore() | act.Capture() if moments is not None:
                pass  # what came of it is among the events from outside
            case act.StartWorker():
                self.worker_free_s[action.worker] = self.now_s + self.profile.start_s
                self.later(self.now_s + self.profile.start_s, ev.WorkerJoined(action.worker))
            case act.KillWorker():
                self.later(self.now_s, ev.WorkerLost(action.worker, action.reason))
            case act.Restore():
                free_s = max(self.now_s, self.worker_free_s.get(action.worker, 0.0))
                self.later(free_s, ev.StateRestored(action.stage, action.stream, action.worker))
            case act.Capture():
                free_s = max(self.now_s, self.worker_free_s.get(action.worker, 0.0))
                self.later(free_s, ev.StateCaptured(action.stage, action.stream, action.seq))
            case act.Load():
                start_s = max(self.now_s, self.worker_free_s.get(action.worker, 0.0))
                load_s = self.profile.load_s.get(choice_name(action.stage, action.choice), 0.0)
                self.worker_free_s[action.worker] = start_s + load_s
                loaded = ev.ReplicaLoaded(action.replica, load_s)
                if moments is not None:
                    self.as_recorded(moments.loaded.get(action.replica), loaded)
                else:
                    self.later(start_s + load_s, loaded)
            case act.Deliver():
                free_s = max(self.now_s, self.sink_free_s.get(action.stream, 0.0)) + self.profile.sink_s
                self.sink_free_s[action.stream] = free_s
                if action.outcome == "delivered" and self.result is not None:
                    self.result.latencies_s.append(free_s - self.captured[action.stream, action.seq])
                committed = ev.Committed(action.stream, action.sink, action.seq)
                if moments is not None:  # one commit may have stood for several frames
                    self.as_recorded(moments.committed.get((action.stream, action.sink, action.seq)), committed)
                else:
                    self.later(free_s, committed)
                    if action.mark:
                        self.later(free_s, ev.SinkMarked(action.stream, action.sink, action.seq + 1))
            case act.Grant():
                self.sources[action.stream].credits += action.credits
                self.pump(action.stream)
            case act.StopSource():
                source = self.sources[action.stream]
                source.stopped = True
                if source.trace.paced and not source.ended and moments is None:
                    source.ended = True
                    self.heap = [e for e in self.heap if not _of_source(e[3], action.stream)]
                    heapq.heapify(self.heap)
                    self.later(self.now_s, ev.StreamEnded(action.stream, source.first + source.next))
                self.pump(action.stream)
            case act.CloseStream():
                at_s = max(self.now_s, self.sink_free_s.get(action.stream, 0.0))
                if moments is not None:
                    self.as_recorded(moments.closed.get(action.stream), ev.StreamClosed(action.stream))
                else:
                    self.later(at_s, ev.StreamClosed(action.stream))
            case act.Finish():
                assert self.result is not None
                self.result.outcome, self.result.reason = action.outcome, action.reason
                self.result.wall_s = self.now_s
                self.heap.clear()
            case act.Release():
                self.captured.pop((action.stream, action.seq), None)


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
    ours = isinstance(event, ev.FramesArrived | ev.FrameUndecodable | ev.StreamEnded)
    return ours and event.stream == stream  # type: ignore[union-attr]  # narrowed by `ours`


def simulate(
    plan: RunPlan, profile: WorldProfile, *, observe: Callable[[float, ev.Event, list[act.Action]], None] | None = None
) -> SimResult:
    """Run ``plan`` in the world that ``profile`` describes.

    Raises LlamapipeError where nothing is left to happen and the run is not over: a deadlock, hence a bug.
    """
    sim = _Sim(Controller(plan), profile)
    sim.result = SimResult("", "", sim.controller.ledger, 0.0, 0, {}, [])
    for stream in plan.streams:
        trace = profile.sources[stream.stream]
        sim.sources[stream.stream] = source = _Source(trace, stream.resume.seq if stream.resume is not None else 0)
        if trace.paced and profile.moments is None:
            source.next = len(trace.pts_s)
            for index, at_s in enumerate(trace.pts_s):
                sim.later(at_s, _frame(stream.stream, trace, source.first, index, at_s))
            sim.later(trace.pts_s[-1] if trace.pts_s else 0.0, ev.StreamEnded(stream.stream, len(trace.pts_s)))
    if profile.moments is not None:
        _from_outside(sim, profile.moments)
    else:
        sim.later(0.0, ev.Start())
    event: ev.Event
    while not sim.result.outcome:
        due_s = sim.controller.next_deadline_s() if profile.moments is None else None
        if not sim.heap and due_s is None:
            break
        if due_s is not None and (not sim.heap or due_s < sim.heap[0][0]):
            sim.now_s, event = max(sim.now_s, due_s), ev.Tick()
        else:
            sim.now_s, _, _, event = heapq.heappop(sim.heap)
        if isinstance(event, ev.FramesArrived):
            for i, at_s in enumerate(event.captured_at_s):
                sim.captured[event.stream, event.first_seq + i] = at_s
        elif isinstance(event, ev.FrameUndecodable):
            sim.captured[event.stream, event.seq] = sim.now_s
        actions = sim.controller.step(event, sim.now_s)
        if observe is not None:
            observe(sim.now_s, event, actions)
        for action in actions:
            sim.carry_out(action)
    if not sim.result.outcome:
        raise LlamapipeError("the simulation stopped before the run was over: nothing is left to happen")
    return sim.result
