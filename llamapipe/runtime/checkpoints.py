"""What checkpoints are made of: bytes that come from workers and sinks, until control says which belong together."""

from __future__ import annotations

import msgspec

from llamapipe.control.actions import Checkpoint
from llamapipe.control.plan import SinkTally
from llamapipe.wire import Captured, Marked

__all__ = ["CheckpointBook", "StreamPoint"]


class StreamPoint(msgspec.Struct, frozen=True):
    """Where another process could take a stream up, and all that it takes."""

    seq: int  # of the first frame that is still to come
    tallies: dict[str, SinkTally]  # by sink, of the frames before
    states: dict[str, bytes] = {}  # by stage: msgpack of what its operator's snapshot gave
    marks: dict[str, bytes] = {}  # by sink: msgpack of what its mark gave
    ended: bool = False  # the outputs are complete
    files: list[str] = []  # these, then


class CheckpointBook:
    """Parts of checkpoints by stream and frame."""

    def __init__(self) -> None:
        self._states: dict[tuple[str, int], dict[str, bytes]] = {}
        self._marks: dict[tuple[str, int], dict[str, bytes]] = {}

    def captured(self, message: Captured) -> None:
        """Keep a stage's memory."""
        if message.state is not None:
            self._states.setdefault((message.stream, message.seq), {})[message.stage] = message.state

    def marked(self, message: Marked) -> None:
        """Keep a sink's mark."""
        self._marks.setdefault((message.stream, message.seq), {})[message.sink] = message.mark

    def point(self, action: Checkpoint, files: list[str]) -> StreamPoint:
        """The checkpoint's parts; those of earlier ones, which were never complete, are forgotten."""
        place = (action.stream, action.seq)
        states, marks = self._states.get(place, {}), self._marks.get(place, {})
        for parts in (self._states, self._marks):
            for stream, seq in [p for p in parts if p[0] == action.stream and p[1] <= action.seq]:
                del parts[stream, seq]
        if action.ended:
            return StreamPoint(action.seq, action.tallies, ended=True, files=files)
        return StreamPoint(action.seq, action.tallies, states, marks)
