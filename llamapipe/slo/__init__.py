"""Deadlines, slack and per-operation objectives."""

from llamapipe.slo.deadlines import FrameDeadlines, JobPace, LatencyBound
from llamapipe.slo.selectivity import ItemsPerFrame
from llamapipe.slo.slack import Effort, StageGraph

__all__ = ["Effort", "FrameDeadlines", "ItemsPerFrame", "JobPace", "LatencyBound", "StageGraph"]
