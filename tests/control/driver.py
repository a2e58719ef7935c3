"""A driver with nothing behind it: it plays sources, workers and sinks to a controller, and minds what it is told.

Every action is checked against what the live engine could carry out. Which of the possible events comes next is the
caller's choice, so that a test can put them in any order.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from llamapipe.control import Controller, RunPlan, encode_entry, encode_plan
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.control.lifecycle import ItemState
from llamapipe.control.plan import choice_name, replica_name

Move = tuple[str, Callable[[int], None]]  # name, and what it does with a number that it may take details from

_STREAM_LENGTH = 24  # frames that a source has


@dataclass
class _Worker:
    """Whoever fills a worker's place: takes what it is told in order, one thing at a time."""

    incarnation: int
    inbox: deque[act.Load | act.Dispatch | act.Restore] = field(default_factory=deque)
    joined: bool = False
    loaded: set[str] = field(default_factory=set)  # replicas
    silent: bool = False
    condemned: bool = False
    hung: bool = False  # what it is at will never end
    memory: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=dict)  # (stage, stream) -> items seen


@dataclass
class _Stream:
    awaited: bool = False
    drop_policy: str = "block"
    credits: int = 0
    sent: int = 0
    stopped: bool = False
    ended: bool = False
    closing: bool = False
    closed: bool = False
    released: int = -1


@dataclass
class _Sink:
    delivered: list[act.Deliver] = field(default_factory=list)
    committed: int = 0  # of those
    failed: bool = False


def _errors(counts: list[int]) -> dict[int, str]:
    return {i: "ValueError: no" for i, count in enumerate(counts) if count == ev.FAILED_ITEM}


