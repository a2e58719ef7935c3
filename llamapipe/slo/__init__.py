"""Deadlines, slack and per-operation objectives."""

from llamapipe.slo.cores import LateBudget, cores_for_deadline, cores_for_rate, workers_on
from llamapipe.slo.deadlines import FrameDeadlines, JobPace, LatencyBound
from llamapipe.slo.selectivity import ItemsPerFrame
from llamapipe.slo.slack import Effort, StageGraph

__all__ = [
    "Effort",
    "FrameDeadlines",
    "ItemsPerFrame",
    "JobPace",
    "LateBudget",
    "LatencyBound",
    "StageGraph",
    "cores_for_deadline",
    "cores_for_rate",
    "workers_on",
]
