"""Whether a tuned configuration still holds: it and the reference run again on a small share of a run's frames.

Windows of frames that follow each other are kept as they pass, and both configurations run on each, beside the run, in
one worker. Their agreement over the last windows is what the tuning measured; under the floor, the video has drifted.
Then the run goes over to the reference at once, a search begins on frames that come now, and the run goes over to what
that finds.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import Enum
from math import inf
from queue import Full, Queue

import msgspec
import numpy as np

from llamapipe.accuracy import Agreement, agreement
from llamapipe.clock import Clock, Env
from llamapipe.data import Boxes
from llamapipe.media.contract import Decoded, SourceInfo, SourceStats, Undecodable, VideoSource
from llamapipe.report import shadowed
from llamapipe.report.shadowed import ShadowSummary
from llamapipe.report.tuned import difference
from llamapipe.session.pinned import of_stages
from llamapipe.session.request import RunRequest
from llamapipe.session.shadow_series import ShadowSeries
from llamapipe.session.stretches import HeldVideo, Stretches, joined
from llamapipe.session.trials import Judge, run_trial
from llamapipe.session.tuning import tune_on
from llamapipe.tune import Tried, Tuning

__all__ = ["Shadow"]

_LOG = logging.getLogger(__name__)
_WINDOW = 24  # frames
_WINDOWS = 4  # that say how it is lately, and that a search is made on
_MOST_WINDOWS = 32  # that agreement is taken over
_WAITING = 2  # windows that may wait; more are left out
_LEAST_BOXES = 60  # before which nobody can say anything
_GATHERED = 2 * _WINDOW  # frames between two windows while a search is to begin: they are only kept
_MOST_PATIENCE = 16  # times so many windows, between two searches that find nothing
# Threads that it starts inherit it. Not the least there is: whoever holds Python's lock and gets no processor keeps the
# run itself waiting.
_NICE = 10
_Z = 1.96  # of a 95 % interval
_SEED = 0

Change = Callable[[Tuning, str], None]
"""Have the run go over to a configuration; why. Raises UsageError where that cannot be done."""


class _State(Enum):
    WATCHING = "watching"  # whether the configuration that runs agrees with its reference
    GATHERING = "gathering"  # frames for a search, while the reference runs
    SEARCHING = "searching"
    RESTING = "resting"  # nothing but the reference is right enough: a while until the next search


class Shadow:
    """One run's. ``share`` of frames, 0..1, are looked at; ``results`` are the ``stage.port`` that are compared.

    ``change`` is how the run is changed; None: it is not, and drift is only told.
    """

    def __init__(
        self,
        request: RunRequest,
        tuning: Tuning,
        results: list[str],
        share: float,
        change: Change | None,
        *,
        clock: Clock,
        env: Env,
    ) -> None:
        self._run = request
        self._request = RunRequest(
            request.pipeline,
            request.sources[:1],
            params=request.params,
            sets=of_stages(request.sets),
            ops_files=request.ops_files,
            workers=1,
            prices=request.prices,
        )
        self._tuning = tuning
        self._usual_period = max(_WINDOW, round(_WINDOW / share))
        self._change = change
        self._clock = clock
        self._env = env
        self._judge = Judge(results)
        self._queue: Queue[Stretches | None] = Queue(_WAITING)
        self._pairs: deque[tuple[list[Boxes], list[Boxes]]] = deque(maxlen=_MOST_WINDOWS)
        self._gathered: deque[Stretches] = deque(maxlen=_WINDOWS)
        self._state = _State.WATCHING
        self._patience = 1
        self._passed = 0  # windows since the last search
        self._stop = threading.Event()
        self._left_out = 0
        self._series = ShadowSeries(share, tuning.floor)
        self.notes: list[str] = []
        """What was seen; one line a drift, or that there was none."""
        self._thread = threading.Thread(target=self._work, name="llamapipe shadow", daemon=True)
        self._thread.start()

    def watching(self, source: VideoSource) -> VideoSource:
        """The source, of which windows are kept as it is read."""
        return _Watched(source, self._period, self._offer)

    def close(self, *, cancelled: bool) -> None:
        """Finish the windows that wait, or with ``cancelled`` drop them. A search is given up: nobody would use it."""
        if not self._thread.is_alive():
            return
        if cancelled or self._state is not _State.WATCHING:
            self._stop.set()
        self._change = None
        self._queue.put(None)
        self._thread.join()
        seen = self.summary
        if not seen.drifted:
            self.notes.append(str(seen))
        if self._left_out:
            self.notes.append(f"{self._left_out} windows of frames were not looked at again: the machine was too busy")

    @property
    def summary(self) -> ShadowSummary:
        """What was seen, once it is closed."""
        return self._series.summary(self._left_out)

    def _period(self) -> int:
        """Frames from one window to the next."""
        return _GATHERED if self._state is _State.GATHERING else self._usual_period

    def _offer(self, window: Stretches) -> None:
        if self._state is _State.SEARCHING:
            return
        try:
            self._queue.put_nowait(window)
        except Full:
            self._left_out += 1

    def _work(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while (window := self._queue.get()) is not None:
            if self._stop.is_set():
                continue
            try:
                self._take(window)
            except Exception as error:  # a look aside is no reason for a run to fail, or to wait for ever
                if not self._stop.is_set():
                    self.notes.append(f"frames from {window.indices[0]} on could not be looked at again: {error}")
                self._stop.set()

    def _take(self, window: Stretches) -> None:
        if self._state is _State.WATCHING:
            self._look_at(window)
            return
        self._passed += 1
        if self._state is _State.RESTING and self._passed >= self._patience * _WINDOWS:
            self._state = _State.GATHERING
        if self._state is _State.GATHERING:
            self._gathered.append(window)
            if len(self._gathered) == _WINDOWS:
                self._search()

    # -- watching -----------------------------------------------------------------------------------------------

    def _look_at(self, window: Stretches) -> None:
        found: list[list[Boxes]] = []
        for values in (self._tuning.values, self._tuning.reference):
            config = msgspec.structs.replace(self._tuning, values=values, objective="")
            boxes: list[Boxes] = []
            summary = run_trial(
                replace(self._request, config=config),
                HeldVideo(window, clock=self._clock),
                # mypy infers no type of a lambda's default, which binds this turn's list.
                lambda result, boxes=boxes: boxes.append(self._judge.boxes(result)),  # type: ignore[misc]
                interrupt=self._stop,
                clock=self._clock,
                env=self._env,
            )
            if summary is None:
                return
            found.append(boxes)
        self._pairs.append((found[0], found[1]))
        self._judge_windows(window)

    def _judge_windows(self, window: Stretches) -> None:
        at_s, frame = _end_of(window)
        ran = _told(self._tuning)
        lately = self._agreement(list(self._pairs)[-_WINDOWS:])
        seen = self._drift(lately)
        if seen is None:
            thin = lately is None or _boxes(lately) < _LEAST_BOXES
            self._series.window(at_s, frame, lately, ran, shadowed.THIN if thin else shadowed.FINE)
            return
        self._series.window(at_s, frame, seen, ran, shadowed.BELOW)
        self._pairs.clear()  # the next windows speak for themselves
        seen_so = (
            f"up to frame {frame} the configuration agrees with its reference by {seen.f1:.3f} "
            f"({seen.low:.3f} to {seen.high:.3f}), the floor is {self._tuning.floor:g}"
        )
        change = self._change  # a run that ends takes it away
        advice = "the reference runs, and a search begins" if change is not None else "tune for this part"
        _LOG.warning("drift: %s: %s", seen_so, advice)
        self.notes.append(f"drift: {seen_so}: {advice}")
        if change is not None:
            reference = msgspec.structs.replace(self._tuning, values=self._tuning.reference)
            change(reference, "drift: the reference")
            self._series.followed(at_s, frame, _told(reference), shadowed.REFERENCE, None, 0)
            self._begin_to_gather()

    def _drift(self, lately: Agreement | None) -> Agreement | None:
        """What speaks for it: agreement that is below the floor lately, or cannot be proved where it long should be.

        The lower end alone says nothing while there are few boxes: there it is below the floor whatever was tuned.
        """
        floor = self._tuning.floor
        if lately is None or (_boxes(lately) >= _LEAST_BOXES and lately.f1 < floor):
            return lately
        seen = self._agreement(list(self._pairs))
        return seen if seen is not None and _boxes(seen) >= _proof(self._tuning) and seen.low < floor else None

    def _agreement(self, pairs: list[tuple[list[Boxes], list[Boxes]]]) -> Agreement | None:
        """Of these windows; None where nothing was found."""
        tuned = [boxes for mine, _ in pairs for boxes in mine]
        reference = [boxes for _, its in pairs for boxes in its]
        found = agreement(tuned, reference, rng=np.random.default_rng(_SEED))
        return found if found.num_found + found.num_reference else None

    # -- searching anew -----------------------------------------------------------------------------------------

    def _begin_to_gather(self) -> None:
        self._gathered.clear()
        self._passed = 0
        self._state = _State.GATHERING

    def _search(self) -> None:
        """On the frames that were gathered; then go over to what was found."""
        held = joined(list(self._gathered))
        at_s, frame = _end_of(self._gathered[-1])
        self._gathered.clear()
        self._state = _State.SEARCHING
        found = tune_on(held, self._tuning, self._request, interrupt=self._stop, clock=self._clock, env=self._env)
        first, last = held.indices[0], held.indices[-1]
        change = self._change
        if change is None:
            return
        if not found.feasible or dict(found.values) == dict(found.reference):
            self.notes.append(f"frames {first} to {last}: nothing cheaper than the reference is right enough for them")
            reference = _told(msgspec.structs.replace(found, values=found.reference))
            self._series.followed(at_s, frame, reference, shadowed.KEPT, None, len(held.frames))
            self._patience = min(_MOST_PATIENCE, 2 * self._patience)
            self._passed, self._state = 0, _State.RESTING
            return
        self._tuning = found
        change(found, f"tuned on frames {first} to {last}")
        self._series.followed(at_s, frame, _told(found), shadowed.RETUNED, found.predicted, len(held.frames))
        self._patience, self._state = 1, _State.WATCHING


def _told(tuning: Tuning) -> str:
    """What a tuning runs, as it differs from its reference."""
    return difference(Tried(tuning.values), tuning) or "the reference"


def _end_of(window: Stretches) -> tuple[float, int]:
    """Seconds of the video at its last frame, and that one's number."""
    return float(window.frames[-1].pts * window.info.time_base), window.indices[-1]


