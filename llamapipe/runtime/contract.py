"""What an engine is given to talk to, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import zmq

__all__ = ["EngineResult", "Peer"]


class Peer(Protocol):
    """Something that serves at the engine's address in a thread of its own."""

    name: str  # its identity on the socket

    def serve(self, context: zmq.Context[Any], address: str) -> None:
        """Connect and serve until told to stop."""
        ...


@dataclass(slots=True)
class EngineResult:
    """How a run ended."""

    outcome: str  # done | failed | cancelled
    reason: str
    files: dict[str, list[str]] = field(default_factory=dict)  # by stream
    errors: dict[str, str] = field(default_factory=dict)  # by stream: the source's or a sink's
    lost: set[str] = field(default_factory=set)  # streams whose source went away
    hint: str | None = None
