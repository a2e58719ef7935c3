"""How long the engine lets messages gather before it looks at them.

Many cameras send something every millisecond. To wake for each of them, and to wake a worker or a source for each in
turn, costs more than what is done about it; a pause that nobody notices in a frame's latency makes one turn of several.
Only where sources keep their own time: a file that is read as fast as it goes would wait. And only where many frames
come: what a single frame sends on its way through many stages comes one after the other, and would wait at each.
"""

from __future__ import annotations

from llamapipe.control.plan import RunPlan

__all__ = ["Gathering"]

_PAUSE_S = 2e-3  # of a pipeline of one stage: a frame is at the engine twice a stage
_SHARE = 0.02  # of a latency objective, at most, of such a pipeline, too
_BUSY = 150.0  # frames a second
_FOLLOWS_S = 0.5  # over what time their rate is taken


class Gathering:
    """Of one run. ``pause_s`` is what to wait now before looking, 0 where frames are few. Times in seconds."""

    def __init__(self, plan: RunPlan) -> None:
        own_time = all(stream.paced or stream.drop_policy != "block" for stream in plan.streams)
        most_s = _PAUSE_S if plan.latency_slo_s is None else min(_PAUSE_S, _SHARE * plan.latency_slo_s)
        deepest = max((stage.depth for stage in plan.stages), default=1)
        self._most_s = most_s / max(1, deepest) if own_time and plan.streams else 0.0
        self._rate = 0.0
        self._last_s: float | None = None

    @property
    def pause_s(self) -> float:
        """How long to wait."""
        return self._most_s if self._rate >= _BUSY else 0.0

    def took(self, num_frames: int, now_s: float) -> None:
        """So many had come since the last look."""
        if self._last_s is not None and now_s > self._last_s:
            past_s = now_s - self._last_s
            share = min(1.0, past_s / _FOLLOWS_S)
            self._rate += share * (num_frames / past_s - self._rate)
        self._last_s = now_s
