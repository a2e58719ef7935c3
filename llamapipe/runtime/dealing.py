"""How a peer of the engine connects to it."""

from __future__ import annotations

from typing import Any

import zmq

__all__ = ["dealer"]


def dealer(context: zmq.Context[Any], identity: str, address: str) -> zmq.Socket[Any]:
    """A socket that talks to the engine under a name of its own. Nothing that was sent is lost on closing."""
    socket: zmq.Socket[Any] = context.socket(zmq.DEALER)
    for option, value in ((zmq.SNDHWM, 0), (zmq.RCVHWM, 0), (zmq.LINGER, 1000)):
        socket.setsockopt(option, value)
    socket.setsockopt(zmq.IDENTITY, identity.encode())
    socket.connect(address)
    return socket
