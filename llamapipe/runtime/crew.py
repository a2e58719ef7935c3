"""The engine's workers, threads and processes alike: starting them, noticing that they end, ending them."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Collection, Container
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import zmq

from llamapipe.clock import Clock
from llamapipe.errors import LlamapipeError
from llamapipe.runtime.process import ProcessWorker

__all__ = ["Crew", "Lost", "ThreadWorker", "WorkerPeer"]


class ThreadWorker(Protocol):
    """A worker that serves in a thread of this process."""

    identity: str  # its name on the socket

    def serve(self, context: zmq.Context[Any], address: str) -> None:
        """Connect and work until told to stop. Blocks."""
        ...

    def leave(self) -> None:
        """Nobody takes its answers any more: end as soon as what it is at lets it. Called from another thread."""
        ...


WorkerPeer: TypeAlias = ThreadWorker | ProcessWorker

_END_S = 5.0  # that workers may take to end once they were told to stop
_LEAVE_S = 0.5  # that a worker which is loading a model may take to end, where nobody waits for the model
_NAP_S = 0.02
_BOOT_S = 60.0  # that a process may take to its first heartbeat


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker that has ended without being told to."""

    worker: str
    identity: str
    reason: str
    reaped: bool  # nothing of it is left; a thread that was given up may still be running


@dataclass(slots=True)
class _Member:
    peer: WorkerPeer
    thread: threading.Thread | None = None
    pidfd: int = -1
    started_s: float = 0.0
    heard_s: float = -1.0  # when its heart was heard last; below 0 not yet
    silent: bool = False
    killed: str = ""  # why
    crash: str = ""  # of a thread


