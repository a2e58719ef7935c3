"""A worker: loads replicas and runs invocations, one at a time, until it is told to stop.

The same loop serves threads (inproc://), processes (ipc://) and other hosts (tcp://).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import zmq

from llamapipe.clock import Clock
from llamapipe.errors import LlamapipeError
from llamapipe.runtime.arena import LocalArena
from llamapipe.runtime.host import StageHost, StageSetup, StreamFacts
from llamapipe.wire import Done, Hello, Invoke, Loaded, LoadReplica, Message, Stop, decode, encode

__all__ = ["Worker"]


class Worker:
    """Hosts replicas of any stage."""

    def __init__(
        self,
        name: str,
        *,
        setups: Mapping[str, StageSetup],
        streams: Mapping[str, StreamFacts],
        arena: LocalArena,
        clock: Clock,
    ) -> None:
        self.name = name
        self._setups = setups
        self._streams = streams
        self._arena = arena
        self._clock = clock
        self._hosts: dict[str, StageHost] = {}

    def serve(self, context: zmq.Context[Any], address: str) -> None:
        """Connect and work until Stop. Blocks."""
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.IDENTITY, self.name.encode())
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.LINGER, 1000)
        socket.connect(address)
        try:
            socket.send(encode(Hello(self.name, "worker")))
            while not isinstance(message := decode(socket.recv()), Stop):
                socket.send(encode(self._answer(message)))
        finally:
            for host in self._hosts.values():
                host.close()
            socket.close()

    def _answer(self, message: Message) -> Message:
        if isinstance(message, Invoke):
            started_s = self._clock.now_s()
            items = self._hosts[message.replica].run(message.items)
            return Done(message.invocation, items, started_s, self._clock.now_s(), 0.0)
        if isinstance(message, LoadReplica):
            return self._load(message)
        raise LlamapipeError(f"worker {self.name} cannot answer a {type(message).__name__}")

    def _load(self, message: LoadReplica) -> Loaded:
        started_s = self._clock.now_s()
        try:
            host = StageHost(self._setups[message.stage], self._arena, self._streams)
        except Exception as error:
            hint = error.hint if isinstance(error, LlamapipeError) else None
            text = error.message if isinstance(error, LlamapipeError) else f"{type(error).__name__}: {error}"
            return Loaded(message.replica, self._clock.now_s() - started_s, text, hint)
        self._hosts[message.replica] = host
        return Loaded(message.replica, self._clock.now_s() - started_s, None, None, host.variant)
