"""Whether a tuned configuration still holds: it and the reference run again on a small share of a run's frames.

Windows of frames that follow each other are kept as they pass, and both configurations run on each, beside the run, in
one worker. Their agreement over the last windows is what the tuning measured; under the floor, the video has drifted.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import Full, Queue

import msgspec
import numpy as np

from llamapipe.accuracy import agreement
from llamapipe.clock import Clock, Env
from llamapipe.data import Boxes
from llamapipe.errors import LlamapipeError
from llamapipe.media.contract import Decoded, SourceInfo, SourceStats, Undecodable, VideoSource
from llamapipe.session.request import RunRequest
from llamapipe.session.stretches import HeldVideo, Stretches
from llamapipe.session.trials import Judge, run_trial
from llamapipe.tune import Tuning

__all__ = ["Shadow"]

_LOG = logging.getLogger(__name__)
_WINDOW = 24  # frames
_WINDOWS = 4  # that agreement is taken over
_WAITING = 2  # windows that may wait; more are left out
_LEAST_BOXES = 60  # before which nobody can say anything
_SEED = 0


class Shadow:
    """One run's. ``share`` of frames, 0..1, are looked at; ``results`` are the ``stage.port`` that are compared."""

    def __init__(
        self, request: RunRequest, tuning: Tuning, results: list[str], share: float, *, clock: Clock, env: Env
    ) -> None:
        self._request = RunRequest(
            request.pipeline,
            request.sources[:1],
            params=request.params,
            sets=request.sets,
            ops_files=request.ops_files,
            workers=1,
        )
        self._tuning = tuning
        self._period = max(_WINDOW, round(_WINDOW / share))
        self._clock = clock
        self._env = env
        self._judge = Judge(results)
        self._queue: Queue[Stretches | None] = Queue(_WAITING)
        self._pairs: deque[tuple[list[Boxes], list[Boxes]]] = deque(maxlen=_WINDOWS)
        self._stop = threading.Event()
        self._left_out = 0
        self._looked_at = 0
        self.notes: list[str] = []
        """What was seen; one line a drift."""
        self._thread = threading.Thread(target=self._work, name="llamapipe shadow", daemon=True)
        self._thread.start()

    def watching(self, source: VideoSource) -> VideoSource:
        """The source, of which windows are kept as it is read."""
        return _Watched(source, self._period, self._offer)

    def close(self, *, cancelled: bool) -> None:
        """Finish the windows that wait, or with ``cancelled`` drop them."""
        if cancelled:
            self._stop.set()
        self._queue.put(None)
        self._thread.join()
        if self._left_out:
            self.notes.append(f"{self._left_out} windows of frames were not looked at again: the machine was too busy")

    def _offer(self, window: Stretches) -> None:
        try:
            self._queue.put_nowait(window)
        except Full:
            self._left_out += 1

    def _work(self) -> None:
        while (window := self._queue.get()) is not None:
            if self._stop.is_set():
                continue
            try:
                self._look_at(window)
            except LlamapipeError as error:
                self.notes.append(f"frames from {window.indices[0]} on could not be looked at again: {error.message}")
                self._stop.set()

    def _look_at(self, window: Stretches) -> None:
        found: list[list[Boxes]] = []
        for values in (self._tuning.values, self._tuning.reference):
            config = msgspec.structs.replace(self._tuning, values=values, objective="")
            boxes: list[Boxes] = []
            summary = run_trial(
                replace(self._request, config=config),
                HeldVideo(window, clock=self._clock),
                lambda result, boxes=boxes: boxes.append(self._judge.boxes(result)),  # type: ignore[misc]
                interrupt=self._stop,
                clock=self._clock,
                env=self._env,
            )
            if summary is None:
                return
            found.append(boxes)
        self._looked_at += 1
        self._pairs.append((found[0], found[1]))
        self._judge_windows(window.indices[-1])

    def _judge_windows(self, frame: int) -> None:
        tuned = [boxes for mine, _ in self._pairs for boxes in mine]
        reference = [boxes for _, its in self._pairs for boxes in its]
        if sum(map(len, reference)) < _LEAST_BOXES:
            return
        seen = agreement(tuned, reference, rng=np.random.default_rng(_SEED))
        if seen.f1 >= self._tuning.floor or seen.low >= self._tuning.floor:
            return
        note = (
            f"drift: up to frame {frame} the configuration agrees with its reference by {seen.f1:.3f} "
            f"({seen.low:.3f} to {seen.high:.3f}), the floor is {self._tuning.floor:g}: tune for this part"
        )
        _LOG.warning(note)
        self.notes.append(note)
        self._pairs.clear()  # the next windows speak for themselves


class _Watched:
    """A `VideoSource` that hands on what it reads."""

    def __init__(self, source: VideoSource, period: int, offer: Callable[[Stretches], None]) -> None:
        self._source = source
        self._period = period
        self._offer = offer

    @property
    def info(self) -> SourceInfo:
        """See `VideoSource.info`."""
        return self._source.info

    @property
    def stats(self) -> SourceStats:
        """See `VideoSource.stats`."""
        return self._source.stats

    def close(self) -> None:
        """See `VideoSource.close`."""
        self._source.close()

    def __iter__(self) -> Iterator[Decoded | Undecodable]:
        window: list[Decoded] = []
        for item in self._source:
            yield item
            if isinstance(item, Undecodable):
                window.clear()
                continue
            if item.seq % self._period < _WINDOW:
                window.append(item)
            if len(window) == _WINDOW:
                frames = tuple(replace(frame, captured_at_s=None) for frame in window)
                indices = tuple(frame.seq for frame in window)
                self._offer(Stretches(self._source.info, frames, indices, (0,) * _WINDOW))
                window.clear()