class Crew:
    """All workers by name; of each, the one who fills its place now."""

    def __init__(
        self,
        context: zmq.Context[Any],
        address: str,
        process_address: str | None,
        poller: zmq.Poller,
        clock: Clock,
        *,
        silent_after_s: float,
    ) -> None:
        self._context = context
        self._address = address
        self._process_address = process_address
        self._poller = poller
        self._clock = clock
        self._silent_after_s = silent_after_s
        self._members: dict[str, _Member] = {}
        self._given_up: list[ThreadWorker] = []
        self._workers: dict[str, str] = {}  # identity -> worker, of those who are here

    def start(self, worker: str, peer: WorkerPeer) -> None:
        """Bring one up. One that cannot be started is lost like one that dies at once, and tried again as that is."""
        member = self._members[worker] = _Member(peer, started_s=self._clock.now_s())
        self._workers[peer.identity] = worker
        try:
            if isinstance(peer, ProcessWorker):
                assert self._process_address is not None
                member.pidfd = peer.start(self._process_address)
                self._poller.register(member.pidfd, zmq.POLLIN)
            else:
                name = f"llamapipe {peer.identity}"
                thread = threading.Thread(target=self._serve, args=(member, peer), name=name, daemon=True)
                thread.start()
                member.thread = thread
        except (LlamapipeError, OSError, RuntimeError) as error:  # no more processes, descriptors or memory just now
            member.crash = f"it could not be started: {error}"

    def _serve(self, member: _Member, peer: ThreadWorker) -> None:
        try:
            peer.serve(self._context, self._address)
        except BaseException as error:  # sys.exit() in an operator is no way for a worker to end unnoticed
            member.crash = f"{type(error).__name__}: {error}"

    def identity(self, worker: str) -> str:
        """Name on the socket of whoever fills the place."""
        return self._members[worker].peer.identity

    def identities(self) -> list[str]:
        """Names on the socket of all who are here."""
        return list(self._workers)

    def current(self, identity: str) -> str | None:
        """The worker of that name on the socket; None for one that is gone."""
        return self._workers.get(identity)

    def is_process(self, worker: str) -> bool:
        """Whether it is a process."""
        return isinstance(self._members[worker].peer, ProcessWorker)

    def pid(self, worker: str) -> int | None:
        """Process id of one that is a process."""
        peer = self._members[worker].peer
        return peer.pid if isinstance(peer, ProcessWorker) else None

    def proves(self, identity: str, token: str) -> bool:
        """Whether it is who it says it is."""
        peer = self._members[self._workers[identity]].peer
        return not isinstance(peer, ProcessWorker) or token == peer.token

    def heard(self, identity: str, now_s: float) -> None:
        """A heartbeat."""
        worker = self._workers.get(identity)
        if worker is not None:
            self._members[worker].heard_s = now_s

    def shift(self, by_s: float) -> None:
        """So much time has passed in which nobody listened to heartbeats."""
        for member in self._members.values():
            member.started_s += by_s
            member.heard_s += by_s if member.heard_s >= 0 else 0.0

    def silence(self, now_s: float) -> list[tuple[str, bool]]:
        """Processes that have just fallen silent (True) or are heard again (False)."""
        changed: list[tuple[str, bool]] = []
        for worker in self._workers.values():
            member = self._members[worker]
            if member.thread is not None or member.crash:  # threads have no heartbeat
                continue
            if member.heard_s < 0:
                silent = now_s - member.started_s > _BOOT_S
            else:
                silent = now_s - member.heard_s > self._silent_after_s
            if silent != member.silent:
                member.silent = silent
                changed.append((worker, silent))
        return changed

    def kill(self, worker: str, reason: str) -> None:
        """End one by force. A thread cannot be ended: it is left to itself."""
        member = self._members[worker]
        member.killed = reason
        if isinstance(member.peer, ProcessWorker):
            member.peer.kill()
        else:
            self._given_up.append(member.peer)

    def lost(self, readable: Container[object]) -> list[Lost]:
        """Those that have ended since the last look; ``readable`` are the descriptors that the poller found so."""
        found: list[Lost] = []
        for identity, worker in list(self._workers.items()):
            member = self._members[worker]
            if isinstance(member.peer, ProcessWorker) and member.pidfd >= 0:
                if member.pidfd not in readable:
                    continue
                self._poller.unregister(member.pidfd)
                reason = member.peer.reap()
                reaped = True
            elif member.killed or member.crash:
                reason, reaped = member.crash, bool(member.crash)
            else:
                continue
            del self._workers[identity]
            found.append(Lost(worker, identity, member.killed or reason, reaped))
        return found

    def finished(self) -> list[tuple[str, str]]:
        """Threads that were told to stop and have ended since the last look, (worker, identity)."""
        found = [
            (worker, identity)
            for identity, worker in self._workers.items()
            if (thread := self._members[worker].thread) is not None
            and not thread.is_alive()
            and not self._members[worker].crash
        ]
        for _, identity in found:
            del self._workers[identity]
        return found

    def forget(self, worker: str) -> None:
        """Let go of one that has ended for good."""
        self._members.pop(worker, None)

    def end(self, meanwhile: Callable[[], None], unwanted: Collection[str], loading: Collection[str] = ()) -> None:
        """Wait for all who were told to stop; force processes that do not, and leave threads to themselves.

        ``unwanted`` are identities of those who are loading what nobody waits for, ``loading`` of all who load. Of
        these, threads, which cannot be forced, end by themselves once they have loaded it.
        """
        begun_s = self._clock.now_s()
        for peer in self._given_up:  # where one comes back from what it hangs in, it ends
            peer.leave()
        for identity, worker in self._workers.items():
            member = self._members[worker]
            if member.crash:
                continue
            if isinstance(member.peer, ProcessWorker):
                until_s = begun_s + (_LEAVE_S if identity in unwanted else _END_S)
                while not member.peer.ended and self._clock.now_s() < until_s:
                    meanwhile()
                    self._clock.sleep(_NAP_S)
                member.peer.kill()
                member.peer.reap()
                continue
            assert member.thread is not None
            if identity in unwanted:
                member.peer.leave()
            while member.thread.is_alive():
                if identity in unwanted and self._clock.now_s() >= begun_s + _LEAVE_S:
                    # Libraries crash where the interpreter goes away under a thread that they compile a model in.
                    atexit.register(member.thread.join)
                    break
                if self._clock.now_s() >= begun_s + _END_S:  # it hangs; another worker has done its work
                    member.peer.leave()
                    if identity in loading:
                        atexit.register(member.thread.join)
                    break
                member.thread.join(_NAP_S)
                meanwhile()
