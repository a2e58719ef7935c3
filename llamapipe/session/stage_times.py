"""How long frames spend at every stage, waiting included: what a stage's share of the objective is held against.

A frame is at a stage from the moment that all it takes there is ready (its producers are done with the frame; for a
first stage: the frame was captured) until the stage is done with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from llamapipe.control import RunPlan
from llamapipe.control.dataflow import Topology
from llamapipe.report import LatencyTrace

__all__ = ["StageTimes"]


class StageTimes:
    """Of one run. Times are seconds of the run's clock; ``began_s`` is its zero."""

    def __init__(self, plan: RunPlan, began_s: float) -> None:
        topology = Topology(plan)
        self._began_s = began_s
        self._index = topology.index
        self._producers = topology.producers
        self._open: dict[tuple[str, int], tuple[float, dict[int, float]]] = {}  # frame -> captured, stage -> done
        self.through = {stage.name: LatencyTrace() for stage in plan.stages}

    def arrived(self, stream: str, first_seq: int, captured_at_s: Sequence[float]) -> None:
        """Frames were captured."""
        for i, at_s in enumerate(captured_at_s):
            self._open[stream, first_seq + i] = at_s, {}

    def done(self, stage: str, items: Sequence[tuple[str, int, int]], ended_s: float) -> None:
        """An invocation has ended. The last one of a frame counts."""
        index = self._index[stage]
        for stream, seq, _ in items:
            frame = self._open.get((stream, seq))
            if frame is not None:
                frame[1][index] = ended_s

    def released(self, stream: str, seq: int) -> None:
        """Every stage is done with the frame."""
        captured_s, ended = self._open.pop((stream, seq), (0.0, {}))
        for name, index in self._index.items():
            if index in ended:
                ready_s = max((ended[p] for p in self._producers[index] if p in ended), default=captured_s)
                self.through[name].add(ended[index] - self._began_s, max(0.0, ended[index] - ready_s))
