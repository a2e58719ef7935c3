"""The engine: one ROUTER socket, one thread, one poll loop.

Messages become events for `control`, its actions become messages. Decides nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Mapping
from queue import SimpleQueue
from sys import maxsize
from typing import Any

import zmq

from llamapipe.clock import Clock
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.control.controller import Controller
from llamapipe.control.plan import replica_parts
from llamapipe.errors import LlamapipeError
from llamapipe.media import SINKS
from llamapipe.runtime.arena import Arena
from llamapipe.runtime.checkpoints import CheckpointBook, StreamPoint
from llamapipe.runtime.contract import EngineResult, Peer
from llamapipe.runtime.crew import Crew, WorkerPeer
from llamapipe.runtime.dealing import listener, of_stranger, received
from llamapipe.runtime.frozen import Frozen
from llamapipe.runtime.gathering import Gathering
from llamapipe.runtime.granting import Granting
from llamapipe.runtime.journal import Journal
from llamapipe.runtime.observer import Observer
from llamapipe.runtime.outstanding import (
    Outstanding,
    give_back,
    inputs_of,
    num_pictures,
    one_by_one,
    outputs_by_stage,
    results_of,
    withdraw,
)
from llamapipe.runtime.sink import SinkWriter
from llamapipe.runtime.store import PayloadStore
from llamapipe.wire import (
    PROTOCOL,
    Captured,
    CaptureState,
    Close,
    Closed,
    Deliveries,
    Delivery,
    Done,
    Ended,
    Granted,
    Hello,
    Invoke,
    ItemInputs,
    Loaded,
    LoadReplica,
    Marked,
    Message,
    NewFrames,
    NewStream,
    Opened,
    Pulse,
    Restored,
    RestoreState,
    Stop,
    Taken,
    Undecoded,
    decode,
    encode,
)

__all__ = ["Engine"]

_POLL_MS = 50  # how late an interrupt or a dead thread may be noticed
_LOOK_S = 0.02  # between two looks after workers, where none has ended
_PAUSE_S = 1.0  # between two turns, which are otherwise _POLL_MS apart
_MOST_MESSAGES = 256  # that are taken in a turn
_SNDMORE = int(zmq.SNDMORE)  # as an enumeration it costs as much as the call


class Engine:
    """Drives one run. ``peers`` are sources and sinks by identity; workers are made when control asks for them.

    ``make_worker`` is given a worker's name and incarnation. ``address`` is that of threads, ``process_address`` that
    of processes, where there are any. ``resume`` are the points at which an earlier process has left its streams.
    ``writers`` are the sinks, by stream, that never wait for anybody: the engine's own thread writes them, which spares
    two messages a frame and what waking two threads costs. ``joining`` gives the sinks of a stream that was awaited,
    once its source is there. ``changes`` is where others put what control is to be told of how the run is to go on.
    """

    def __init__(
        self,
        controller: Controller,
        *,
        arena: Arena,
        clock: Clock,
        make_worker: Callable[[str, int], WorkerPeer],
        peers: Mapping[str, Peer],
        close_source: Callable[[str], None],
        observer: Observer,
        interrupt: threading.Event,
        address: str,
        process_address: str | None = None,
        resume: Mapping[str, StreamPoint] | None = None,
        writers: Mapping[str, SinkWriter] | None = None,
        joining: Callable[[str], SinkWriter] | None = None,
        changes: SimpleQueue[ev.Event] | None = None,
    ) -> None:
        self._controller = controller
        self._arena = arena
        self._clock = clock
        self._make_worker = make_worker
        self._peers = dict(peers)
        self._close_source = close_source
        self._observer = observer
        self._interrupt = interrupt
        self._changes = changes
        self._address = address
        self._process_address = process_address
        self._stages = {stage.name: stage for stage in controller.plan.stages}
        self._sinks = {sink.name: sink for sink in controller.plan.sinks}
        self._store = PayloadStore(controller.plan, arena)
        self._journal = Journal(arena)
        self._book = CheckpointBook()
        for stream, point in (resume or {}).items():
            for stage, state in point.states.items():
                self._journal.seed(stage, stream, state)
        self._out: dict[int, Outstanding] = {}
        self._orphans: dict[int, Outstanding] = {}  # invocations of threads that were given up: they may still answer
        self._known: set[str] = set()  # peers that have said hello
        self._proven: set[str] = set()  # the same, and those who are gone: a thread may still answer
        self._unsent: dict[str, list[bytes]] = {}  # for peers that have not yet
        self._threads: dict[str, threading.Thread] = {}  # of sources and sinks
        self._loads: dict[str, set[str]] = {}  # of each worker by identity: replicas that it has yet to load
        self._gone: set[str] = set()
        self._deliveries: dict[str, list[Delivery]] = {}
        self._writers = dict(writers or {})
        self._joining = joining
        self._awaited = {stream.stream for stream in controller.plan.streams if stream.awaited}
        self._answers: list[Message] = []  # of the writers
        self._granting = Granting({s.stream: s.drop_policy == "block" for s in controller.plan.streams})
        self._gathering = Gathering(controller.plan)
        self._num_arrived = 0  # frames, since that was told
        self._frozen = Frozen()
        self._has_loaded = False  # something
        self._result: EngineResult | None = None
        self._partial = EngineResult("failed", "")
        self._crashes: dict[str, str] = {}
        self._hints: dict[str, str | None] = {}  # by what a replica could not be loaded for

    def run(self) -> EngineResult:
        """Serve until control says Finish. Raises whatever control raises: that is always a bug."""
        context: zmq.Context[Any] = zmq.Context.instance()
        self._context = context
        router = self._router = listener(context, self._address, self._process_address)
        poller = zmq.Poller()
        poller.register(router, zmq.POLLIN)
        silent_s = self._controller.plan.faults.silent_after_s
        self._crew = Crew(context, self._address, self._process_address, poller, self._clock, silent_after_s=silent_s)
        try:
            for name, peer in self._peers.items():
                self._spawn(name, peer)
            self._turn_s = self._clock.now_s()
            self._tell(ev.Start())
            cancelled, next_look_s = False, 0.0
            while self._result is None:
                given = (out.dispatch for out in self._out.values())
                if (rest_s := self._gathering.rest_s(given, self._clock.now_s())) > 0.0:
                    self._clock.sleep(rest_s)
                ready = dict(poller.poll(self._wait_ms()))
                self._notice_pause()
                if ready:
                    if (pause_s := self._gathering.pause_s) > 0.0:
                        self._clock.sleep(pause_s)
                    self._drain(_MOST_MESSAGES)
                    self._gathering.took(self._num_arrived, self._clock.now_s())
                    self._num_arrived = 0
                if self._has_loaded:
                    self._frozen.freeze()
                self._flush()
                self._take_answers()
                now_s = self._clock.now_s()
                self._observer.poll(now_s)
                if self._interrupt.is_set() and not cancelled:
                    cancelled = True
                    self._tell(ev.Cancel("interrupted"))
                if self._changes is not None and not self._changes.empty():
                    self._tell(self._changes.get())
                self._notice_dead()
                has_ended = len(ready) > (router in ready)  # a process
                if has_ended or now_s >= next_look_s:
                    next_look_s = now_s + _LOOK_S
                    self._notice_workers(now_s, ready)
                deadline_s = self._controller.next_deadline_s()
                if deadline_s is not None and now_s >= deadline_s:
                    self._tell(ev.Tick())
                self._flush()
                self._take_answers()
            return self._result
        finally:
            self._shut_down()

    def _notice_pause(self) -> None:
        """Where this process was stopped for a while (Ctrl-Z, a container that is paused), nobody's answer is late."""
        before_s, self._turn_s = self._turn_s, self._clock.now_s()
        if (pause_s := self._turn_s - before_s) > _PAUSE_S:
            self._crew.shift(pause_s)
            self._tell(ev.Paused(pause_s))

    def _wait_ms(self) -> int:
        deadline_s = self._controller.next_deadline_s()
        if deadline_s is None:
            return _POLL_MS
        return max(0, min(_POLL_MS, int((deadline_s - self._clock.now_s()) * 1000) + 1))

    # -- messages to events -------------------------------------------------------------------------------------

    def _drain(self, most: int) -> None:
        """What is there now, then one flush: messages of a burst leave together.

        ``most``: where sources outrun this loop, sinks and timers must have their turn, or nothing would ever leave.
        """
        for _ in range(most):
            if self._result is not None or (arrived := received(self._router)) is None:
                return
            peer, data = arrived
            message = decode(data) if peer in self._proven else of_stranger(data)
            if message is not None:
                self._take(peer, message)

    def _take_answers(self) -> None:
        """What this thread's own writers have to say. Never in the midst of other actions."""
        while self._answers and self._result is None:
            answers, self._answers = self._answers, []
            for answer in answers:
                self._take("", answer)
            self._flush()

    def _take(self, peer: str, message: Message) -> None:
        if peer in self._gone:  # a thread that comes back when it was given up: nobody has work for it
            self._hand(peer, encode(Stop()), gone=True)
        if isinstance(message, Done):
            self._done(message)
        elif isinstance(message, NewFrames):
            frames = message.frames
            for ref in frames:
                self._store.add(ref.stream, ref.seq, ref)
            self._num_arrived += len(frames)
            captured_at_s, pts_s = [ref.captured_at_s for ref in frames], [ref.pts_s for ref in frames]
            self._tell(ev.FramesArrived(message.stream, frames[0].seq, captured_at_s, pts_s))
        elif isinstance(message, Taken):
            if message.latencies:
                self._observer.delivered(message.stream, message.sink, message.latencies)
            if message.seq >= 0:
                self._tell(ev.Committed(message.stream, message.sink, message.seq))
            if message.error is not None:
                self._partial.errors.setdefault(message.stream, message.error)
                self._sink_failed(message.stream, message.sink, message.error)
        elif isinstance(message, Captured):
            self._book.captured(message)
            kept = message.state is not None
            self._tell(ev.StateCaptured(message.stage, message.stream, message.seq, kept))
        elif isinstance(message, Marked):
            self._book.marked(message)
            self._tell(ev.SinkMarked(message.stream, message.sink, message.seq))
        elif isinstance(message, Pulse):
            self._crew.heard(message.worker, self._clock.now_s())
        elif isinstance(message, Hello):
            self._hello(peer, message)
        elif isinstance(message, Loaded):
            if self._crew.current(peer) is not None:
                self._loads[peer].discard(message.replica)
                self._loaded(message)
        elif isinstance(message, Restored):
            self._restored(peer, message)
        elif isinstance(message, Undecoded):
            self._store.add(message.stream, message.seq, None)
            self._tell(ev.FrameUndecodable(message.stream, message.seq, message.reason, message.pts_s))
        elif isinstance(message, Opened):
            self._opened(message)
        elif isinstance(message, Ended):
            if message.error is not None:
                self._partial.errors.setdefault(message.stream, message.error)
                if message.lost:
                    self._partial.lost.add(message.stream)
            self._tell(ev.StreamEnded(message.stream, message.num_frames, message.error))
        elif isinstance(message, Closed):
            self._partial.files[message.stream] = message.files
            for sink, error in message.errors.items():
                self._partial.errors.setdefault(message.stream, error)
                self._sink_failed(message.stream, sink, error)
            self._tell(ev.StreamClosed(message.stream))
        else:
            raise LlamapipeError(f"{peer} sent a {type(message).__name__}, which engines do not take")

    def _sink_failed(self, stream: str, sink: str, error: str) -> None:
        kind = SINKS.get(self._sinks[sink].type)
        # A file that is not whole is removed, and all that was written to it.
        self._tell(ev.SinkFailed(stream, sink, error, kept=kind is None or kind.default_path is None))

    def _opened(self, message: Opened) -> None:
        """A stream joins. Workers are told before any of its frames, control last: its grant lets frames come."""
        stream = message.stream
        for identity in self._crew.identities():
            self._send(identity, NewStream(stream, message.width, message.height, message.fps))
        assert self._joining is not None
        writer = self._joining(stream)
        self._spawn(writer.name, writer)
        self._awaited.discard(stream)
        self._granting.opened(stream, waits=message.drop_policy == "block")
        self._tell(ev.StreamOpened(stream, message.drop_policy, message.max_pending, message.paced))

    def _hello(self, peer: str, message: Hello) -> None:
        worker = self._crew.current(peer) if message.role == "worker" else None
        if message.role == "worker":
            if worker is None or not self._crew.proves(peer, message.token):
                return
            if message.protocol != PROTOCOL:
                raise LlamapipeError(f"worker {worker} speaks protocol {message.protocol}, expected {PROTOCOL}")
        elif peer not in self._threads:
            return
        self._known.add(peer)
        self._proven.add(peer)
        for unsent in self._unsent.pop(peer, ()):
            self._hand(peer, unsent)
        if worker is not None:
            self._tell(ev.WorkerJoined(worker))

    def _loaded(self, message: Loaded) -> None:
        worker, stage, _ = replica_parts(message.replica)
        if message.error is None:
            self._observer.loaded(stage, worker, message.load_s, message.variant)
            self._tell(ev.ReplicaLoaded(message.replica, message.load_s))
            self._has_loaded = True
        else:
            self._hints[message.error] = message.hint
            self._tell(ev.ReplicaFailed(message.replica, message.error))

    def _restored(self, peer: str, message: Restored) -> None:
        worker = self._crew.current(peer)
        if worker is None:
            return
        if message.error:
            self._journal.forget(message.stage, message.stream)
            self._observer.forgotten(message.stage, message.stream, message.error)
        self._tell(ev.StateRestored(message.stage, message.stream, worker, message.error))

    def _done(self, message: Done) -> None:
        out = self._out.pop(message.invocation, None)
        if out is None:  # its worker had been given up
            if (orphan := self._orphans.pop(message.invocation, None)) is not None:
                give_back(self._arena, orphan, None)
                withdraw(self._arena, orphan, message)
            return
        dispatch = out.dispatch
        for sent, answer in one_by_one(dispatch, message):
            self._observer.invocation(sent, answer)
        give_back(self._arena, out, message if out.wanted else None)
        busy_s = message.ended_s - message.started_s
        last = message.chain[-1] if message.chain else message
        self._gathering.answered(dispatch, message.started_s, last.ended_s)
        chain = [ev.Chained(*results_of(link.items), link.ended_s - link.started_s) for link in message.chain]
        if not out.wanted:
            withdraw(self._arena, out, message)
            self._tell(ev.InvocationDone(message.invocation, [], busy_s=busy_s, chain=chain))
            return
        for stage, items in zip((dispatch.stage, *dispatch.chain), outputs_by_stage(message), strict=True):
            for (stream, seq, index), outputs in zip(dispatch.items, items, strict=True):
                if outputs is not None and outputs.outputs:
                    self._store.put(stage, stream, seq, index, outputs)
        self._tell(
            ev.InvocationDone(
                message.invocation, *results_of(message.items), busy_s, self._remember(out, message), chain
            )
        )

    def _remember(self, out: Outstanding, message: Done) -> bool:
        """Journal what a stage that remembers has seen. Items that it failed on are left out: they left no trace."""
        dispatch = out.dispatch
        if not self._stages[dispatch.stage].stateful:
            return False
        seen = [item for item, outputs in zip(out.items, message.items, strict=True) if outputs.count != ev.FAILED_ITEM]
        return self._journal.done(dispatch.stage, dispatch.items[0][0], seen, dispatch.snapshot, message.state)

    def _tell(self, event: ev.Event) -> None:
        now_s = self._clock.now_s()
        actions = self._controller.step(event, now_s)
        self._observer.event(event, now_s, actions)
        for action in actions:
            self._carry_out(action)

    # -- actions to messages ------------------------------------------------------------------------------------

    def _carry_out(self, action: act.Action) -> None:
        match action:
            case act.Dispatch():
                self._dispatch(action)
            case act.Deliver():
                self._deliver(action)
            case act.Release():
                self._store.release(action.stream, action.seq)
            case act.Discard():
                self._store.discard(action.stream, action.seq)
            case act.Grant():
                self._granting.add(action.stream, action.credits)
            case act.Hold():
                self._store.hold(action.stage, action.stream, action.seq, action.from_seq)
            case act.Load():
                identity = self._crew.identity(action.worker)
                self._loads.setdefault(identity, set()).add(action.replica)
                self._send(identity, LoadReplica(action.replica, action.stage, action.choice))
            case act.StartWorker():
                self._crew.start(action.worker, self._make_worker(action.worker, action.incarnation))
            case act.StopWorker():
                self._send(self._crew.identity(action.worker), Stop())
            case act.KillWorker():
                self._crew.kill(action.worker, action.reason)
            case act.Forget():
                self._out[action.invocation].wanted = False
            case act.Restore():
                self._restore(action)
            case act.Capture():
                capture = CaptureState(action.replica, action.stage, action.stream, action.seq)
                self._send(self._crew.identity(action.worker), capture)
            case act.Checkpoint():
                point = self._book.point(action, self._partial.files.get(action.stream, []))
                self._observer.checkpoint(action.stream, point, self._clock.now_s())
            case act.Quarantine():
                inputs = self._store.inputs(self._stages[action.stage], action.stream, action.seq, action.index)
                item = ItemInputs(action.stream, action.seq, action.index, inputs)
                self._observer.quarantined(action, item, self._arena)
            case act.StopSource():
                self._send(f"source:{action.stream}", Stop())
                self._close_source(action.stream)
            case act.CloseStream():
                self._flush()
                self._send(f"source:{action.stream}", Stop())
                if (writer := self._writers.pop(action.stream, None)) is not None:
                    self._answers.append(writer.close())
                elif action.stream in self._awaited:  # it never came: there are no sinks
                    self._answers.append(Closed(action.stream, [], {}))
                else:
                    self._send(f"sink:{action.stream}", Close())
            case act.Finish():
                self._partial.outcome, self._partial.reason = action.outcome, action.reason
                self._partial.hint = next(
                    (h for error, h in self._hints.items() if action.reason.endswith(error)), None
                )
                self._result = self._partial

    def _dispatch(self, action: act.Dispatch) -> None:
        items, chain = inputs_of(action, self._stages, self._store)
        identity = self._crew.identity(action.worker)
        lent: list[tuple[int, int]] = []
        if self._crew.is_process(action.worker):  # of a chain's stages one has its outputs kept
            pictures = max(num_pictures(self._stages[name]) for name in (action.stage, *action.chain))
            lent = self._arena.lend(pictures * len(items))
        out = self._out[action.invocation] = Outstanding(action, identity, items, lent, chain)
        for slot, generation in out.given:
            self._arena.lease(slot, generation)
        self._send(identity, Invoke(action.invocation, action.replica, items, action.snapshot, lent, chain))

    def _restore(self, action: act.Restore) -> None:
        snapshot, items, whole = self._journal.recall(action.stage, action.stream)
        if not whole:
            self._observer.forgotten(action.stage, action.stream, "the operator gives no snapshot")
        identity = self._crew.identity(action.worker)
        self._send(identity, RestoreState(action.replica, action.stage, action.stream, snapshot, items))

    def _deliver(self, action: act.Deliver) -> None:
        delivered = action.outcome == "delivered"
        source = self._store.source(action.stream, action.seq)
        self._deliveries.setdefault(action.stream, []).append(
            Delivery(
                action.sink,
                action.seq,
                source.pts if source is not None else 0,
                source.pts_s if source is not None else 0.0,
                source.captured_at_s if source is not None else 0.0,
                action.outcome,
                action.stage,
                action.reason,
                self._store.values(self._sinks[action.sink].inputs, action.stream, action.seq) if delivered else [],
                action.mark,
            )
        )

    def _flush(self) -> None:
        for stream, items in self._deliveries.items():
            if (writer := self._writers.get(stream)) is not None:
                self._answers += writer.write(items)
            else:
                self._send(f"sink:{stream}", Deliveries(items))
        self._deliveries.clear()
        for stream, credits in self._granting.due():
            self._send(f"source:{stream}", Granted(credits))

    def _send(self, peer: str, message: Message) -> None:
        data = encode(message)
        if peer in self._known:
            self._hand(peer, data)
        elif peer not in self._gone:
            self._unsent.setdefault(peer, []).append(data)

    def _hand(self, peer: str, data: bytes, *, gone: bool = False) -> None:
        if peer in self._gone and not gone:
            return
        try:
            self._router.send(peer.encode(), _SNDMORE)
            self._router.send(data)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            # It has hung up: after its last answer that is right, before it the crash is noticed elsewhere.
            self._gone.add(peer)

    # -- threads and processes ----------------------------------------------------------------------------------

    def _spawn(self, name: str, peer: Peer) -> None:
        thread = threading.Thread(target=self._serve, args=(name, peer), name=f"llamapipe {name}", daemon=True)
        self._threads[name] = thread
        thread.start()

    def _serve(self, name: str, peer: Peer) -> None:
        try:
            peer.serve(self._context, self._address)
        except BaseException as error:  # sys.exit() in a library is no way for a thread to end unnoticed
            self._crashes[name] = f"{type(error).__name__}: {error}"

    def _notice_dead(self) -> None:
        """A source or sink that crashed is reported as what control knows: an ended source, a failed sink."""
        for name in list(self._crashes):
            reason = self._crashes.pop(name)
            self._gone.add(name)
            role, _, stream = name.partition(":")
            self._partial.errors.setdefault(stream, reason)
            if role == "source":
                arrived = self._controller.ledger.decoded[stream]
                self._tell(ev.StreamEnded(stream, arrived, reason))
            else:
                for sink in self._sinks:
                    self._sink_failed(stream, sink, reason)
                self._tell(ev.StreamClosed(stream))

    def _notice_workers(self, now_s: float, readable: Container[object]) -> None:
        """Workers that have ended, fallen silent or are heard again."""
        for lost in self._crew.lost(readable):
            self._drain(maxsize)  # what it had sent before
            self._gone.add(lost.identity)
            self._known.discard(lost.identity)
            self._unsent.pop(lost.identity, None)
            self._loads.pop(lost.identity, None)
            for number in [n for n, out in self._out.items() if out.identity == lost.identity]:
                out = self._out.pop(number)
                if lost.reaped:
                    give_back(self._arena, out, None)
                else:  # somebody may still write to what was lent, and read what it was given
                    self._orphans[number] = out
            if self._result is None:
                self._tell(ev.WorkerLost(lost.worker, lost.reason))
        for worker, silent in self._crew.silence(now_s):
            self._tell(ev.WorkerSilent(worker) if silent else ev.WorkerBack(worker))

    def _shut_down(self) -> None:
        """Every thread and process ends before the socket does: nothing is left to linger."""
        self._frozen.thaw()
        for writer in self._writers.values():
            writer.close(abort=True)
        for name in self._threads:
            role, _, stream = name.partition(":")
            if role == "source":
                self._close_source(stream)
            closing: Message = Close(abort=True) if role == "sink" else Stop()
            if self._result is None or role == "source":
                self._send(name, closing)
        if self._result is None:
            for identity in self._crew.identities():
                self._send(identity, Stop())
        for thread in self._threads.values():
            while thread.is_alive():
                thread.join(_POLL_MS / 1000)
                self._introduce_late()
        loading = {identity for identity, replicas in self._loads.items() if replicas}
        self._crew.end(self._introduce_late, loading if self._interrupt.is_set() else (), loading)
        self._router.close()

    def _introduce_late(self) -> None:
        """Tell those who come up only now that they may go."""
        while (arrived := received(self._router)) is not None:
            peer, data = arrived
            if peer not in self._known and isinstance(of_stranger(data), Hello):
                self._known.add(peer)
                for unsent in self._unsent.pop(peer, ()):
                    self._hand(peer, unsent)
