"""The state machine that decides: ``step(event, now_s) -> actions``.

It reads no clock and touches nothing outside: the live engine and the simulator drive the very same object, and a log
of its events replays to the same actions. This module has the frames: how they come in, in what order they leave, when
they are released. Who works on them is `llamapipe.control.dispatch`'s, who is there `llamapipe.control.workforce`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import msgspec

from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.control.changes import Changes
from llamapipe.control.checkpoints import Checkpointer
from llamapipe.control.dataflow import ENDED_BADLY, Dataflow, FrameRecord, Topology
from llamapipe.control.dispatch import Dispatcher
from llamapipe.control.ledger import Ledger, SinkAccount
from llamapipe.control.lifecycle import RUN, ItemState, LinkState, Machine, RunState
from llamapipe.control.plan import RunPlan, replica_parts
from llamapipe.control.queues import Sampler, Sequencer
from llamapipe.control.streams import Cursor, StreamState
from llamapipe.control.timers import Timers
from llamapipe.control.workforce import Workforce
from llamapipe.errors import LedgerError

__all__ = ["Controller"]


_SERVING = (RunState.RUNNING, RunState.DEGRADED)
_ENDED = (RunState.DONE, RunState.FAILED, RunState.CANCELLED)
_ENDING = (*_ENDED, RunState.DRAINING)


class Controller:
    """Decides for one run. ``plan`` is its initial state."""

    def __init__(self, plan: RunPlan) -> None:
        self.plan = plan
        self.topology = Topology(plan)
        self.ledger = Ledger(tuple(s.stream for s in plan.streams), tuple(s.name for s in plan.sinks))
        self.run: Machine[RunState] = Machine("run", RUN, RunState.PLANNED)
        self._flow = Dataflow(self.topology, self.ledger)
        self._out: list[act.Action] = []
        self._timers = Timers()
        self._workforce = Workforce(plan, self._timers, self._out)
        self._changes = Changes(plan, self._workforce)
        self._checkpoints = Checkpointer(plan, self._out)
        self._work = Dispatcher(
            plan, self.topology, self._flow, self._workforce, self._timers, self._checkpoints, self._out
        )
        window = max(2, plan.max_in_flight // max(1, len(plan.streams)))
        self._streams = {
            s.stream: StreamState(s, i, window, [Cursor() for _ in plan.sinks]) for i, s in enumerate(plan.streams)
        }
        self._sink_index = {sink.name: i for i, sink in enumerate(plan.sinks)}
        self._in_order = [
            s.stateful or s.sample_fps is not None or s.hold_unless is not None or s.changeable for s in plan.stages
        ]
        self._sequencers: dict[tuple[int, str], Sequencer] = {}
        self._samplers: dict[tuple[int, str], Sampler] = {}
        self._choosing = self._work.chooser.active
        self._now_s = 0.0
        self._failure: str | None = None  # why the run will count as failed; it may go on for other streams
        self._opened = False  # paced sources have been told to begin
        self._over = False  # a stage can be served by nobody
        self._cancelled: str | None = None
        for stream in self._streams.values():
            self._go_on(stream)

    def _go_on(self, stream: StreamState) -> None:
        """Take a stream up where an earlier process has left it."""
        resume = stream.plan.resume
        if resume is None:
            return
        name = stream.plan.stream
        self.ledger.decoded[name] = resume.seq
        for sink, cursor in zip(self.plan.sinks, stream.cursors, strict=True):
            self.ledger.accounts[name, sink.name] = SinkAccount.of(resume.tallies[sink.name])
            cursor.next_seq, cursor.committed = resume.seq, resume.seq - 1
        stream.released = resume.seq - 1
        if resume.ended:
            stream.num_frames = resume.seq
            stream.closing = stream.closed = True

    @property
    def decided(self) -> Mapping[str, Mapping[tuple[int, str], int]]:
        """By stage: how often each candidate (-1: none) was decided for, and why, a key of `llamapipe.control.WHYS`."""
        return {stage.name: counts for stage, counts in zip(self.plan.stages, self._work.decided, strict=True)}

    # -- the contract -------------------------------------------------------------------------------------------

    def step(self, event: ev.Event, now_s: float) -> list[act.Action]:
        """Take one event, give what is to be done. Raises InvalidTransition for an event that cannot be."""
        self._now_s = now_s
        self._out = self._workforce.out = self._work.out = self._checkpoints.out = []
        match event:
            case ev.InvocationDone():
                self._work.done(event, now_s)
            case ev.FramesArrived():
                self._frames_arrived(event, now_s)
            case ev.Committed():
                self._committed(event)
            case ev.FrameUndecodable():
                self._undecodable(event, now_s)
            case ev.Start():
                self._start(now_s)
            case ev.ReplicaLoaded():
                self._replica_loaded(event)
            case ev.ReplicaFailed():
                self._replica_failed(event)
            case ev.StreamOpened():
                self._stream_opened(event)
            case ev.StreamEnded():
                stream = self._streams[event.stream]
                stream.num_frames, stream.error = event.num_frames, event.error
                if all(other.num_frames is not None for other in self._streams.values()):
                    self._work.chooser.no_more()
                self._maybe_close(stream)
            case ev.StreamClosed():
                self._stream_closed(self._streams[event.stream])
            case ev.SinkMarked():
                self._checkpoints.marked(event.stream, event.sink, event.seq)
            case ev.StateCaptured():
                self._checkpoints.captured(self.topology.index[event.stage], event.stream, event.seq, event.kept)
            case ev.SinkFailed():
                self._sink_failed(event)
            case ev.WorkerJoined():
                seat = self._workforce.seats[event.worker]
                self._workforce.joined(seat, now_s)
                self._work.worker_changed(seat)
            case ev.WorkerSilent():
                seat = self._workforce.seats[event.worker]
                self._workforce.silent(seat, now_s)
                self._work.silent(seat)
            case ev.WorkerBack():
                seat = self._workforce.seats[event.worker]
                self._workforce.back(seat)
                self._work.worker_changed(seat)
            case ev.StateRestored():
                self._work.restored(event, now_s)
            case ev.WorkerLost():
                self._worker_lost(event, now_s)
            case ev.Cancel():
                self._cancel(event.reason)
            case ev.Change():
                self._change(event)
            case ev.Allot():
                self._work.allot(event.workers)
            case ev.Paused():
                self._timers.shift(event.pause_s, but="look")
                self._work.shift(event.pause_s)
            case ev.Tick():
                pass
        due_s = self._timers.next_s()
        if due_s is not None and due_s <= now_s:
            self._ring(now_s)
        if self._changes.pending:
            self._go_on_changing()
        self._settle()
        self._work.schedule(now_s)
        while self._flow.unsettled:  # what was dropped while work was given out may make room for more
            self._settle()
            self._work.schedule(now_s)
        return self._out

    def next_deadline_s(self) -> float | None:
        """When to be woken by a Tick at the latest; None: only events matter."""
        return self._timers.next_s()

    def check_invariants(self) -> None:
        """Raise LedgerError where the state contradicts itself. For tests and debugging."""
        for stream in self._streams.values():
            if stream.in_flight < 0 or len(stream.pending) > stream.plan.max_pending + 1:
                raise LedgerError(f"{stream.plan.stream}: {stream.in_flight} in flight, {len(stream.pending)} pending")
            for sink, cursor in zip(self.plan.sinks, stream.cursors, strict=True):
                account = self.ledger.accounts[stream.plan.stream, sink.name]
                if account.total != cursor.next_seq or cursor.committed >= cursor.next_seq:
                    raise LedgerError(f"{stream.plan.stream} at {sink.name}: {account.total} != {cursor.next_seq}")
        held = sorted(number for seat in self._workforce for number in seat.held)
        if held != sorted(self._work.invocations):
            raise LedgerError(f"invocations held {held} but known {sorted(self._work.invocations)}")
        for seat in self._workforce:
            if len(seat.held) > self.plan.max_queued:
                raise LedgerError(f"{seat.name} holds {len(seat.held)} invocations")
        if self._work.ahead:
            raise LedgerError(f"answers that nobody has asked for: {sorted(self._work.ahead)}")
        if self.run.state in (RunState.DONE, RunState.CANCELLED):
            self.ledger.check()

    # -- workers ------------------------------------------------------------------------------------------------

    def _start(self, now_s: float) -> None:
        self.run.to(RunState.DEPLOYING)
        self._workforce.start(now_s)
        self._open(paced=False)
        self._stop_waiting()
        self._maybe_finish()

    def _open(self, *, paced: bool) -> None:
        """Let sources begin. A paced one would only fall behind while replicas are loading."""
        for stream in self._streams.values():
            if stream.plan.paced is paced and not (stream.plan.awaited or stream.stopping or stream.closed):
                self._out.append(act.Grant(stream.plan.stream, stream.window))

    def _stream_opened(self, event: ev.StreamOpened) -> None:
        """A stream that was awaited is one like all others from here on."""
        stream = self._streams[event.stream]
        stream.plan = msgspec.structs.replace(
            stream.plan, drop_policy=event.drop_policy, max_pending=event.max_pending, paced=event.paced, awaited=""
        )
        if not stream.stopping and (self._opened or not event.paced):
            self._out.append(act.Grant(event.stream, stream.window))

    def _replica_loaded(self, event: ev.ReplicaLoaded) -> None:
        worker, stage, choice = replica_parts(event.replica)
        seat = self._workforce.seats[worker]
        self._workforce.loaded(seat, self.topology.index[stage], choice, self._now_s)
        self._work.worker_changed(seat)
        self._maybe_running()

    def _maybe_running(self) -> None:
        if self.run.state is RunState.DEPLOYING:
            served = all(any(s.serves_some(i) for s in self._workforce) for i in range(len(self.plan.stages)))
            # A worker that still loads the rest of its candidates would be late with everything it is given.
            if served and not (self._work.chooser.active and self._workforce.loading):
                self.run.to(RunState.RUNNING)
        elif self.run.state is RunState.DEGRADED and self._workforce.whole():
            self.run.to(RunState.RUNNING)
        # Whoever loads takes a core for it: the first seconds of a paced source would all be late.
        if not self._opened and self.run.state in _SERVING and not self._workforce.loading:
            self._opened = True
            self._open(paced=True)

    def _replica_failed(self, event: ev.ReplicaFailed) -> None:
        worker, stage, choice = replica_parts(event.replica)
        index = self.topology.index[stage]
        seat = self._workforce.seats[worker]
        self._workforce.unable(seat, index, choice, self._now_s)
        self._changes.failed(event.reason)
        if not seat.may_yet_serve(index):
            self._work.unable(seat, index)
        self._work.worker_changed(seat)
        self._work.need_all()  # it may have been the one that was to do it
        self._require(index, event.reason)
        self._maybe_running()

    def _worker_lost(self, event: ev.WorkerLost, now_s: float) -> None:
        seat = self._workforce.seats[event.worker]
        if seat.link.state is LinkState.DEAD:
            return
        self._workforce.lost(seat, now_s)
        if self.run.state is RunState.RUNNING:
            self.run.to(RunState.DEGRADED)
        self._work.lost(seat, f"worker lost: {event.reason}", now_s)
        self._work.worker_changed(seat)
        for stage in seat.stages:
            self._require(stage, f"no worker left ({event.reason})")
        self._maybe_running()

    def _change(self, change: ev.Change) -> None:
        """Run some stages in another way. Not where the run is ending: nothing would be run that way."""
        if self._over or self._cancelled is not None or self.run.state in _ENDING:
            return
        if self.run.state in _SERVING:
            self.run.to(RunState.RECONFIGURING)
        self._changes.begin(change)

    def _go_on_changing(self) -> None:
        changed = self._changes.advance(self._now_s)
        if changed is None:
            return
        self._out.append(changed)
        if not changed.error:
            for stage, choice in self._changes.ways_of(changed):
                self._work.chooser.change(stage, choice)
                for (sampled, _), sampler in self._samplers.items():
                    if sampled == stage:
                        sampler.begin_anew(self._changes.sample_fps[stage])
        if self.run.state is RunState.RECONFIGURING:
            self.run.to(RunState.RUNNING if self._workforce.whole() else RunState.DEGRADED)

    def _require(self, stage: int, reason: str) -> None:
        if self._workforce.hopeless(stage, self._work.chooser.usable(stage)):
            self._fail(f"stage {self.plan.stages[stage].name}: {reason}")

    def _ring(self, now_s: float) -> None:
        """What was to be looked at again by now."""
        over = self.run.state in _ENDED
        for kind, name, number in self._timers.due(now_s):
            if over:
                continue
            if kind == "watch":
                self._work.look_at(self._workforce.seats[name], now_s)
            elif kind == "restore":
                self._work.restore_hangs(name, number)
            elif kind == "look":  # every event is followed by one at what waits
                self._work.chooser.looked(number, now_s)
            elif kind == "respawn":
                self._workforce.respawn(self._workforce.seats[name], number, now_s)
            elif kind == "load":
                self._workforce.still_loading(self._workforce.seats[name], number)
            else:
                self._workforce.still_silent(self._workforce.seats[name], number)

    # -- frames in ----------------------------------------------------------------------------------------------

    def _frames_arrived(self, event: ev.FramesArrived, now_s: float) -> None:
        stream = self._streams[event.stream]
        for offset, (captured_at_s, pts_s) in enumerate(zip(event.captured_at_s, event.pts_s, strict=True)):
            frame = self._new_frame(stream, event.first_seq + offset, captured_at_s, pts_s, now_s)
            if stream.stopping:
                self._end_frame(stream, frame, ItemState.CANCELLED, self._cancelled or stream.error or "stopped")
            elif stream.in_flight < stream.window and not stream.pending:
                self._admit(stream, frame)
            elif stream.plan.drop_policy == "drop-newest" and len(stream.pending) >= stream.plan.max_pending:
                self._end_frame(stream, frame, ItemState.DROPPED, "overload")
            else:
                stream.pending.append(frame)
                if stream.plan.drop_policy == "drop-oldest" and len(stream.pending) > stream.plan.max_pending:
                    self._end_frame(stream, stream.pending.popleft(), ItemState.DROPPED, "overload")

    def _undecodable(self, event: ev.FrameUndecodable, now_s: float) -> None:
        stream = self._streams[event.stream]
        frame = self._new_frame(stream, event.seq, now_s, event.pts_s, now_s)
        self._end_frame(stream, frame, ItemState.FAILED, f"source: {event.reason}")

    def _new_frame(
        self, stream: StreamState, seq: int, captured_at_s: float, pts_s: float, now_s: float
    ) -> FrameRecord:
        self.ledger.decoded[stream.plan.stream] += 1
        self._checkpoints.arrived(stream.plan.stream, seq, now_s)
        frame = FrameRecord(self.topology, stream.plan.stream, seq, -1, captured_at_s, pts_s)
        stream.frames[seq] = frame
        return frame

    def _admit(self, stream: StreamState, frame: FrameRecord) -> None:
        frame.order = stream.next_order
        stream.next_order += 1
        stream.in_flight += 1
        self._flow.admit(frame)

    def _end_frame(self, stream: StreamState, frame: FrameRecord, state: ItemState, reason: str) -> None:
        """A frame that never was admitted. Nobody will want its picture, and others may be ahead of it for long."""
        if state is not ItemState.FAILED:
            self._out.append(act.Discard(stream.plan.stream, frame.seq))
        self._flow.end_all(frame, state, "source" if state is ItemState.FAILED else "", reason)

    # -- what follows -------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Work off what the dataflow left, until nothing follows any more."""
        flow = self._flow
        while flow.unsettled:
            ready, flow.ready = flow.ready, []
            for frame, stage in ready:
                self._stage_ready(frame, stage)
            settled, flow.settled = flow.settled, []
            for frame, stage in settled:
                self._stage_settled(frame, stage)
            ended, flow.ended = flow.ended, []
            for frame, sink, outcome, origin, reason in ended:
                self._deliver(frame, sink, outcome, origin, reason)

    def _stage_ready(self, frame: FrameRecord, stage: int) -> None:
        if self._in_order[stage]:
            for turn in self._sequencer(stage, frame.stream).put(frame.order, frame):
                self._take_turn(turn, stage)
        else:
            self._take_turn(frame, stage)

    def _take_turn(self, frame: FrameRecord, stage: int) -> None:
        if frame.state[stage] is not ItemState.WAITING:  # it was ended while it waited for its turn
            return
        if self._held(frame, stage):
            return
        n = self._flow.start(frame, stage)
        if n and not self._work.answered_ahead(frame, stage):
            self._work.queues[stage].put(frame, n)
            if self._choosing:
                self._work.chooser.arrived(stage, n, self._now_s)

    def _sequencer(self, stage: int, stream: str) -> Sequencer:
        return self._sequencers.setdefault((stage, stream), Sequencer())

    def _held(self, frame: FrameRecord, stage: int) -> bool:
        """Whether the frame takes over the outputs of the last frame looked at instead of being worked on."""
        fps = self._changes.sample_fps[stage]
        hold = self.topology.holds[stage] if self._changes.holds[stage] else None
        if fps is None and hold is None:
            return False
        sampler = self._samplers.get((stage, frame.stream))
        if sampler is None:
            segment_frames = self._checkpoints.segment_frames(frame.stream)
            sampler = self._samplers[stage, frame.stream] = Sampler(fps, segment_frames)
        changed = hold is None or frame.passes(hold)
        if hold is not None and sampler.last is not None and sampler.last.state[stage] in ENDED_BADLY:
            changed = True  # there is nothing to hold, and nobody knows for how long there would not be
        if sampler.takes(frame, changed):
            return False
        sampled = sampler.last
        assert sampled is not None
        if sampled.state[stage] in (ItemState.WAITING, ItemState.QUEUED, ItemState.DISPATCHED):
            sampler.waiting.setdefault(sampled.seq, []).append(frame)
        else:
            self._hold(frame, sampled, stage)
        return True

    def _hold(self, frame: FrameRecord, sampled: FrameRecord, stage: int) -> None:
        state = sampled.state[stage]
        if state is ItemState.DONE:
            self._out.append(act.Hold(self.plan.stages[stage].name, frame.stream, frame.seq, sampled.seq))
            for _, key in self.topology.probes[stage]:
                frame.set_measure(key, sampled.measure(key))
        self._flow.settle(frame, stage, state, sampled.count[stage], *sampled.why(stage))

    def _stage_settled(self, frame: FrameRecord, stage: int) -> None:
        if self._choosing:
            skipped = frame.state[stage] is ItemState.SKIPPED
            self._work.chooser.saw_frame(stage, 0 if skipped else self._flow.num_items(frame, stage))
        if self._samplers and (sampler := self._samplers.get((stage, frame.stream))) is not None:
            for held in sampler.waiting.pop(frame.seq, ()):
                if held.state[stage] is ItemState.WAITING:  # it was not ended while it waited
                    self._hold(held, frame, stage)
        # A frame that goes past a stage without its turn must not keep the later ones waiting.
        if self._in_order[stage] and frame.order >= 0:
            for turn in self._sequencer(stage, frame.stream).put(frame.order, None):
                self._take_turn(turn, stage)
        self._release_up_to(self._streams[frame.stream])

    def _deliver(self, frame: FrameRecord, sink: int, outcome: str, origin: str, reason: str) -> None:
        stream = self._streams[frame.stream]
        cursor = stream.cursors[sink]
        cursor.waiting[frame.seq] = (outcome, origin, reason)
        name = self.plan.sinks[sink].name
        account = self.ledger.accounts[frame.stream, name]
        while (entry := cursor.waiting.pop(cursor.next_seq, None)) is not None:
            mark = self._checkpoints.ends_with(frame.stream, cursor.next_seq)
            if cursor.failed is not None:
                entry = ("failed", name, cursor.failed)
                cursor.committed = cursor.next_seq
            else:
                self._out.append(act.Deliver(frame.stream, cursor.next_seq, name, *entry, mark=mark))
                cursor.unconfirmed.append(entry)
            account.enter(*entry)
            if mark:
                self._checkpoints.accounted(frame.stream, name, account)
            cursor.next_seq += 1
        if cursor.failed is not None:
            self._release_up_to(stream)

    # -- frames out ---------------------------------------------------------------------------------------------

    def _committed(self, event: ev.Committed) -> None:
        stream = self._streams[event.stream]
        cursor = stream.cursors[self._sink_index[event.sink]]
        before = min([each.committed for each in stream.cursors]) if self._choosing else -1
        while cursor.committed < event.seq:
            outcome, _, _ = cursor.unconfirmed.popleft()
            cursor.committed += 1
            if self._choosing and outcome == "delivered":
                stream.frames[cursor.committed].left_s = self._now_s
        if self._choosing:  # a frame has left when every sink is done with it, at the time that the last one took it
            for seq in range(before + 1, min([each.committed for each in stream.cursors]) + 1):
                frame = stream.frames[seq]
                if frame.left_s > -inf:
                    self._work.chooser.left(frame, frame.left_s)
        self._release_up_to(stream)

    def _release_up_to(self, stream: StreamState) -> None:
        """Give back what every sink has committed, in order."""
        committed = min(cursor.committed for cursor in stream.cursors)
        credits = 0
        while stream.released < committed:
            frame = stream.frames[stream.released + 1]
            if frame.open_stages:
                break
            del stream.frames[frame.seq]
            stream.released += 1
            if frame.order >= 0:
                stream.in_flight -= 1
            credits += 1
            self._out.append(act.Release(stream.plan.stream, frame.seq))
        if not credits:
            return
        self._work.capture_idle(stream.plan.stream, stream.released)
        while stream.pending and stream.in_flight < stream.window:
            self._admit(stream, stream.pending.popleft())
        if not stream.stopping and stream.num_frames is None:
            self._out.append(act.Grant(stream.plan.stream, credits))
        self._maybe_close(stream)

    def _maybe_close(self, stream: StreamState) -> None:
        if stream.num_frames is not None and not stream.closing and stream.released == stream.num_frames - 1:
            stream.closing = True
            self._out.append(act.CloseStream(stream.plan.stream))

    def _stream_closed(self, stream: StreamState) -> None:
        stream.closed = True
        if not stream.stopping and stream.error is None and stream.num_frames is not None:
            name = stream.plan.stream
            accounts = {sink.name: self.ledger.accounts[name, sink.name] for sink in self.plan.sinks}
            self._checkpoints.ended(name, stream.num_frames, accounts)
        self._stop_waiting()
        self._maybe_finish()

    def _stop_waiting(self) -> None:
        """Once nobody else is left, streams that have not come by then need not come any more."""
        left = [stream for stream in self._streams.values() if not stream.closed]
        if all(stream.plan.awaited == "others" for stream in left):
            for stream in left:
                self._stop(stream, "did not come")

    def _maybe_finish(self) -> None:
        if not all(stream.closed for stream in self._streams.values()):
            return
        for seat in self._workforce:
            if seat.link.state is not LinkState.DEAD:
                self._out.append(act.StopWorker(seat.name))
        self.ledger.check()
        if self.run.state is not RunState.FAILED:
            self.run.to(RunState.DRAINING)
            ending = RunState.FAILED if self._failure else RunState.CANCELLED if self._cancelled else RunState.DONE
            self.run.to(ending)
        self._out.append(act.Finish(self.run.state.value, self._failure or self._cancelled or ""))

    # -- trouble ------------------------------------------------------------------------------------------------

    def _sink_failed(self, event: ev.SinkFailed) -> None:
        stream = self._streams[event.stream]
        cursor = stream.cursors[self._sink_index[event.sink]]
        if cursor.failed is not None:
            return
        cursor.failed = f"output: {event.reason}"
        account = self.ledger.accounts[event.stream, event.sink]
        for outcome, _, _ in cursor.unconfirmed:  # the sink never took them
            if outcome == "delivered":
                account.delivered -= 1
                account.failed[cursor.failed] += 1
        if not event.kept:
            account.failed[cursor.failed] += account.delivered
            account.delivered = 0
        cursor.unconfirmed.clear()
        cursor.committed = cursor.next_seq - 1
        stream.error = event.reason
        self._failure = self._failure or f"{event.stream} at {event.sink}: {event.reason}"
        self._stop(stream, cursor.failed)
        self._release_up_to(stream)

    def _cancel(self, reason: str) -> None:
        """Nothing new is read, and what is in flight is finished; unless nobody can work on it yet."""
        self._cancelled = self._cancelled or reason
        for stream in self._streams.values():
            self._stop(stream, reason)
        if self.run.state is RunState.DEPLOYING:
            self._end_frames(reason, cancelled=True)

    def _end_frames(self, reason: str, *, cancelled: bool) -> None:
        for stream in self._streams.values():
            for frame in list(stream.frames.values()):
                self._flow.end_all(frame, ItemState.CANCELLED, "", reason)
        self._work.give_up(reason, cancelled=cancelled)

    def _stop(self, stream: StreamState, reason: str) -> None:
        if stream.stopping:
            return
        stream.stopping = True
        self._checkpoints.close(stream.plan.stream)
        if stream.num_frames is None:
            self._out.append(act.StopSource(stream.plan.stream))
        while stream.pending:
            self._end_frame(stream, stream.pending.popleft(), ItemState.CANCELLED, reason)

    def _fail(self, reason: str) -> None:
        """Nothing more can be computed: what is queued is cancelled, what is out is awaited."""
        if self._over:
            return
        self._over = True
        self._failure = self._failure or reason
        for stream in self._streams.values():
            self._stop(stream, reason)
        self._end_frames(reason, cancelled=False)
