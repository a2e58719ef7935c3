"""What ``--shadow`` has seen of a run, as run.json has it."""

from __future__ import annotations

import msgspec

__all__ = ["BELOW", "FINE", "KEPT", "REFERENCE", "RETUNED", "THIN", "ShadowSummary", "ShadowWindow"]

FINE = "fine"
THIN = "too little to judge"
BELOW = "below the floor"
REFERENCE = "changed to the reference"
RETUNED = "re-tuned"
KEPT = "nothing cheaper found"


class ShadowWindow(msgspec.Struct, frozen=True):
    """What was thought of the configuration after one more window was looked at, or what followed from it."""

    at_s: float  # of the video: where the window ends
    frame: int  # its last one
    frames: int  # that agreement is of: those of this window and of the last ones before it
    agreement: float | None  # F1 with the reference; None: neither found anything
    low: float | None  # end of the 95 % interval
    high: float | None
    ran: str  # what the configuration has other than the reference, or "the reference"; of a change: what runs then
    verdict: str  # one of the above


class ShadowSummary(msgspec.Struct, frozen=True):
    """The whole series. Of a long run only every so many quiet windows are kept; the counts are of all."""

    share: float  # of frames that were to be looked at
    floor: float
    judged: int  # windows
    thin: int  # windows that had, with the last ones before them, too few boxes to judge by
    left_out: int  # windows that the machine had no time for
    least: float | None  # agreement, of those that were judged
    windows: list[ShadowWindow]

    @property
    def drifted(self) -> bool:
        """Whether agreement was below the floor at any time."""
        return any(window.verdict == BELOW for window in self.windows)

    def __str__(self) -> str:
        thin = f"{self.thin} {'more ' if self.judged else ''}had too few boxes to judge by"
        if self.least is None:
            return f"shadow: no window of frames could be judged{f': {thin}' if self.thin else ''}"
        windows = f"{self.judged} window" + ("" if self.judged == 1 else "s")
        told = f"shadow: {windows} judged, agreement at least {self.least:.3f}, the floor is {self.floor:g}"
        return f"{told}; {thin}" if self.thin else told
