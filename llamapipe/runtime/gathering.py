"""How long the engine lets messages gather before it looks at them.

Many cameras send something every millisecond. To wake for each of them, and to wake a worker or a source for each in
turn, costs more than what is done about it; a pause that nobody notices in a frame's latency makes one turn of several.
Where sources keep their own time, that is only done if many frames come: what a single frame sends on its way through
many stages comes one after the other, and would wait at each.

Where all is read as fast as it goes, nobody minds when a single frame is through, but no worker may run out of work.
Each has an invocation in hand while the answer to the one before waits to be looked at: so long the engine may rest.
"""

from __future__ import annotations

from collections.abc import Iterable

from llamapipe.control.actions import Dispatch
from llamapipe.control.plan import RunPlan

__all__ = ["Gathering"]

_PAUSE_S = 2e-3  # of a pipeline of one stage: a frame is at the engine twice a stage
_SHARE = 0.02  # of a latency objective, at most, of such a pipeline, too
_BUSY = 150.0  # frames a second
_FOLLOWS_S = 0.5  # over what time their rate is taken
_MOST_REST_S = 5e-3
_REST_SHARE = 0.6  # of what workers have in hand: on cores that are all busy it takes a while to be woken
_LEAST_REST_S = 5e-4  # shorter ones gather nothing
_QUICKER, _SLOWER = 0.5, 0.1  # shares of an invocation in what is expected of the next one
_IDLE_S = 0.5  # a worker that has had nothing to do for so long is not waited for


class Gathering:
    """Of one run. ``pause_s`` is what to wait now before looking, 0 where frames are few. Times in seconds."""

    def __init__(self, plan: RunPlan) -> None:
        own_time = all(stream.paced or stream.drop_policy != "block" for stream in plan.streams)
        most_s = _PAUSE_S if plan.latency_slo_s is None else min(_PAUSE_S, _SHARE * plan.latency_slo_s)
        deepest = max((stage.depth for stage in plan.stages), default=1)
        self._most_s = most_s / max(1, deepest) if own_time and plan.streams else 0.0
        self._rate = 0.0
        self._last_s: float | None = None
        job = all(stream.drop_policy == "block" and not stream.paced for stream in plan.streams)
        rest_s = _MOST_REST_S if plan.latency_slo_s is None else min(_MOST_REST_S, _SHARE * plan.latency_slo_s)
        self._most_rest_s = rest_s if job and plan.max_queued > 1 else 0.0
        self._busy_s: dict[tuple[str, tuple[str, ...]], float] = {}  # by stage and chain: what is expected to be taken
        self._since_s: dict[str, float] = {}  # by worker: when it was done with what it has answered last

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

    def answered(self, dispatch: Dispatch, started_s: float, ended_s: float) -> None:
        """A worker was at an invocation, with all that was chained to it, for this time."""
        if self._most_rest_s:
            key, busy_s = (dispatch.stage, dispatch.chain), ended_s - started_s
            expected_s = self._busy_s.get(key, busy_s)
            self._busy_s[key] = expected_s + (_QUICKER if busy_s < expected_s else _SLOWER) * (busy_s - expected_s)
            self._since_s[dispatch.worker] = ended_s

    def rest_s(self, given: Iterable[Dispatch], now_s: float) -> float:
        """How long nobody has to be looked after, workers having been given this; 0 where it is not worth it."""
        if not self._since_s:
            return 0.0
        until_s: dict[str, float] = {}
        for dispatch in given:
            expected_s = self._busy_s.get((dispatch.stage, dispatch.chain), 0.0)
            if dispatch.worker in until_s:
                until_s[dispatch.worker] += expected_s
            elif dispatch.worker in self._since_s:  # what it is at may take longer than expected, but is not over yet
                until_s[dispatch.worker] = max(now_s, self._since_s[dispatch.worker] + expected_s)
            else:
                return 0.0
        if len(until_s) < len(self._since_s):  # somebody has nothing to do
            for worker in [w for w, since_s in self._since_s.items() if now_s - since_s > _IDLE_S and w not in until_s]:
                del self._since_s[worker]
            return 0.0
        rest_s = min(self._most_rest_s, _REST_SHARE * (min(until_s.values()) - now_s))
        return rest_s if rest_s >= _LEAST_REST_S else 0.0
