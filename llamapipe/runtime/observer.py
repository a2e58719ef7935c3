"""Who is told what an engine sees and does."""

from __future__ import annotations

from collections.abc import Sequence

from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.runtime.arena import Arena
from llamapipe.runtime.checkpoints import StreamPoint
from llamapipe.wire import Done, ItemInputs

__all__ = ["Observer"]


class Observer:
    """Is told what happens, for reports and progress. Every method may be overridden, none need be."""

    def event(self, event: ev.Event, now_s: float, actions: Sequence[act.Action]) -> None:
        """Control has taken an event."""

    def loaded(self, stage: str, worker: str, load_s: float, variant: str | None) -> None:
        """A replica is ready."""

    def invocation(self, dispatch: act.Dispatch, done: Done) -> None:
        """An invocation came back, wanted or not."""

    def delivered(self, stream: str, sink: str, latencies: Sequence[tuple[float, float]]) -> None:
        """Frames left the pipeline: (when, latency), seconds."""

    def quarantined(self, action: act.Quarantine, item: ItemInputs, arena: Arena) -> None:
        """An item has failed for good. Its pictures can be looked at until this returns."""

    def forgotten(self, stage: str, stream: str, reason: str) -> None:
        """A stage that remembers has begun a stream anew in the middle."""

    def checkpoint(self, stream: str, point: StreamPoint, now_s: float) -> None:
        """The stream could be taken up there by another process."""

    def poll(self, now_s: float) -> None:
        """Called at least every 50 ms while the run goes on."""
