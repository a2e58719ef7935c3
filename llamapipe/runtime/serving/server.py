"""Drives the serving controller: one ROUTER socket, one thread, one poll loop.

Queries and messages become events, actions become messages and processes. Decides nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Container, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import zmq
from msgspec.structs import replace

from llamapipe.catalog import Query
from llamapipe.clock import Clock
from llamapipe.control.serving import actions as act
from llamapipe.control.serving import events as ev
from llamapipe.control.serving.program import Problem, Solution
from llamapipe.data import Boxes, FrameRef, Native
from llamapipe.errors import LlamapipeError, QueryRefused
from llamapipe.runtime.arena import Arena
from llamapipe.runtime.crew import Crew, WorkerPeer
from llamapipe.runtime.dealing import listener, of_stranger, received
from llamapipe.runtime.frozen import Frozen
from llamapipe.runtime.process import ProcessWorker, Spares
from llamapipe.runtime.serving.awake import AwakeClock
from llamapipe.wire import (
    PROTOCOL,
    Hello,
    Loaded,
    Message,
    Predict,
    Predicted,
    Pulse,
    Stop,
    Wanted,
    decode,
    decode_value,
    encode,
)

__all__ = ["Control", "Served", "Server", "Watch"]

_POLL_MS = 50  # how late a dead thread may be noticed
_SILENT_AFTER_S = 5.0
_CALM_S = 0.005  # without a query: then a spare process may prepare on a machine that has no core to itself for it
_ROOMY = 2  # cores that no replica holds: one for whoever asks and answers, one for a spare process

Watch = Callable[[ev.ServingEvent, float, Sequence[act.ServingAction]], None]
"""Is told of every event that control has taken: (event, now_s, actions). Called by the server's thread."""


