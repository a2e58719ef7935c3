"""A worker: loads replicas and runs invocations, one at a time, until it is told to stop.

The same loop serves threads (inproc://) and processes (ipc://). Other hosts have no workers: docs/adr/0021.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import zmq

from llamapipe.clock import Clock
from llamapipe.errors import LlamapipeError
from llamapipe.runtime.arena import PictureSpace
from llamapipe.runtime.chaining import PassingSpace, run_chain
from llamapipe.runtime.dealing import dealer
from llamapipe.runtime.host import StageHost, StageSetup, StreamFacts
from llamapipe.wire import (
    Captured,
    CaptureState,
    Done,
    Hello,
    Invoke,
    Loaded,
    LoadReplica,
    Message,
    NewStream,
    Restored,
    RestoreState,
    Stop,
    decode,
    encode,
)

__all__ = ["Worker"]


class Worker:
    """Hosts replicas of any stage. ``identity`` is its name on the socket, one of its own for each incarnation."""

    def __init__(
        self,
        name: str,
        *,
        identity: str | None = None,
        setups: Mapping[str, StageSetup],
        streams: Mapping[str, StreamFacts],
        arena: PictureSpace,
        clock: Clock,
        token: str = "",
        lent: Callable[[Sequence[tuple[int, int]]], None] | None = None,
    ) -> None:
        self.name = name
        self.identity = identity if identity is not None else name
        self._setups = setups
        self._streams = dict(streams)  # replicas look into it: a stream may be new to them
        self._space = PassingSpace(arena)
        self._clock = clock
        self._token = token
        self._lent = lent
        self._hosts: dict[str, StageHost] = {}
        self._left = threading.Event()

    def leave(self) -> None:
        """Nobody takes its answers any more: end as soon as what it is at lets it. Called from another thread."""
        self._left.set()

    def serve(self, context: zmq.Context[Any], address: str) -> None:
        """Connect and work until Stop. Blocks."""
        socket = dealer(context, self.identity, address)
        try:
            socket.send(encode(Hello(self.identity, "worker", token=self._token)))
            while not isinstance(message := decode(socket.recv()), Stop):
                if isinstance(message, NewStream):
                    self._streams[message.stream] = StreamFacts(message.width, message.height, message.fps)
                    continue
                answer = self._answer(message)
                if self._left.is_set():
                    break
                socket.send(encode(answer))
        finally:
            for host in self._hosts.values():
                host.close()
            socket.close()

    def _answer(self, message: Message) -> Message:
        if isinstance(message, Invoke):
            return self._invoke(message)
        if isinstance(message, LoadReplica):
            return self._load(message)
        if isinstance(message, CaptureState):
            return self._capture(message)
        if isinstance(message, RestoreState):
            return self._restore(message)
        raise LlamapipeError(f"worker {self.name} cannot answer a {type(message).__name__}")

    def _invoke(self, message: Invoke) -> Done:
        started_s = self._clock.now_s()
        if self._lent is not None:
            self._lent(message.reserved)
        host = self._hosts[message.replica]
        if message.chain:
            return run_chain(
                message, [host, *(self._hosts[c.replica] for c in message.chain)], self._space, self._clock
            )
        items = host.run(message.items)
        ended_s = self._clock.now_s()
        state = self._snapshot(message.replica, message.items[0].stream) if message.snapshot else None
        return Done(message.invocation, items, started_s, ended_s, state)

    def _snapshot(self, replica: str, stream: str) -> bytes | None:
        try:
            return self._hosts[replica].snapshot(stream)
        except BaseException:  # the stage goes on; it cannot be brought up elsewhere, as one without a snapshot
            return None

    def _capture(self, message: CaptureState) -> Captured:
        state = self._snapshot(message.replica, message.stream)
        return Captured(message.stage, message.stream, message.seq, state)

    def _restore(self, message: RestoreState) -> Restored:
        host = self._hosts[message.replica]
        try:
            host.restore(message.stream, message.state, message.journal)
        except BaseException as error:
            host.restore(message.stream, None, ())
            return Restored(message.stage, message.stream, f"{type(error).__name__}: {error}")
        return Restored(message.stage, message.stream)

    def _load(self, message: LoadReplica) -> Loaded:
        started_s = self._clock.now_s()
        try:
            host = StageHost(self._setups[message.stage], self._space, self._streams, message.choice)
        except BaseException as error:
            hint = error.hint if isinstance(error, LlamapipeError) else None
            text = error.message if isinstance(error, LlamapipeError) else f"{type(error).__name__}: {error}"
            return Loaded(message.replica, self._clock.now_s() - started_s, text, hint)
        self._hosts[message.replica] = host
        return Loaded(message.replica, self._clock.now_s() - started_s, None, None, host.variant)