class Driver:
    """Plays one run. `moves` are the events that could come now; `finish` plays fairly until the run is over."""

    def __init__(self, plan: RunPlan) -> None:
        self.plan = plan
        self.control = Controller(plan)
        self.now_s = 0.0
        self.log = [encode_plan(plan)]
        self.finished: act.Finish | None = None
        self.released: Counter[tuple[str, int]] = Counter()
        self.discarded: set[tuple[str, int]] = set()  # frames whose picture is gone
        self.sinks = {(stream.stream, sink.name): _Sink() for stream in plan.streams for sink in plan.sinks}
        self.workers: dict[str, _Worker] = {}  # that run
        self.quarantined: list[act.Quarantine] = []
        self._stages = {stage.name: stage for stage in plan.stages}
        self._streams = {s.stream: _Stream(bool(s.awaited), s.drop_policy) for s in plan.streams}
        self._out: dict[int, tuple[act.Dispatch, bool]] = {}  # invocations that somebody has, and whether wanted
        self._numbers: set[int] = set()
        self._answered: set[tuple[str, str, int, int]] = set()  # stage, stream, seq, index
        self._journal: dict[tuple[str, str], list[tuple[int, int]]] = {}  # what each memory has to be
        self._incarnations: Counter[str] = Counter()
        self._cancelled = False
        self.tell(ev.Start())

    # -- events -------------------------------------------------------------------------------------------------

    def tell(self, event: ev.Event) -> None:
        """Give one event to the controller and carry out what it says."""
        actions = self.control.step(event, self.now_s)
        self.log.append(encode_entry(self.now_s, event, actions))
        for action in actions:
            self._carry_out(action)
        self.control.check_invariants()

    def moves(self) -> list[Move]:
        """What could happen next, likely things several times."""
        if self.finished is not None:
            return []
        moves: list[Move] = []
        for name, worker in self.workers.items():
            if worker.inbox and not worker.hung:
                moves += [(f"{name} answers", lambda n, w=name: self._answer(w, n))] * 8
                if isinstance(worker.inbox[0], act.Dispatch | act.Restore):
                    moves.append((f"{name} hangs", lambda n, w=worker: setattr(w, "hung", True)))
            if not worker.joined:
                moves.append((f"{name} joins", lambda n, w=name: self._join(w)))
            if worker.silent:
                moves += [(f"{name} is back", lambda n, w=name: self._back(w))] * 2
            else:
                moves.append((f"{name} falls silent", lambda n, w=name: self._fall_silent(w)))
            moves += [(f"{name} is lost", lambda n, w=name: self._lose(w))] * (4 if worker.condemned else 1)
        for name, stream in self._streams.items():
            if not stream.ended:
                waits = stream.drop_policy == "block"
                room = min(_STREAM_LENGTH - stream.sent, stream.credits if waits else _STREAM_LENGTH)
                if stream.awaited:
                    room = 0
                    moves += [(f"{name} comes", lambda n, s=name: self._come(s, n))] * 3
                if room > 0:
                    moves += [(f"{name} sends", lambda n, s=name, r=room: self._send(s, min(r, 1 + n % 4)))] * 5
                    moves.append((f"{name} sends a bad one", lambda n, s=name: self._send_bad(s)))
                moves.append((f"{name} ends", lambda n, s=name: self._end(s, n)))
            elif stream.closing and not stream.closed:
                moves.append((f"{name} is closed", lambda n, s=name: self._close(s)))
        for (name, sink), state in self.sinks.items():
            if state.failed:
                continue
            if state.committed < len(state.delivered):
                moves += [(f"{name}/{sink} commits", lambda n, s=name, k=sink: self._commit(s, k, 1 + n % 3))] * 3
            if not self._streams[name].closed:
                moves.append((f"{name}/{sink} fails", lambda n, s=name, k=sink: self._fail_sink(s, k)))
        if not self._cancelled:
            moves.append(("cancel", lambda n: self._cancel()))
        if any(stage.changeable for stage in self.plan.stages):
            moves += [("a change", self._change)] * 2
        moves.append(("an allotment", lambda n: self.tell(ev.Allot(n % 4))))
        moves += [("time passes", self._pass)] * 4
        return moves

    def load(self) -> None:
        """Every worker comes up and can load all that it is to."""
        for name, worker in self.workers.items():
            while worker.inbox and isinstance(worker.inbox[0], act.Load):
                self._answer(name, 9)

    def finish(self) -> None:
        """Nothing goes wrong any more: the run must come to an end."""
        for _ in range(10_000):
            if self.finished is not None:
                return
            if not self._progress():
                deadline_s = self.control.next_deadline_s()
                assert deadline_s is not None, f"nothing can happen any more: {self.state()}"
                self.now_s = max(self.now_s, deadline_s)
                self.tell(ev.Tick())
        raise AssertionError(f"the run does not end: {self.state()}")

    def state(self) -> str:
        """Where it stands, for a failure's message."""
        queues = {s.name: len(q) for s, q in zip(self.plan.stages, self.control._work.queues, strict=True)}
        return f"{self._streams} {self.workers} queues {queues} out {self._out}"

    def _progress(self) -> bool:
        moved = False
        for name, worker in list(self.workers.items()):
            if worker.condemned:
                self._lose(name)
                moved = True
                continue
            if worker.silent:
                self._back(name)
                moved = True
            if not worker.joined:
                self._join(name)
                moved = True
            while name in self.workers and worker.inbox and not worker.hung and not worker.condemned:
                self._answer(name, 9)
                moved = True
        for name, stream in self._streams.items():
            others = "others" in [s.awaited for s in self.plan.streams if s.stream == name]
            if not stream.ended and not (stream.awaited and others and not stream.stopped):
                self._end(name, 1)
                moved = True
            if stream.closing and not stream.closed:
                self._close(name)
                moved = True
        for (name, sink), state in self.sinks.items():
            if not state.failed and state.committed < len(state.delivered):
                self._commit(name, sink, len(state.delivered))
                moved = True
        return moved

    # -- sources ------------------------------------------------------------------------------------------------

    def _come(self, name: str, detail: int) -> None:
        """What kind of source it is turns out now."""
        stream = self._streams[name]
        stream.awaited = False
        stream.drop_policy = ("block", "drop-oldest", "drop-newest")[detail % 3]
        self.tell(ev.StreamOpened(name, stream.drop_policy, 1 + detail % 4, bool(detail % 2)))

    def _send(self, name: str, count: int) -> None:
        stream = self._streams[name]
        first = stream.sent
        stream.sent += count
        stream.credits -= count
        self.tell(
            ev.FramesArrived(name, first, [self.now_s] * count, [(first + i) / 10 for i in range(count)]),
        )

    def _send_bad(self, name: str) -> None:
        stream = self._streams[name]
        stream.sent += 1
        stream.credits -= 1
        self.tell(ev.FrameUndecodable(name, stream.sent - 1, "corrupt-packet"))

    def _end(self, name: str, detail: int) -> None:
        stream = self._streams[name]
        stream.ended = True
        self.tell(ev.StreamEnded(name, stream.sent, "gone" if detail % 4 == 0 else None))

    def _close(self, name: str) -> None:
        self._streams[name].closed = True
        self.tell(ev.StreamClosed(name))

    # -- sinks --------------------------------------------------------------------------------------------------

    def _commit(self, name: str, sink: str, count: int) -> None:
        state = self.sinks[name, sink]
        state.committed = min(len(state.delivered), state.committed + count)
        self.tell(ev.Committed(name, sink, state.delivered[state.committed - 1].seq))

    def _fail_sink(self, name: str, sink: str) -> None:
        self.sinks[name, sink].failed = True
        self.tell(ev.SinkFailed(name, sink, "disk full"))

    # -- workers ------------------------------------------------------------------------------------------------

    def _join(self, name: str) -> None:
        self.workers[name].joined = True
        self.tell(ev.WorkerJoined(name))

    def _fall_silent(self, name: str) -> None:
        self.workers[name].silent = True
        self.tell(ev.WorkerSilent(name))

    def _back(self, name: str) -> None:
        self.workers[name].silent = False
        self.tell(ev.WorkerBack(name))

    def _lose(self, name: str) -> None:
        del self.workers[name]
        for number in [n for n, (dispatch, _) in self._out.items() if dispatch.worker == name]:
            del self._out[number]
        self.tell(ev.WorkerLost(name, "killed"))

    def _answer(self, name: str, detail: int) -> None:
        worker = self.workers[name]
        if not worker.joined:
            self._join(name)
        message = worker.inbox.popleft()
        if isinstance(message, act.Load):
            if detail % 20 == 0:
                self.tell(ev.ReplicaFailed(message.replica, "no room"))
            else:
                worker.loaded.add(message.replica)
                self.tell(ev.ReplicaLoaded(message.replica, 0.1))
        elif isinstance(message, act.Restore):
            key = (message.stage, message.stream)
            failed = detail % 10 == 0
            if failed:
                self._journal[key] = []
            worker.memory[key] = list(self._journal.get(key, ()))
            self.tell(ev.StateRestored(*key, name, "no" if failed else ""))
        else:
            self._answer_invocation(worker, message, detail)

    def _answer_invocation(self, worker: _Worker, dispatch: act.Dispatch, detail: int) -> None:
        dispatch, wanted = self._out.pop(dispatch.invocation)
        busy_s = (1 + detail % 7) / 20
        stage = self._stages[dispatch.stage]
        counts = [self._count(stage.fan_out, stage.filters, detail + 3 * i) for i in range(len(dispatch.items))]
        chain = self._answer_chain(dispatch, counts, detail)
        if not wanted:
            self.tell(ev.InvocationDone(dispatch.invocation, [], busy_s=busy_s, chain=chain))
            return
        if stage.stateful:
            self._remember(worker, dispatch, counts)
        for name, of_stage in zip((dispatch.stage, *dispatch.chain), (counts, *(c.counts for c in chain)), strict=True):
            for item, count in zip(dispatch.items, of_stage, strict=True):
                if count not in (ev.FAILED_ITEM, ev.NOT_RUN):
                    self._answered.add((name, *item))
        measures = self._measures(dispatch.stage, counts, detail)
        errors = _errors(counts)
        self.tell(ev.InvocationDone(dispatch.invocation, counts, measures, errors, busy_s, dispatch.snapshot, chain))

    def _answer_chain(self, dispatch: act.Dispatch, counts: list[int], detail: int) -> list[ev.Chained]:
        """What does not fail in one stage comes to the next."""
        chain: list[ev.Chained] = []
        for place, name in enumerate(dispatch.chain, 1):
            detail += 5 * place
            counts = [
                self._count(False, False, detail + 3 * i) if count >= 0 else ev.NOT_RUN
                for i, count in enumerate(counts)
            ]
            chain.append(ev.Chained(counts, self._measures(name, counts, detail), _errors(counts), detail % 4 / 20))
        return chain

    def _measures(self, stage: str, counts: list[int], detail: int) -> list[list[float]]:
        probes = self.control.topology.probes[self.control.topology.index[stage]]
        return [[float(detail % 3)] * len(probes) for _ in counts] if probes else []

    def _count(self, fan_out: bool, filters: bool, detail: int) -> int:
        if detail % 8 == 0:
            return ev.FAILED_ITEM
        if filters and detail % 3 == 0:
            return ev.FILTERED_ITEM
        return detail % 4 if fan_out else 1

    def _remember(self, worker: _Worker, dispatch: act.Dispatch, counts: list[int]) -> None:
        """Whoever works on a stream must know what an undisturbed worker would."""
        stream = dispatch.items[0][0]
        assert {item[0] for item in dispatch.items} == {stream}, "streams mixed in a stage that remembers"
        key = (dispatch.stage, stream)
        journal = self._journal.setdefault(key, [])
        memory = worker.memory.setdefault(key, [])
        assert memory == journal, f"{key}: {memory} instead of {journal}"
        for (_, seq, index), count in zip(dispatch.items, counts, strict=True):
            assert not journal or (seq, index) > journal[-1], f"{key}: {(seq, index)} after {journal[-1]}"
            if count != ev.FAILED_ITEM:
                memory.append((seq, index))
                journal.append((seq, index))

    # -- the rest -----------------------------------------------------------------------------------------------

    def _cancel(self) -> None:
        self._cancelled = True
        self.tell(ev.Cancel())

    def _change(self, detail: int) -> None:
        """Of every second stage that can be changed, or all; how often only where no picture is made."""
        stages = [stage for stage in self.plan.stages if stage.changeable][detail % 2 :]
        settings = []
        for stage in stages:
            rates = [None, 2.0, 5.0] if "frames" not in stage.outputs.values() and not stage.level else [None]
            settings.append(ev.Setting(stage.name, detail % len(stage.ways), rates[detail % len(rates)]))
        self.tell(ev.Change(settings, "for a test"))

    def _pass(self, detail: int) -> None:
        deadline_s = self.control.next_deadline_s()
        if detail % 7 == 3:  # nobody has listened for a while
            pause_s = detail % 40 / 2
            self.now_s += pause_s
            self.tell(ev.Paused(pause_s))
        elif deadline_s is None or detail % 2:  # an event that comes later than the time it was to be woken at
            self.now_s += (detail % 50) / 100
        else:
            self.now_s = max(self.now_s, deadline_s)
            self.tell(ev.Tick())

    # -- actions ------------------------------------------------------------------------------------------------

    def _carry_out(self, action: act.Action) -> None:
        assert self.finished is None, f"{action} after the end"
        match action:
            case act.StartWorker():
                assert action.worker not in self.workers, f"{action.worker} is there already"
                assert action.incarnation == self._incarnations[action.worker]
                self._incarnations[action.worker] += 1
                self.workers[action.worker] = _Worker(action.incarnation)
            case act.KillWorker():
                assert not self.workers[action.worker].condemned, f"{action.worker} is killed twice"
                self.workers[action.worker].condemned = True
            case act.Load():
                self.workers[action.worker].inbox.append(action)
            case act.Dispatch():
                self._dispatch(action)
            case act.Discard():
                self._here(action.stream, action.seq)
                place = action.stream, action.seq
                assert place not in self.discarded, f"{action} twice"
                self.discarded.add(place)
            case act.Forget():
                dispatch, wanted = self._out[action.invocation]
                assert wanted, f"{action} twice"
                self._out[action.invocation] = dispatch, False
            case act.Restore():
                worker = self._ready(action.worker, action.replica)
                assert not any(isinstance(m, act.Restore) and m.stream == action.stream for m in worker.inbox)
                worker.inbox.append(action)
            case act.Quarantine():
                self._here(action.stream, action.seq)
                self.quarantined.append(action)
            case act.Hold():
                self._here(action.stream, action.seq)
                assert (action.stage, action.stream, action.from_seq, 0) in self._answered
            case act.Deliver():
                self._here(action.stream, action.seq)
                sink = self.sinks[action.stream, action.sink]
                assert not sink.failed, f"{action}: the sink has failed"
                assert action.seq == len(sink.delivered), f"{action} after {len(sink.delivered)} deliveries"
                sink.delivered.append(action)
            case act.Release():
                self._release(action)
            case act.Grant():
                assert not self._streams[action.stream].awaited, f"{action} for what is not there"
                assert not self._streams[action.stream].stopped
                self._streams[action.stream].credits += action.credits
            case act.StopSource():
                assert not self._streams[action.stream].stopped, f"{action} twice"
                self._streams[action.stream].stopped = True
            case act.CloseStream():
                stream = self._streams[action.stream]
                assert stream.ended, f"{action} before its end"
                assert stream.released == stream.sent - 1, f"{action} with frames unreleased"
                assert not stream.closing, f"{action} twice"
                stream.closing = True
            case act.StopWorker():
                assert action.worker in self.workers
            case act.Changed():
                loads = [m.replica for w in self.workers.values() for m in w.inbox if isinstance(m, act.Load)]
                for setting in action.settings:
                    name = choice_name(setting.stage, setting.choice)
                    assert not setting.choice or not any(load.endswith(name) for load in loads)
            case act.Finish():
                assert all(stream.closed for stream in self._streams.values())
                self.finished = action

    def _dispatch(self, action: act.Dispatch) -> None:
        worker = self._ready(action.worker, action.replica)
        assert action.replica == replica_name(action.worker, action.stage, action.choice)
        assert action.invocation not in self._numbers, f"invocation {action.invocation} twice"
        self._numbers.add(action.invocation)
        stage = self._stages[action.stage]
        self._check_chain(action)
        assert 1 <= len(action.items) <= max(1, stage.choice(action.choice).batch)
        for item in action.items:
            self._here(item[0], item[1])
            assert item[:2] not in self.discarded, f"{action}: {item} has been discarded"
            assert (action.stage, *item) not in self._answered, f"{action}: {item} has been answered for"
            others = [d for d, wanted in self._out.values() if wanted and d.stage == action.stage and item in d.items]
            assert len(others) <= 1, f"{action}: {item} is out twice already"
            for other in others:
                assert not stage.stateful, f"{action}: {item} twice to a stage that remembers"
                assert other.items == action.items, f"{action}: {item} is out with others"
                assert other.worker != action.worker, f"{action}: twins at one worker"
        self._out[action.invocation] = action, True
        worker.inbox.append(action)

    def _check_chain(self, action: act.Dispatch) -> None:
        """All that the chain's stages read is there, or comes from the one before; nobody has answered for them."""
        before = action.stage
        for name in action.chain:
            self._ready(action.worker, replica_name(action.worker, name))
            for item in action.items:
                assert (name, *item) not in self._answered, f"{action}: {name} has been answered for"
                for edge in self._stages[name].inputs:
                    there = not edge.stage or edge.stage == before or (edge.stage, *item) in self._answered
                    assert there or self._skipped(edge.stage, *item[:2]), f"{action}: nothing from {edge.stage}"
            before = name

    def _skipped(self, stage: str, stream: str, seq: int) -> bool:
        frame = self.control._streams[stream].frames[seq]
        return frame.state[self.control.topology.index[stage]] in (ItemState.SKIPPED, ItemState.DONE)

    def _ready(self, name: str, replica: str) -> _Worker:
        worker = self.workers[name]
        assert not worker.condemned, f"{name} is being killed"
        assert not worker.silent, f"{name} is silent"
        assert replica in worker.loaded, f"{name} has not loaded {replica}"
        return worker

    def _here(self, stream: str, seq: int) -> None:
        assert seq < self._streams[stream].sent
        assert not self.released[stream, seq], f"frame {seq} of {stream} has been released"

    def _release(self, action: act.Release) -> None:
        self._here(action.stream, action.seq)
        stream = self._streams[action.stream]
        assert action.seq == stream.released + 1, f"{action} after {stream.released}"
        stream.released = action.seq
        self.released[action.stream, action.seq] += 1
        for (name, _), sink in self.sinks.items():
            if name == action.stream and not sink.failed:
                assert sink.committed > action.seq, f"{action} before every sink has committed it"
        for dispatch, wanted in self._out.values():
            frames = {(item[0], item[1]) for item in dispatch.items}
            assert not wanted or (action.stream, action.seq) not in frames, f"{action}: {dispatch} still needs it"
