"""A live source over all its connections: called back when it goes away, with times that stay true."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

from llamapipe.clock import Clock
from llamapipe.data import Native
from llamapipe.errors import SourceError, SourceLostError
from llamapipe.media.connecting import Backoff, ReconnectPolicy, connect_until, nap
from llamapipe.media.contract import Decoded, SourceInfo, SourceStats, Undecodable, VideoSource
from llamapipe.media.pictures import AvPicture

__all__ = ["Connection", "LiveSource"]

_SAME_CLOCK_S = 0.2  # a sender whose times go on as ours did kept its clock: take them as they are
_MAX_STRETCH = 0.02  # by which a picture may be distorted when it is brought to the first size

_LOG = logging.getLogger(__name__)


class Connection(VideoSource, Protocol):
    """One connection of a live source. Its pictures carry their time of capture."""

    @property
    def lead_s(self) -> float | None:
        """Our clock minus the source's: how much later its pictures are seen than they say."""
        ...


class LiveSource:
    """A source that may go away and come back. See `VideoSource`.

    Notation, in seconds: a picture says p and is seen at t. Within a connection t - p is the lead, the same for all
    but for jitter. Every connection may count p from elsewhere, so p + shift is given out, shift chosen such that
    t - (p + shift) is what it was before. A gap is thus as long in the times as it was by the clock.
    """

    def __init__(
        self,
        first: Connection,
        connect: Callable[[], Connection],
        *,
        shown: str,
        policy: ReconnectPolicy,
        backoff: Backoff,
        clock: Clock,
        start_s: float = 0.0,
        end_s: float | None = None,
        max_frames: int | None = None,
    ) -> None:
        self._connection = first
        self._connect = connect
        self._shown = shown
        self._policy = policy
        self._backoff = backoff
        self._clock = clock
        self._start_s = start_s
        self._end_s = end_s
        self._max_frames = max_frames
        self._info = replace(first.info, start_s=start_s)
        self._lock = threading.Lock()
        self._closed = False
        self._shift_s = 0.0
        self._lead_s: float | None = None  # of what was given out before the gap; None: no gap yet
        self._last_pts: int | None = None  # given out
        self._seen_s = clock.now_s()  # when the last picture came
        self._came_back_s = self._seen_s  # when the first picture of this connection came
        self._lost_s: float | None = None  # when the loss was noticed; None: pictures come
        self._reconnects = 0
        self._offline_s = 0.0

    @property
    def info(self) -> SourceInfo:
        """See `VideoSource.info`. The size is that of the first connection, whatever comes later."""
        return self._info

    @property
    def stats(self) -> SourceStats:
        """See `VideoSource.stats`."""
        return SourceStats(self._reconnects, self._offline_s)

    def close(self) -> None:
        """See `VideoSource.close`. Ends a wait for the network, and one for the next attempt."""
        with self._lock:
            self._closed = True
            self._connection.close()

    def __iter__(self) -> Iterator[Decoded | Undecodable]:
        if self._max_frames is not None and self._max_frames <= 0:
            self.close()
            return
        try:
            for seq, item in enumerate(self._all()):
                yield replace(item, seq=seq)
                if self._max_frames is not None and seq + 1 >= self._max_frames:
                    return
        finally:
            if self._lost_s is not None:
                self._offline_s += self._clock.now_s() - self._seen_s
            self.close()

    def _all(self) -> Iterator[Decoded | Undecodable]:
        """What every connection gives, one after the other, until ``end_s``."""
        begin: int | None = None
        end: int | None = None
        while True:
            reason = "it ended"
            connection = self._connection
            try:
                for item in connection:
                    if self._closed:
                        return
                    if isinstance(item, Decoded):
                        item = self._placed(item, connection)
                        if begin is None:
                            begin = item.pts + round(self._start_s / self._info.time_base)
                            end = None if self._end_s is None else item.pts + round(self._end_s / self._info.time_base)
                        if item.pts < begin:
                            continue
                        if end is not None and item.pts >= end:
                            return
                    yield item
            except _OtherShapeError:
                raise
            except SourceError as error:
                reason = error.message
            if self._closed or not self._call_back(connection, reason):
                return

    def _placed(self, item: Decoded, connection: Connection) -> Decoded:
        """A picture of the present connection with the time and the size that the stream has."""
        seen_s = item.captured_at_s if item.captured_at_s is not None else self._clock.now_s()
        pts_s = float(item.pts * connection.info.time_base)
        is_back = self._lost_s is not None
        if is_back:
            self._place(seen_s, pts_s, connection)
        time_base = self._info.time_base
        pts = round(item.pts * connection.info.time_base / time_base) + round(self._shift_s / time_base)
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + 1)
        if is_back:
            # By their times: the last picture before may have been taken long after it came.
            away_s = seen_s - self._seen_s if self._last_pts is None else float((pts - self._last_pts) * time_base)
            self._came_back(seen_s, away_s)
        self._last_pts, self._seen_s = pts, seen_s
        return replace(item, pts=pts, picture=self._fitted(item.picture), captured_at_s=seen_s)

    def _fitted(self, picture: Native) -> Native:
        width, height = self._info.width, self._info.height
        if (picture.width, picture.height) == (width, height):
            return picture
        stretch = (picture.width * height) / (picture.height * width)
        if abs(stretch - 1) > _MAX_STRETCH or not isinstance(picture, AvPicture):
            raise _OtherShapeError(
                f"source {self._shown} now sends pictures of {picture.width}x{picture.height}, "
                f"the run began with {width}x{height}",
                hint="start the run again",
            )
        return picture.scaled(width, height)

    # -- gaps ---------------------------------------------------------------------------------------------------

    def _call_back(self, connection: Connection, reason: str) -> bool:
        """Whether there is another connection now; not once closed. Raises SourceLostError after giving up."""
        now_s = self._clock.now_s()
        if self._lost_s is None:
            self._lost_s = now_s
            lead_s = connection.lead_s
            self._lead_s = lead_s - self._shift_s if lead_s is not None else self._lead_s
            if now_s - self._came_back_s >= self._policy.max_delay_s:
                self._backoff.reset()
            if self._policy.give_up_s > 0:
                _LOG.warning("%s; calling back for %g s", reason, self._policy.give_up_s)
        connection.close()
        until_s = self._lost_s + self._policy.give_up_s
        if now_s < until_s and not nap(min(now_s + self._backoff.next_s(), until_s), self._clock, self._is_closed):
            return False
        if self._clock.now_s() >= until_s:
            raise self._lost(reason)
        try:
            made = connect_until(
                self._connect,
                until_s,
                backoff=self._backoff,
                clock=self._clock,
                unwanted=self._is_closed,
                shown=self._shown,
            )
        except SourceError as error:
            raise self._lost(reason) from error
        with self._lock:
            if made is None or self._closed:
                if made is not None:
                    made.close()
                return False
            self._connection = made
        return True

    def _lost(self, reason: str) -> SourceLostError:
        if self._policy.give_up_s <= 0:
            return SourceLostError(reason)
        return SourceLostError(f"{reason}, and did not come back within {self._policy.give_up_s:g} s")

    def _place(self, seen_s: float, pts_s: float, connection: Connection) -> None:
        """Choose the shift for a connection by its first picture."""
        lead_s = connection.lead_s
        lead_s = seen_s - pts_s if lead_s is None else lead_s
        if self._lead_s is not None and not self._same_clock(lead_s, pts_s):
            self._shift_s = lead_s - self._lead_s

    def _came_back(self, seen_s: float, away_s: float) -> None:
        self._offline_s += away_s
        self._reconnects += 1
        self._lost_s = None
        self._came_back_s = seen_s
        _LOG.warning("source %s is back after %.1f s", self._shown, away_s)

    def _same_clock(self, lead_s: float, pts_s: float) -> bool:
        """Whether the sender's times go on, so that they need no new shift."""
        assert self._lead_s is not None
        goes_on = self._last_pts is None or pts_s + self._shift_s > self._last_pts * self._info.time_base
        return goes_on and abs(lead_s - self._shift_s - self._lead_s) <= _SAME_CLOCK_S

    def _is_closed(self) -> bool:
        return self._closed


class _OtherShapeError(SourceError):
    """A source that came back as another one."""
