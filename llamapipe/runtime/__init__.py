"""Drives control for real: sockets, workers, frame arenas."""

from llamapipe.runtime.arena import LocalArena, StaleFrame
from llamapipe.runtime.engine import Engine, EngineResult, Observer, Peer
from llamapipe.runtime.host import StageHost, StageSetup, StreamFacts
from llamapipe.runtime.machine import Machine, read_machine
from llamapipe.runtime.sink import SinkWriter
from llamapipe.runtime.source import SourceReader
from llamapipe.runtime.worker import Worker

__all__ = [
    "Engine",
    "EngineResult",
    "LocalArena",
    "Machine",
    "Observer",
    "Peer",
    "SinkWriter",
    "SourceReader",
    "StageHost",
    "StageSetup",
    "StaleFrame",
    "StreamFacts",
    "Worker",
    "read_machine",
]
