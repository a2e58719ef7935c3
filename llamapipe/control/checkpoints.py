"""When a run could be taken up again: at which frame of a stream, and whether all is there that it takes.

A stream is cut into segments of ``StreamPlan.segment_frames`` frames, by number: in whatever way a run came about, its
segments are the same. A checkpoint lies between two of them. It takes every sink's mark (how to go on after the last
frame before), the account of the frames before, and the memory of every stage that remembers: what it knows when it
has seen all before and nothing after. One is prepared at a time; if a part of it is lost on the way, it is given up and
a later one will do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from llamapipe.control import actions as act
from llamapipe.control.ledger import SinkAccount
from llamapipe.control.plan import RunPlan, SinkTally

__all__ = ["Checkpointer"]


@dataclass(slots=True)
class _Preparation:
    """A stream's next checkpoint."""

    segment_frames: int
    seq: int = -1  # the first frame after it; below 0: none is prepared
    begun_s: float = -math.inf  # when the latest was begun
    sinks: set[str] = field(default_factory=set)  # whose mark is awaited
    tallies: dict[str, SinkTally] = field(default_factory=dict)
    unasked: set[int] = field(default_factory=set)  # stages that have not been asked what they remember
    asked: set[int] = field(default_factory=set)  # stages whose answer is awaited


class Checkpointer:
    """All streams of a run. Checkpoints that are complete go to ``out``."""

    def __init__(self, plan: RunPlan, out: list[act.Action]) -> None:
        self.out = out
        self._every_s = plan.checkpoint_every_s
        self._sinks = frozenset(sink.name for sink in plan.sinks)
        self._stateful = frozenset(i for i, stage in enumerate(plan.stages) if stage.stateful)
        self._segment_frames = {stream.stream: stream.segment_frames for stream in plan.streams}
        self._streams = {s.stream: _Preparation(s.segment_frames) for s in plan.streams if s.segment_frames}

    def segment_frames(self, stream: str) -> int:
        """Frames of a segment; 0 where the stream cannot be taken up again."""
        return self._segment_frames[stream]

    def is_apart(self, stream: str | None, seq: int, other: int) -> bool:
        """Whether two frames are of different segments."""
        segment_frames = 0 if stream is None else self._segment_frames[stream]
        return bool(segment_frames) and seq // segment_frames != other // segment_frames

    # -- frames -------------------------------------------------------------------------------------------------

    def arrived(self, stream: str, seq: int, now_s: float) -> None:
        """A frame is there, and nothing has been done with it. The last of a segment begins a checkpoint after it."""
        mine = self._streams.get(stream)
        if mine is None or (seq + 1) % mine.segment_frames or mine.seq >= 0 or now_s - mine.begun_s < self._every_s:
            return
        mine.seq, mine.begun_s = seq + 1, now_s
        mine.sinks = set(self._sinks)
        mine.tallies = {}
        mine.unasked, mine.asked = set(self._stateful), set()

    def ends_with(self, stream: str, seq: int) -> bool:
        """Whether the frame is the last before the checkpoint that is prepared."""
        mine = self._streams.get(stream)
        return mine is not None and mine.seq == seq + 1

    def accounted(self, stream: str, sink: str, account: SinkAccount) -> None:
        """The account of all frames before the checkpoint."""
        self._streams[stream].tallies[sink] = account.tally()

    def marked(self, stream: str, sink: str, seq: int) -> None:
        """A sink has said how to go on."""
        mine = self._streams.get(stream)
        if mine is not None and mine.seq == seq:
            mine.sinks.discard(sink)
            self._maybe_complete(stream, mine)

    # -- memories -----------------------------------------------------------------------------------------------

    def wants_state(self, stage: int, stream: str, seq: int) -> bool:
        """Whether the stage is to be asked what it remembers before it is given frame ``seq``."""
        mine = self._streams.get(stream)
        return mine is not None and 0 <= mine.seq <= seq and stage in mine.unasked

    def asked(self, stage: int, stream: str, *, empty: bool) -> int:
        """It is being asked; the checkpoint's frame. ``empty``: it need not be, for it has seen nothing."""
        mine = self._streams[stream]
        seq = mine.seq
        mine.unasked.discard(stage)
        if empty:
            self._maybe_complete(stream, mine)
        else:
            mine.asked.add(stage)
        return seq

    def stages_left(self, stream: str, released: int) -> list[int]:
        """Stages that were not asked yet, once all is done with every frame before the checkpoint."""
        mine = self._streams.get(stream)
        return sorted(mine.unasked) if mine is not None and 0 <= mine.seq <= released + 1 else []

    def captured(self, stage: int, stream: str, seq: int, kept: bool) -> None:
        """A stage's answer. One that cannot say what it remembers never can: the stream has no checkpoints."""
        mine = self._streams.get(stream)
        if mine is None or mine.seq != seq or stage not in mine.asked:
            return
        if not kept:
            self.close(stream)
            return
        mine.asked.discard(stage)
        self._maybe_complete(stream, mine)

    def state_lost(self, stage: int, stream: str) -> None:
        """The worker that was asked is gone."""
        mine = self._streams.get(stream)
        if mine is not None and stage in mine.asked:
            self.abandon(stream)

    # -- endings ------------------------------------------------------------------------------------------------

    def abandon(self, stream: str) -> None:
        """The checkpoint that is prepared will never be complete."""
        self._streams[stream].seq = -1

    def close(self, stream: str) -> None:
        """No more of this stream."""
        self._streams.pop(stream, None)

    def ended(self, stream: str, num_frames: int, accounts: dict[str, SinkAccount]) -> None:
        """Every output of the stream is complete."""
        if self._streams.pop(stream, None) is not None:
            tallies = {sink: account.tally() for sink, account in accounts.items()}
            self.out.append(act.Checkpoint(stream, num_frames, tallies, ended=True))

    def _maybe_complete(self, stream: str, mine: _Preparation) -> None:
        if mine.seq < 0 or mine.sinks or mine.unasked or mine.asked:
            return
        self.out.append(act.Checkpoint(stream, mine.seq, mine.tallies))
        mine.seq = -1
