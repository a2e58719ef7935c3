"""Drives control for real: sockets, workers, frame arenas."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamapipe.runtime.arena import Arena, LocalArena, StaleFrame
    from llamapipe.runtime.checkpoints import StreamPoint
    from llamapipe.runtime.contract import EngineResult, Peer
    from llamapipe.runtime.crew import WorkerPeer
    from llamapipe.runtime.engine import Engine
    from llamapipe.runtime.host import StageHost, StageSetup, StreamFacts
    from llamapipe.runtime.machine import Machine, read_machine
    from llamapipe.runtime.observer import Observer
    from llamapipe.runtime.process import Boot, ProcessWorker, Spares, boot_streams, read_boot, serve_process, stages_of
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
    "Spares",
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

_HOMES = {
    "arena": ("Arena", "LocalArena", "StaleFrame"),
    "checkpoints": ("StreamPoint",),
    "crew": ("WorkerPeer",),
    "contract": ("EngineResult", "Peer"),
    "engine": ("Engine",),
    "host": ("StageHost", "StageSetup", "StreamFacts"),
    "machine": ("Machine", "read_machine"),
    "observer": ("Observer",),
    "process": ("Boot", "ProcessWorker", "Spares", "boot_streams", "read_boot", "serve_process", "stages_of"),
    "shared": ("SharedArena",),
    "sink": ("SinkWriter",),
    "source": ("SourceReader",),
    "worker": ("Worker",),
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        for module, names in _HOMES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
