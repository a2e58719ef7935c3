"""What ``--shadow`` has seen, in order, kept short however long the run is."""

from __future__ import annotations

from llamapipe.accuracy import Agreement
from llamapipe.report import shadowed
from llamapipe.report.shadowed import ShadowSummary, ShadowWindow
from llamapipe.tune import Predicted

__all__ = ["ShadowSeries"]

_MOST = 240  # rows that are kept; what happened beside quiet windows is kept in any case, as is its note
_QUIET = (shadowed.FINE, shadowed.THIN)


class ShadowSeries:
    """One run's. ``share`` of frames are looked at, and ``floor`` is what agreement is held against."""

    def __init__(self, share: float, floor: float) -> None:
        self._share = share
        self._floor = floor
        self._windows: list[ShadowWindow] = []
        self._stride = 1  # every so many quiet windows one is kept
        self._quiet = 0  # of them so far
        self._judged = 0
        self._thin = 0
        self._least: float | None = None

    def window(self, at_s: float, frame: int, seen: Agreement | None, ran: str, verdict: str) -> None:
        """One more was looked at; ``seen`` is what the verdict is by."""
        if verdict == shadowed.THIN:
            self._thin += 1
        elif seen is not None:
            self._judged += 1
            self._least = seen.f1 if self._least is None else min(self._least, seen.f1)
        if seen is None:  # neither the configuration nor its reference has found anything
            self._add(ShadowWindow(at_s, frame, 0, None, None, None, ran, verdict))
        else:
            self._add(ShadowWindow(at_s, frame, seen.num_frames, seen.f1, seen.low, seen.high, ran, verdict))

    def followed(self, at_s: float, frame: int, ran: str, verdict: str, by: Predicted | None, frames: int) -> None:
        """The run is changed, or a search has ended; ``by`` is what it measured of what runs now, on ``frames``."""
        figures = (None, None, None) if by is None else (by.accuracy, by.accuracy_low, by.accuracy_high)
        self._add(ShadowWindow(at_s, frame, frames, *figures, ran, verdict))

    def _add(self, window: ShadowWindow) -> None:
        if window.verdict in _QUIET:
            self._quiet += 1
            if self._quiet % self._stride:
                return
        self._windows.append(window)
        quiet = [row for row in self._windows if row.verdict in _QUIET]
        if len(quiet) > _MOST:
            self._stride *= 2
            self._quiet = 0
            left = {id(row) for row in quiet[::2]}
            self._windows = [row for row in self._windows if id(row) not in left]

    def summary(self, left_out: int) -> ShadowSummary:
        """So far; ``left_out`` windows were not looked at."""
        return ShadowSummary(
            self._share, self._floor, self._judged, self._thin, left_out, self._least, list(self._windows)
        )
