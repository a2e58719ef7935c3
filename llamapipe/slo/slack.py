"""How the time that is left is divided among the operations that are still to come.

For an invocation of stage o with the deadline of its earliest item (the formula of Llama, SoCC 2021, section 4, with
what the paper leaves open decided: counts of items and waiting are part of a stage's effort, latencies are 95th
percentiles of the cheapest configuration that fits):

    slack(o) = min over paths p from o to a sink of (deadline - now) * effort(o) / sum of effort(o') for o' in p

The worst path is the longest one, so one walk from the sinks upwards finds it for every stage: no path is listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from llamapipe.errors import UsageError

__all__ = ["Effort", "StageGraph"]


@dataclass(slots=True)
class Effort:
    """What a stage takes of the time of the items that pass through it, in the configuration budgeted for it."""

    latency_s: float  # 95th percentile of a batch
    batch: int = 1
    parallelism: int = 1  # invocations that run at the same time
    queue_s: float = 0.0  # before an item's turn comes

    def seconds(self, num_items: float) -> float:
        """Until the last of ``num_items`` is done; none at all for none."""
        if num_items <= 0:
            return 0.0
        return self.latency_s * ceil(num_items / (self.batch * self.parallelism) - 1e-9) + self.queue_s


class StageGraph:
    """The pipeline's stages by index in topological order; ``consumers`` of a stage wait for its items."""

    def __init__(self, consumers: Sequence[Sequence[int]]) -> None:
        for stage, after in enumerate(consumers):
            if any(other <= stage or other >= len(consumers) for other in after):
                raise UsageError(f"stage {stage} has consumers {sorted(after)}, expected later stages only")
        self.consumers = [tuple(after) for after in consumers]

    def __len__(self) -> int:
        return len(self.consumers)

    def ways_s(self, efforts_s: Sequence[float]) -> list[float]:
        """Of each stage, its own effort and that of the longest way from it to a sink."""
        ways = [0.0] * len(self.consumers)
        for stage in range(len(ways) - 1, -1, -1):
            longest = 0.0
            for other in self.consumers[stage]:
                longest = max(longest, ways[other])
            ways[stage] = efforts_s[stage] + longest
        return ways

    def slack_s(self, stage: int, remaining_s: float, efforts_s: Sequence[float]) -> float:
        """The part of the remaining time that the stage's invocation may take.

        ``efforts_s`` are those of the invocation's items at every stage. Zero or below: it is late already.
        """
        way = self.ways_s(efforts_s)[stage]
        if way <= 0.0:  # nothing on the way takes any time
            return remaining_s
        own = efforts_s[stage]
        return remaining_s * (own / way) if own > 0.0 else 0.0

    def budgets_s(self, slo_s: float, efforts_s: Sequence[float]) -> list[float]:
        """The objective of every operation: its share of ``slo_s`` on the longest path that leads through it.

        Along no path do they add up to more than ``slo_s``.
        """
        after = self.ways_s(efforts_s)
        before = [0.0] * len(after)
        for stage, consumers in enumerate(self.consumers):
            for other in consumers:
                before[other] = max(before[other], before[stage] + efforts_s[stage])
        return [
            slo_s * (own / (up + down)) if up + down > 0 else slo_s  # a share first: it never rounds to more than one
            for own, up, down in zip(efforts_s, before, after, strict=True)
        ]

    def paths(self, limit: int = 1000) -> list[tuple[int, ...]]:
        """Every way from a stage that nobody feeds to one that feeds nobody, ``limit`` of them at most."""
        fed = {other for after in self.consumers for other in after}
        found: list[tuple[int, ...]] = []
        open_paths: list[tuple[int, ...]] = [
            (stage,) for stage in reversed(range(len(self.consumers))) if stage not in fed
        ]
        while open_paths and len(found) < limit:
            path = open_paths.pop()
            after = self.consumers[path[-1]]
            if not after:
                found.append(path)
            open_paths += [(*path, other) for other in reversed(after)]
        return found
