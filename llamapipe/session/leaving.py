"""When frames have left a run, and what became of each: one account of whole frames, whatever sinks there are.

A frame has left when the last of the sinks that are to have it does. A sink that a filter keeps it from is not waited
for, and a frame that one of its sinks did not get is as lost as one that none got.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from llamapipe.control import SinkAccount
from llamapipe.control import actions as act

__all__ = ["Leaving"]

# Of its outcomes at its sinks the gravest is the frame's. Where one sink has it and a filter keeps it from another, it
# is delivered.
_GRAVITY = {"": 0, "filtered": 1, "delivered": 2, "cancelled": 3, "dropped": 4, "failed": 4}


class _Frame:
    """One that is accounted for at one sink, or more; of those that took it, when the last one did."""

    __slots__ = ("at_s", "latency_s", "missing", "outcome", "reason", "stage")

    def __init__(self, missing: int) -> None:
        self.missing = missing  # sinks that have not taken it, nor will go without it
        self.outcome = ""
        self.stage = ""
        self.reason = ""
        self.at_s = 0.0
        self.latency_s = 0.0


class Leaving:
    """Of one run; ``left`` is told of each frame that is delivered: its stream, when, and its latency.

    It remembers frames that are on their way out: those between their first sink and the moment they are released.
    """

    def __init__(self, num_sinks: int, left: Callable[[str, float, float], None]) -> None:
        self._num_sinks = num_sinks
        self._left = left
        self._frames: dict[tuple[str, int], _Frame] = {}
        self._untaken: dict[tuple[str, str], deque[_Frame]] = {}  # by stream and sink, in order
        self.account = SinkAccount()  # of whole frames, by the gravest of their outcomes

    def __len__(self) -> int:
        return len(self._frames)

    def ended(self, action: act.Deliver) -> None:
        """A frame has ended at a sink; where it is delivered there, the sink has yet to take it."""
        key = action.stream, action.seq
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = _Frame(self._num_sinks)
        if _GRAVITY[action.outcome] > _GRAVITY[frame.outcome]:
            frame.outcome, frame.stage, frame.reason = action.outcome, action.stage, action.reason
        if action.outcome != "delivered":
            self._one_less(action.stream, frame)
            return
        untaken = self._untaken.get((action.stream, action.sink))
        if untaken is None:
            untaken = self._untaken[action.stream, action.sink] = deque()
        untaken.append(frame)

    def taken(self, stream: str, sink: str, latencies: Sequence[tuple[float, float]]) -> None:
        """A sink has taken the next of the frames that are delivered to it: when it did, and their latencies."""
        untaken = self._untaken[stream, sink]
        for at_s, latency_s in latencies:
            frame = untaken.popleft()
            if at_s > frame.at_s:
                frame.at_s, frame.latency_s = at_s, latency_s
            self._one_less(stream, frame)

    def _one_less(self, stream: str, frame: _Frame) -> None:
        frame.missing -= 1
        if not frame.missing:
            self.account.enter(frame.outcome, frame.stage, frame.reason)
            if frame.outcome == "delivered":
                self._left(stream, frame.at_s, frame.latency_s)

    def released(self, stream: str, seq: int) -> None:
        """Nobody needs the frame any more. What it still lacks is a sink that cannot take anything any more."""
        frame = self._frames.pop((stream, seq), None)
        if frame is None or frame.missing:
            self.account.enter("failed", "", "output")