class Control(Protocol):
    """Who decides: `llamapipe.control.serving.serving.ServingController`."""

    def step(self, event: ev.ServingEvent, now_s: float) -> Sequence[act.ServingAction]:
        """Take an event; what is to be done now."""
        ...

    def next_deadline_s(self) -> float | None:
        """When it wants to be told that time has passed."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """What came of a query: boxes per picture, and how control says it was served."""

    boxes: tuple[Boxes, ...]
    answer: act.Answer


@dataclass(slots=True)
class _Asked:
    """A query that is neither answered nor refused."""

    query: Query
    pictures: tuple[FrameRef, ...]
    future: Future[Served]
    held_up_s: float  # that the server had been, when it came
    boxes: list[bytes] = field(default_factory=list)  # by picture; empty bytes: not yet


@dataclass(slots=True)
class _Replica:
    action: act.StartReplica
    identity: str
    started_s: float
    up: bool = False  # it can be sent to
    ready: bool = False
    stopping: bool = False
    error: str = ""  # why it could not be loaded


class Server:
    """Serves queries until it is closed. A context manager; `submit` may be called by any thread.

    ``make_replica`` is given what control wants started and the name that it shall have on the socket. ``solve`` runs
    beside everything else. ``spares`` is filled when a replica is ready, or, with less than two of the machine's
    ``num_cores`` that no replica holds, when no query is worked on. ``address`` is that of threads, ``process_address``
    that of processes, where there are any.
    """

    def __init__(
        self,
        controller: Control,
        *,
        arena: Arena,
        clock: Clock,
        make_replica: Callable[[act.StartReplica, str], WorkerPeer],
        solve: Callable[[Problem, float], Solution | None],
        address: str,
        process_address: str | None = None,
        token: str = "",
        watch: Watch | None = None,
        spares: Spares | None = None,
        num_cores: int = 0,
    ) -> None:
        self._controller = controller
        self._arena = arena
        self._clock = clock
        self._awake = AwakeClock(clock)  # by which waits, silence and control go
        self._make_replica = make_replica
        self._solve = solve
        self._address = address
        self._process_address = process_address
        self._token = token
        self._watch = watch
        self._spares = spares
        self._num_cores = num_cores
        self._spare_wanted = False
        self._worked_s = 0.0  # when a query was last worked on
        self._inbox: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._next_id = 0
        self._frozen = Frozen()
        self._asked: dict[int, _Asked] = {}
        self._replicas: dict[str, _Replica] = {}
        self._names: dict[str, str] = {}  # identity -> replica
        self._proven: set[str] = set()  # identities that this server has started
        self._unstarted: list[str] = []  # replicas that could not be started
        self._batches: dict[int, act.Serve | act.Probe] = {}
        self._incarnations = 0
        self._core_s = 0.0  # reserved by replicas that have ended
        self._closing = False
        self._closed = False
        self._crash: BaseException | None = None
        self._pool = ThreadPoolExecutor(1, "llamapipe solver")
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._bound = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llamapipe server", daemon=True)

    def __enter__(self) -> Server:
        """Raises LlamapipeError where it cannot be opened, or was before."""
        with self._lock:
            if self._closed or self._thread.ident is not None:
                raise LlamapipeError("the session is closed" if self._closed else "the session is open already")
            self._thread.start()
        self._bound.wait()
        if self._crash is not None:
            raise self._crash
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- for any thread ------------------------------------------------------------------------------------------

    def submit(self, query: Query, pictures: Sequence[Native], *, arrived_s: float | None = None) -> Future[Served]:
        """Ask. The future gives `Served`, or raises QueryRefused.

        ``arrived_s`` is when the query was due, where that is not now: its latency counts from there. Raises
        OutputError where there is no memory for the pictures, LlamapipeError where the server is not open.
        """
        now_s = self._clock.now_s() if arrived_s is None else arrived_s
        refs: list[FrameRef] = []
        try:
            for seq, picture in enumerate(pictures):
                refs.append(
                    self._arena.put(picture, stream="query", seq=seq, pts=seq, time_base=(1, 1), captured_at_s=now_s)
                )
            held_up_s = self._awake.held_up_s
            asked = _Asked(query, tuple(refs), Future(), held_up_s, [b""] * len(refs))
            self._post(lambda number: self._tell(ev.QueryArrived(number, query, now_s - held_up_s)), asked)
        except BaseException:
            self._release(refs)
            raise
        return asked.future

    def prepare(self, query: Query, *, items_per_s: float = 0.0, hold_s: float = 10.0) -> Future[Served]:
        """Have something ready for such queries; the future is done when it is. It may raise QueryRefused."""
        asked = _Asked(query, (), Future(), self._awake.held_up_s)
        self._post(lambda number: self._tell(ev.Prepare(number, query, items_per_s, hold_s)), asked)
        return asked.future

    def tell(self, event: ev.ServingEvent) -> None:
        """Hand control an event from outside, such as profiles that have changed."""
        self._post(lambda _: self._tell(event))

    def reserved_core_s(self) -> float:
        """Core-seconds that replicas have held so far, from being started until they were gone."""
        now_s = self._clock.now_s()
        with self._lock:
            return self._core_s + sum(
                len(replica.action.cores) * (now_s - replica.started_s) for replica in self._replicas.values()
            )

    def processes(self) -> dict[str, int]:
        """Process ids of replicas that are ready, by replica; those in threads are left out."""
        with self._lock:
            return {
                name: pid
                for name, replica in self._replicas.items()
                if replica.ready and (pid := self._crew.pid(name)) is not None
            }

    def close(self, *, now: bool = False) -> None:
        """Serve what waits, or refuse it (``now``), end every replica, and stop. May be called twice, and unopened."""
        with self._lock:
            opened = self._thread.ident is not None
            self._closed |= not opened
        if opened:
            with contextlib.suppress(LlamapipeError):  # somebody else closes it
                self._post(lambda _: self._begin_closing(now), last=True)
            self._thread.join()
        self._pool.shutdown()
        with self._lock:
            if self._wake >= 0:
                os.close(self._wake)
                self._wake = -1
        if self._crash is not None:
            raise self._crash

    def _post(self, what: Callable[[int], None], asked: _Asked | None = None, *, last: bool = False) -> None:
        """Have the server's thread do something, in order; it is given a number of its own. Nothing after ``last``."""
        with self._lock:
            if self._closed:
                raise LlamapipeError("the session is closed")
            if self._thread.ident is None:  # nobody would ever answer
                raise LlamapipeError("the session is not open", hint="open it: with Session() as session: ...")
            self._closed = last
            number = self._next_id
            self._next_id += 1
            if asked is not None:
                self._asked[number] = asked
            self._inbox.append(lambda: what(number))
            os.eventfd_write(self._wake, 1)

    # -- the server's thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._awake.own()
        context: zmq.Context[Any] = zmq.Context.instance()
        try:
            self._router = listener(context, self._address, self._process_address)
            self._poller = zmq.Poller()
            self._poller.register(self._router, zmq.POLLIN)
            self._poller.register(self._wake, zmq.POLLIN)
            self._crew = Crew(
                context,
                self._address,
                self._process_address,
                self._poller,
                self._awake,
                silent_after_s=_SILENT_AFTER_S,
            )
            self._bound.set()
            while not (self._closing and not self._asked and not self._replicas):
                ready = dict(self._poller.poll(self._wait_ms()))
                self._turn(ready)
        except BaseException as error:
            self._crash = error
        finally:
            self._bound.set()
            self._end()

    def _turn(self, ready: Container[object]) -> None:
        if self._wake in ready:
            os.eventfd_read(self._wake)
        while self._inbox:
            self._inbox.popleft()()
        self._drain()
        self._notice_replicas(ready)
        deadline_s = self._controller.next_deadline_s()
        if deadline_s is not None and self._awake.now_s() >= deadline_s:
            self._tell(ev.Tick())
        self._mind_spare()

    def _wait_ms(self) -> int:
        wait_s = _POLL_MS / 1000
        if self._spare_wanted and not self._batches:
            wait_s = _CALM_S
        deadline_s = self._controller.next_deadline_s()
        if deadline_s is not None:
            wait_s = min(wait_s, deadline_s - self._awake.now_s())
        return max(0, min(_POLL_MS, int(wait_s * 1000) + 1))

    def _mind_spare(self) -> None:
        """Have a spare process prepare, but not where it would be in the way of queries."""
        if not self._spare_wanted or self._spares is None or self._closing:
            return
        if self._crowded() and (self._batches or self._awake.now_s() < self._worked_s + _CALM_S):
            return
        self._spares.fill()
        self._spares.go_on()
        self._spare_wanted = not self._spares.prepared

    def _crowded(self) -> bool:
        """Whether a process that prepares shares a core with a replica, or with those who bring it its queries."""
        return self._num_cores - sum(len(replica.action.cores) for replica in self._replicas.values()) < _ROOMY

    def _begin_closing(self, now: bool) -> None:
        self._closing = True
        self._tell(ev.Close(now))

    # -- messages to events --------------------------------------------------------------------------------------

    def _drain(self) -> None:
        while (arrived := received(self._router)) is not None:
            peer, data = arrived
            message = decode(data) if peer in self._proven else of_stranger(data)
            if message is not None:
                self._take(peer, message)

    def _take(self, peer: str, message: Message) -> None:
        if isinstance(message, Predicted):
            self._predicted(message)
        elif isinstance(message, Pulse):
            self._crew.heard(message.worker, self._awake.now_s())
        elif isinstance(message, Loaded):
            self._loaded(peer, message)
        elif isinstance(message, Hello):
            self._hello(peer, message)

    def _hello(self, peer: str, message: Hello) -> None:
        name = self._crew.current(peer)
        if name is None:
            return
        if message.protocol != PROTOCOL or not self._crew.proves(peer, message.token):
            self._crew.kill(name, "it did not prove that this server started it")
            return
        self._proven.add(peer)
        replica = self._replicas[name]
        replica.up = True
        if replica.stopping:
            self._send(name, Stop())

    def _loaded(self, peer: str, message: Loaded) -> None:
        name = self._names.get(peer)
        if name is None or self._crew.current(peer) is None:
            return
        replica = self._replicas[name]
        if message.error is None:
            replica.ready = True
            self._frozen.freeze()
            self._tell(ev.ReplicaReady(name, message.load_s))
            self._spare_wanted = self._spares is not None
        else:  # its cores are free when it has ended
            replica.error = message.error if message.hint is None else f"{message.error} ({message.hint})"
            self._stop(name)

    def _predicted(self, message: Predicted) -> None:
        batch = self._batches.pop(message.batch, None)
        if batch is None:  # of a replica that was given up meanwhile
            return
        self._worked_s = self._awake.now_s()
        if isinstance(batch, act.Serve):
            places = [(part.query_id, part.first + i) for part in batch.parts for i in range(part.count)]
            for i, ((number, item), boxes) in enumerate(zip(places, message.boxes, strict=True)):
                asked = self._asked.get(number)
                if asked is not None and i not in message.errors:
                    asked.boxes[item] = boxes
        self._tell(ev.BatchDone(message.batch, message.ended_s - message.started_s, message.errors))

    def _notice_replicas(self, readable: Container[object]) -> None:
        for lost in self._crew.lost(readable):
            self._drain()  # what it had sent before
            self._gone(lost.worker, lost.reason)
        for worker, _ in self._crew.finished():
            self._gone(worker, "")
        while self._unstarted:
            self._gone(self._unstarted.pop(), "")
        for worker, silent in self._crew.silence(self._awake.now_s()):
            if silent:
                self._crew.kill(worker, f"it was silent for {_SILENT_AFTER_S:g} s")

    def _gone(self, name: str, reason: str) -> None:
        replica = self._replicas[name]
        with self._lock:
            del self._replicas[name]
            self._core_s += len(replica.action.cores) * (self._clock.now_s() - replica.started_s)
        del self._names[replica.identity]
        self._crew.forget(name)
        for number in [number for number, batch in self._batches.items() if batch.replica == name]:
            del self._batches[number]
        if replica.error:
            self._tell(ev.ReplicaFailed(name, replica.error))
        elif replica.stopping:
            self._tell(ev.ReplicaStopped(name))
        elif not replica.ready:
            self._tell(ev.ReplicaFailed(name, f"{reason or 'it ended'} while it loaded"))
        else:
            self._tell(ev.ReplicaLost(name, reason))

    def _tell(self, event: ev.ServingEvent) -> None:
        now_s = self._awake.now_s()
        actions = self._controller.step(event, now_s)
        if self._watch is not None:
            self._watch(event, now_s, actions)
        for action in actions:
            self._carry_out(action)

    # -- actions to messages -------------------------------------------------------------------------------------

    def _carry_out(self, action: act.ServingAction) -> None:
        match action:
            case act.Serve():
                if self._spare_wanted and self._spares is not None and self._crowded():
                    self._spares.hold()
                items: list[Wanted] = []
                for part in action.parts:
                    asked = self._asked[part.query_id]
                    query = asked.query
                    for ref in asked.pictures[part.first : part.first + part.count]:
                        items.append(Wanted(ref, query.labels, query.min_score))
                self._batches[action.batch_id] = action
                self._send(action.replica, Predict(action.batch_id, items))
            case act.Probe():
                self._batches[action.batch_id] = action
                self._send(action.replica, Predict(action.batch_id, [], action.batch))
            case act.Answer():
                asked = self._asked.pop(action.query_id)
                boxes = tuple(value for data in asked.boxes if isinstance(value := decode_value(data), Boxes))
                self._release(asked.pictures)
                asked.future.set_result(Served(boxes, self._truly(action, asked)))
            case act.Refuse():
                asked = self._asked.pop(action.query_id)
                self._release(asked.pictures)
                asked.future.set_exception(QueryRefused(action.reason, why=action.code, nearest=_told(action.nearest)))
            case act.StartReplica():
                self._start(action)
            case act.StopReplica():
                self._stop(action.replica)
            case act.KillReplica():
                if action.replica not in self._unstarted:
                    self._crew.kill(action.replica, action.reason)
            case act.Solve():
                self._pool.submit(self._solved, action)

    def _start(self, action: act.StartReplica) -> None:
        self._incarnations += 1
        identity = f"{action.replica}#{self._incarnations}"
        with self._lock:
            self._replicas[action.replica] = _Replica(action, identity, self._clock.now_s())
        self._names[identity] = action.replica
        try:
            peer = self._make_replica(action, identity)
            if isinstance(peer, ProcessWorker):  # here, so that the crew has none that was never there
                assert self._process_address is not None
                peer.start(self._process_address)
        except (LlamapipeError, OSError) as error:  # no process, file or core is left: as one that cannot be loaded
            self._replicas[action.replica].error = str(error)
            self._unstarted.append(action.replica)
            return
        self._crew.start(action.replica, peer)

    def _truly(self, action: act.Answer, asked: _Asked) -> act.Answer:
        """The answer as whoever asked has seen it: to him, time has passed while the server was held up."""
        held_up_s = self._awake.held_up_s - asked.held_up_s
        if not held_up_s or not asked.pictures:
            return action
        latency_s, most_s = action.latency_s + held_up_s, asked.query.latency_s
        return replace(action, latency_s=latency_s, late=action.late or (most_s is not None and latency_s > most_s))

    def _stop(self, name: str) -> None:
        if name in self._unstarted:
            return
        replica = self._replicas[name]
        replica.stopping = True
        if replica.up:
            self._send(name, Stop())
        elif self._crew.is_process(name):
            self._crew.kill(name, "it was stopped before it had come up")

    def _solved(self, action: act.Solve) -> None:
        started_s = self._clock.now_s()
        try:
            solution = self._solve(action.problem, action.time_limit_s)
        except Exception:  # control has a way without
            solution = None
        seconds = self._clock.now_s() - started_s
        try:
            self.tell(ev.Solved(action.solve_id, solution, seconds))
        except LlamapipeError:  # closed meanwhile
            return

    def _send(self, name: str, message: Message) -> None:
        try:
            self._router.send_multipart([self._replicas[name].identity.encode(), encode(message)])
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            # It has just ended, which is noticed in a moment.

    def _release(self, refs: Sequence[FrameRef]) -> None:
        for ref in refs:
            self._arena.release(ref.slot, ref.generation)

    def _end(self) -> None:
        """Nothing is left: no replica, no future that somebody waits for."""
        self._frozen.thaw()
        with self._lock:
            self._closed = True
        if self._spares is not None:
            self._spares.close()
        for asked in self._asked.values():
            asked.future.set_exception(self._crash or LlamapipeError("the session was closed"))
        self._asked.clear()
        for name in list(self._replicas):
            self._stop(name)
        loading = [replica.identity for replica in self._replicas.values() if not replica.ready]
        self._crew.end(self._introduce_late, loading)
        self._router.close()

    def _introduce_late(self) -> None:
        """Tell those who come up only now that they may go."""
        while (arrived := received(self._router)) is not None:
            peer, data = arrived
            message = of_stranger(data)
            if isinstance(message, Hello):
                self._hello(peer, message)


def _told(nearest: act.Nearest | None) -> str | None:
    if nearest is None:
        return None
    accuracy = "" if nearest.accuracy is None else f", accuracy {nearest.accuracy:.3g}"
    cost = f"{nearest.cost * 1000:.3g} core-ms a picture"
    return f"{nearest.variant} in {nearest.latency_s * 1000:.3g} ms for {cost}{accuracy}"
