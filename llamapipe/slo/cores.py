"""On how few cores a run can be held that has an objective.

A run reserves the cores that it may use for as long as it lasts, so that the cheapest way to meet an objective is on as
few as do. Of streams that come at their own rate these are what frames need on average, with room to catch up; of a
job, what is left to do divided by the time that is left for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

__all__ = ["LateBudget", "cores_for_deadline", "cores_for_rate", "workers_on"]

_BUSY = 0.75  # of their time that cores may be busy with frames that come at their own rate: above, queues grow long
_EFFICIENT = 0.92  # of a core's time that a job makes use of: threads wait for each other now and then
_REMEMBERED = 400  # frames, about
_ALLOWED = 0.6  # of the frames that an objective lets be late: the rest is for what comes after cores were added


def cores_for_rate(core_s: float, frames_per_s: float, cores: int) -> int:
    """Cores for frames of ``core_s`` core-seconds each, 1 to ``cores``."""
    return min(cores, max(1, ceil(core_s * frames_per_s / _BUSY)))


def cores_for_deadline(core_s: float, frames: int, left_s: float, cores: int) -> int:
    """Cores for so many frames more in ``left_s`` seconds, 1 to ``cores``; all of them where that is not enough."""
    if left_s <= 0.0:
        return cores
    return min(cores, max(1, ceil(core_s * frames / _EFFICIENT / left_s)))


def workers_on(cores: int, *, latency: bool) -> int:
    """Workers that are of use on so many cores. A second one beside a slow one is worth it only where time is short."""
    return cores + 1 if latency else cores


@dataclass(slots=True)
class LateBudget:
    """How many of the last few hundred frames are later than ``limit_s``, of which a share ``1 - quantile`` may be.

    Older ones count less and less: what was well for a day is no credit for what goes wrong now.
    """

    limit_s: float
    quantile: float
    frames: float = 0.0
    late: float = 0.0

    def add(self, latency_s: float) -> None:
        """A frame was delivered."""
        self.frames += 1 - self.frames / _REMEMBERED
        self.late += (latency_s > self.limit_s) - self.late / _REMEMBERED

    @property
    def spent(self) -> bool:
        """Whether so many were late that the objective is in danger. Never by one: that may be anything."""
        return self.late > 1.0 + _ALLOWED * (1.0 - self.quantile) * self.frames
