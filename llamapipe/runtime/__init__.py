"""Drives control for real: sockets, workers, frame arenas."""

from llamapipe.runtime.arena import Arena, LocalArena, StaleFrame
from llamapipe.runtime.checkpoints import StreamPoint
from llamapipe.runtime.crew import WorkerPeer
from llamapipe.runtime.engine import Engine, EngineResult, Observer, Peer
from llamapipe.runtime.host import StageHost, StageSetup, StreamFacts
from llamapipe.runtime.machine import Machine, read_machine
from llamapipe.runtime.process import Boot, ProcessWorker, boot_streams, read_boot, serve_process, stages_of
from llamapipe.runtime.shared import SharedArena
from llamapipe.runtime.sink import SinkWriter
from llamapipe.runtime.source import SourceReader
from llamapipe.runtime.worker import Worker

__all__ = [
    "Arena",
    "Boot",
    "Engine",
    "EngineResult",
    "LocalArena",
    "Machine",
    "Observer",
    "Peer",
    "ProcessWorker",
    "SharedArena",
    "SinkWriter",
    "SourceReader",
    "StageHost",
    "StageSetup",
    "StaleFrame",
    "StreamFacts",
    "StreamPoint",
    "Worker",
    "WorkerPeer",
    "boot_streams",
    "read_boot",
    "read_machine",
    "serve_process",
    "stages_of",
]
