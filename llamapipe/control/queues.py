"""Work that is ready: first in first out per stage, in stream order for stages that remember."""

from __future__ import annotations

import itertools
from collections import deque
from typing import TypeAlias

from llamapipe.control.dataflow import FrameRecord

__all__ = ["Item", "Sampler", "Sequencer", "StageQueue"]

Item: TypeAlias = tuple[FrameRecord, int]
"""A frame, and which of the items that it has at a stage."""


class Sequencer:
    """Lets a stream's frames through in order of admission, whatever order they become ready in.

    A frame that needs no work (skipped, failed upstream) passes with None and keeps nobody waiting; only the
    first call for an order counts.
    """

    __slots__ = ("_next", "_waiting")

    def __init__(self) -> None:
        self._next = 0
        self._waiting: dict[int, FrameRecord | None] = {}

    def put(self, order: int, frame: FrameRecord | None) -> list[FrameRecord]:
        """Frames whose turn it now is."""
        if order < self._next or order in self._waiting:
            return []
        self._waiting[order] = frame
        turn: list[FrameRecord] = []
        while self._next in self._waiting:
            passed = self._waiting.pop(self._next)
            if passed is not None:
                turn.append(passed)
            self._next += 1
        return turn


class Sampler:
    """Which frames a stage looks at that does not look at all; the rest hold the outputs of the last one that it did.

    With ``fps``, so many a second by presentation time, at most. Of these, only those in which, or since the last one
    of which, something has changed. The first that comes of every segment is looked at, so that nothing is held across
    a place where a run may be taken up again. ``waiting`` are held frames by the frame that they wait for.
    """

    __slots__ = ("_bucket", "_changed", "_fps", "_order", "_segment_frames", "last", "waiting")

    def __init__(self, fps: float | None, segment_frames: int = 0) -> None:
        self._fps = fps
        self._segment_frames = segment_frames
        self._bucket: int | None = None
        self._order = -1  # of the last frame that came
        self._changed = False  # something, since the last frame that was looked at
        self.last: FrameRecord | None = None
        self.waiting: dict[int, list[FrameRecord]] = {}

    def begin_anew(self, fps: float | None) -> None:
        """At this rate, with the next frame that comes."""
        self._fps, self._bucket, self._changed = fps, None, True

    def takes(self, frame: FrameRecord, changed: bool) -> bool:
        """Whether this frame is worked on. Called in stream order; ``changed``: it is not as the one before."""
        # What frames showed that never came here nobody knows.
        self._changed = self._changed or changed or frame.order != self._order + 1
        self._order = frame.order
        bucket = frame.order if self._fps is None else int(frame.pts_s * self._fps + 1e-6)
        if (
            self.last is not None
            and (bucket == self._bucket or not self._changed)
            and not self._is_apart(frame.seq, self.last.seq)
        ):
            return False
        self._bucket, self._changed = bucket, False
        self.last = frame
        return True

    def _is_apart(self, seq: int, last: int) -> bool:
        return bool(self._segment_frames) and seq // self._segment_frames != last // self._segment_frames


class StageQueue:
    """Items of one stage that wait for a replica."""

    __slots__ = ("_any", "_by_stream", "_fresh", "_num", "stateful")

    def __init__(self, stateful: bool) -> None:
        self.stateful = stateful
        self._any: deque[Item] = deque()
        self._by_stream: dict[str, deque[Item]] = {}
        self._fresh: dict[str, None] = {}  # streams with something to look at (a stateful stage's only)
        self._num = 0

    def __len__(self) -> int:
        return self._num

    def _queue(self, stream: str) -> deque[Item]:
        if not self.stateful:
            return self._any
        self._fresh[stream] = None
        queue = self._by_stream.get(stream)
        if queue is None:
            queue = self._by_stream[stream] = deque()
        return queue

    def put(self, frame: FrameRecord, num_items: int) -> None:
        """Append a frame's items."""
        self._num += num_items
        queue = self._queue(frame.stream)
        for index in range(num_items):
            queue.append((frame, index))

    def put_back(self, items: list[Item]) -> None:
        """Return items to the front, in their order."""
        self._num += len(items)
        for item in reversed(items):
            self._queue(item[0].stream).appendleft(item)

    def freshen(self, stream: str) -> None:
        """What kept the stream's items waiting may be over (a stateful stage's only)."""
        self._fresh[stream] = None

    def take_fresh(self) -> list[str]:
        """Streams that have got items or were freshened since the last look (a stateful stage's only)."""
        if not self._fresh:
            return []
        streams = list(self._fresh)
        self._fresh.clear()
        return streams

    def has(self, stream: str) -> bool:
        """Whether the stream has waiting items (a stateful stage's only)."""
        return bool(self._by_stream.get(stream))

    def first(self, stream: str | None = None) -> Item | None:
        """The oldest item, left where it is."""
        queue = self._any if stream is None else self._by_stream.get(stream)
        return queue[0] if queue else None

    def take(self, limit: int, stream: str | None = None, segment_frames: int = 0) -> list[Item]:
        """Up to ``limit`` items, oldest first; with ``segment_frames``, all of one segment of the stream."""
        queue = self._any if stream is None else self._by_stream[stream]
        if segment_frames and queue:
            segment = queue[0][0].seq // segment_frames
            same = itertools.takewhile(lambda item: item[0].seq // segment_frames == segment, queue)
            limit = sum(1 for _ in itertools.islice(same, limit))
        num = min(limit, len(queue))
        self._num -= num
        return [queue.popleft() for _ in range(num)]

    def take_frame(self, frame: FrameRecord) -> list[Item]:
        """All items of one frame (a stateless stage's only), wherever they wait."""
        items = [item for item in self._any if item[0] is frame]
        self._num -= len(items)
        self._any = deque(item for item in self._any if item[0] is not frame)
        return items

    def clear(self) -> list[Item]:
        """Everything that waits, taken out."""
        items = list(self._any)
        self._any.clear()
        for queue in self._by_stream.values():
            items += queue
            queue.clear()
        self._num = 0
        return items