def _boxes(compared: Agreement) -> float:
    """That an agreement is of: what one invents counts as what it misses."""
    return (compared.num_found + compared.num_reference) / 2


def _proof(tuning: Tuning) -> float:
    """Boxes with which the agreement that was tuned for would be proved to be above the floor, all but surely.

    Twice as far above as the interval's half width, so that one in forty is under it by chance.
    """
    found = 0.0 if tuning.predicted is None else tuning.predicted.accuracy or 0.0
    above = found - tuning.floor
    if above <= 0:
        return inf
    return 4 * _Z**2 * max(found * (1 - found) / above**2, tuning.floor / max(0.01, 1 - tuning.floor))


class _Watched:
    """A `VideoSource` that hands on what it reads. ``period`` is asked at the beginning of every window."""

    def __init__(self, source: VideoSource, period: Callable[[], int], offer: Callable[[Stretches], None]) -> None:
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
        began = -1  # frame with which the last window began
        for item in self._source:
            yield item
            if isinstance(item, Undecodable):
                window.clear()
                continue
            if not window and (began < 0 or item.seq >= began + self._period()):
                began = item.seq
            if window or item.seq == began:  # what is left of a window with a gap is none
                window.append(item)
            if len(window) == _WINDOW:
                frames = tuple(replace(frame, captured_at_s=None) for frame in window)
                indices = tuple(frame.seq for frame in window)
                self._offer(Stretches(self._source.info, frames, indices, (0,) * _WINDOW))
                window.clear()
