"""How a peer of the engine connects to it, and how the engine hears its peers and nobody else."""

from __future__ import annotations

from typing import Any

import zmq

from llamapipe.errors import WireError
from llamapipe.wire import Hello, Message, Pulse, decode

__all__ = ["dealer", "listener", "of_stranger", "received"]

_NOBLOCK = int(zmq.NOBLOCK)  # as an enumeration it costs as much as the call


def dealer(context: zmq.Context[Any], identity: str, address: str) -> zmq.Socket[Any]:
    """A socket that talks to the engine under a name of its own. Nothing that was sent is lost on closing."""
    socket: zmq.Socket[Any] = context.socket(zmq.DEALER)
    for option, value in ((zmq.SNDHWM, 0), (zmq.RCVHWM, 0), (zmq.LINGER, 1000)):
        socket.setsockopt(option, value)
    socket.setsockopt(zmq.IDENTITY, identity.encode())
    socket.connect(address)
    return socket


def listener(context: zmq.Context[Any], *addresses: str | None) -> zmq.Socket[Any]:
    """The engine's own socket, on each of ``addresses``; sending to who is not there raises EHOSTUNREACH."""
    router: zmq.Socket[Any] = context.socket(zmq.ROUTER)
    for option, value in ((zmq.SNDHWM, 0), (zmq.RCVHWM, 0), (zmq.LINGER, 1000), (zmq.ROUTER_MANDATORY, 1)):
        router.setsockopt(option, value)
    for address in addresses:
        if address is not None:
            router.bind(address)
    return router


def received(router: zmq.Socket[Any]) -> tuple[str, bytes] | None:
    """The next message with the name of who sent it; None where there is none now. Others' shapes are dropped."""
    while True:
        try:
            parts = router.recv_multipart(_NOBLOCK)
        except zmq.Again:
            return None
        if len(parts) == 2:
            return parts[0].decode("utf-8", "replace"), parts[1]


def of_stranger(data: bytes) -> Message | None:
    """What is listened to from who has proved nothing: a greeting, or a heartbeat, which has a socket of its own.

    Anybody on the machine may connect where processes do. None: anything else.
    """
    try:
        message = decode(data)
    except WireError:
        return None
    return message if isinstance(message, Hello | Pulse) else None
