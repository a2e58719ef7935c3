"""A change of how stages are run while the run goes on: loaded beside the old way, then taken instead of it.

One worker after another loads, the others go on meanwhile; the change is made when all have loaded that can. Nothing
that is queued or under way is touched: what was given out comes back as it was asked for, the rest goes the new way.
"""

from __future__ import annotations

from collections.abc import Sequence

from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.control.plan import RunPlan
from llamapipe.control.workforce import Workforce

__all__ = ["Changes"]


class Changes:
    """Of one run."""

    def __init__(self, plan: RunPlan, workforce: Workforce) -> None:
        self._index = {stage.name: i for i, stage in enumerate(plan.stages)}
        self._can_hold = [stage.hold_unless is not None for stage in plan.stages]
        self._workforce = workforce
        self._wanted: ev.Change | None = None
        self._reason = ""  # why something could not be loaded
        self.sample_fps = [stage.sample_fps for stage in plan.stages]
        """How often each stage looks, now."""
        self.holds = list(self._can_hold)
        """Whether each stage holds what it gave while its condition says so, now."""

    @property
    def pending(self) -> bool:
        """Whether something is being changed."""
        return self._wanted is not None

    def begin(self, change: ev.Change) -> None:
        """Take a change in; one that was still being made is given up."""
        self._wanted, self._reason = change, ""
        for stage, choice in self._ways(change.settings):
            self._workforce.want(stage, choice)

    def failed(self, reason: str) -> None:
        """Something could not be loaded."""
        self._reason = reason

    def advance(self, now_s: float) -> act.Changed | None:
        """Let the next worker load. What has come of the change, once all have that can."""
        if self._wanted is None:
            return None
        ways = self._ways(self._wanted.settings)
        if self._workforce.load_next(ways, now_s):
            return None
        change, self._wanted = self._wanted, None
        for stage, choice in ways:
            if not any(seat.serves(stage, choice) for seat in self._workforce):
                return act.Changed(change.settings, change.why, self._reason or "nobody can load it")
        for setting in change.settings:
            stage = self._index[setting.stage]
            self.sample_fps[stage] = setting.sample_fps
            self.holds[stage] = setting.holds and self._can_hold[stage]
        return act.Changed(change.settings, change.why)

    def ways_of(self, changed: act.Changed) -> list[tuple[int, int]]:
        """(stage, number of the way) of what was changed."""
        return self._ways(changed.settings)

    def _ways(self, settings: Sequence[ev.Setting]) -> list[tuple[int, int]]:
        return [(self._index[setting.stage], setting.choice) for setting in settings]
