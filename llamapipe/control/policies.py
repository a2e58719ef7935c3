"""Published policies behind the interface of `llamapipe.control.chooser`, for comparison.

Each says what of the original it keeps. What is decided before a run (one configuration a stage, a split of the
objective) is the planner's, see `llamapipe.sim.planners`; what is decided while it goes on is here.
"""

from __future__ import annotations

from math import inf

from llamapipe.control.chooser import Chooser, Decision, Verdict
from llamapipe.control.dataflow import FrameRecord, Topology
from llamapipe.control.lifecycle import ItemState
from llamapipe.control.plan import RunPlan
from llamapipe.control.queues import StageQueue
from llamapipe.control.timers import Timers
from llamapipe.control.workforce import Seat, Workforce
from llamapipe.errors import UsageError

__all__ = ["POLICIES", "GrandSlamChooser", "InfaasChooser", "LlamaChooser", "NexusChooser", "chooser_for"]


class LlamaChooser(Chooser):
    """Llama (Romero et al., SoCC 2021) as published.

    Kept: slack as a share of the time that is left on the worst remaining path, recomputed per invocation; the
    configuration of least cost over batch among those whose smoothed mean latency fits, the fastest where none does;
    two decisions an invocation; safe delayed batching; deeper operations first; feedback by exponential smoothing.
    Not in the paper, and so not here: accuracy, quantiles, how many items an operation gets of a frame, its queue.
    """

    def efforts_s(self, deciding: int, frame: FrameRecord, num_frames: int) -> list[float]:
        """Smoothed mean latencies, one invocation a stage."""
        efforts = [0.0] * len(self.candidates)
        for stage, state in enumerate(frame.state):
            if stage == deciding or state is ItemState.WAITING or state is ItemState.QUEUED:
                candidate = self.candidates[stage][self._last_choice[stage]]
                efforts[stage] = self.estimates[stage][self._last_choice[stage]].median_s(candidate.max_batch)
        return efforts

    def __init__(
        self, plan: RunPlan, topology: Topology, workforce: Workforce, timers: Timers, queues: list[StageQueue]
    ) -> None:
        super().__init__(plan, topology, workforce, timers, queues)
        self._last_choice = [0] * len(plan.stages)

    def saw(self, stage: int, choice: int, num_items: int, busy_s: float, now_s: float) -> None:
        """See `Chooser.saw`."""
        super().saw(stage, choice, num_items, busy_s, now_s)
        self._last_choice[stage] = choice

    def _cheapest(
        self, stage: int, allowed: tuple[int, ...], available: int, slack_s: float, now_s: float, avoid: str
    ) -> tuple[int, int, Seat | None, float] | None:
        best: tuple[int, int, Seat | None, float] | None = None
        least = inf
        for choice, candidate in enumerate(self.candidates[stage]):
            estimate = self.estimates[stage][choice]
            full_s = estimate.median_s(candidate.max_batch)
            seat, wait_s = self._seat(stage, choice, now_s, avoid)
            if wait_s == inf or full_s + wait_s > slack_s:
                continue
            cost = candidate.price * candidate.cores * full_s / candidate.max_batch
            if cost < least:
                best, least = (choice, min(available, candidate.max_batch), seat, full_s + wait_s), cost
        return best


class GrandSlamChooser(Chooser):
    """GrandSLAm (Kannan et al., EuroSys 2019).

    Kept: one configuration a stage; each stage's share of the objective is proportional to its latency, from a linear
    profile; the batch is the largest that its slack allows, formed of what waits. Its reordering by slack is that of
    deadlines here, which streams of one objective come in anyway.
    """

    def efforts_s(self, deciding: int, frame: FrameRecord, num_frames: int) -> list[float]:
        """Profiled latencies of single items."""
        efforts = [0.0] * len(self.candidates)
        for stage, state in enumerate(frame.state):
            if stage == deciding or state is ItemState.WAITING or state is ItemState.QUEUED:
                efforts[stage] = self.estimates[stage][0].median_s(1)
        return efforts


class NexusChooser(Chooser):
    """Nexus (Shen et al., SOSP 2019).

    Kept: a batch and a latency budget a stage, split over the graph beforehand to the least cost; batches are waited
    for within the budget; an item that can no longer be on time is dropped early, at the head of the queue. Prefix
    batching, and packing several models on one GPU, have no counterpart here.
    """

    def _slack_s(self, stage: int, frame: FrameRecord, num_items: int, now_s: float) -> float:
        budgets = self._policy.budgets_s
        due_s = self.due_s(frame)
        if due_s == inf or not budgets:
            return super()._slack_s(stage, frame, num_items, now_s)
        return due_s - now_s - self._after_s(stage)

    def _after_s(self, stage: int) -> float:
        """What the stages after this one were promised, on the longest way."""
        return self._graph.ways_s(self._policy.budgets_s)[stage] - self._policy.budgets_s[stage]


class InfaasChooser(Chooser):
    """INFaaS (Romero et al., ATC 2021), its greedy selection per query.

    Kept: every stage is a query of its own, with an equal part of the objective; of the variants that are running,
    right enough and fast enough by the profile for the items at hand, the one that fits most tightly is taken, since it
    is likely the cheapest; a variant whose latency exceeds its profile is passed over; nothing fits: the fastest.
    Its autoscalers are the fleet's matter here. It knows no pipelines, hence no slack that is handed on.
    """

    def _slack_s(self, stage: int, frame: FrameRecord, num_items: int, now_s: float) -> float:
        due_s = self.due_s(frame)
        if due_s == inf:
            return inf
        return (due_s - frame.captured_at_s) / self._depth

    def __init__(
        self, plan: RunPlan, topology: Topology, workforce: Workforce, timers: Timers, queues: list[StageQueue]
    ) -> None:
        super().__init__(plan, topology, workforce, timers, queues)
        self._depth = max((len(path) for path in self._graph.paths()), default=1)

    def decide(self, stage: int, frame: FrameRecord, available: int, now_s: float, avoid: str = "") -> Decision:
        """See `Chooser.decide`. Only what has room is looked at, and nothing is waited for."""
        slo_s = self._slack_s(stage, frame, available, now_s)
        best: Decision | None = None
        tightest = inf
        for choice in self._allowed[stage]:
            seat = self._workforce.freest(stage, choice, avoid)
            if seat is None:
                continue
            num_items = min(available, self.candidates[stage][choice].max_batch)
            latency_s = self.estimates[stage][choice].median_s(num_items)
            if latency_s <= slo_s and slo_s - latency_s < tightest:
                best, tightest = Decision(Verdict.GO, choice, num_items, seat), slo_s - latency_s
        if best is not None:
            return best
        found = self._fastest(stage, self._allowed[stage], available, now_s, avoid)
        if found is None:
            return self._sleep(stage, inf, inf)
        return Decision(Verdict.GO, found[0], found[1], found[2])


POLICIES: dict[str, type[Chooser]] = {
    "fixed": Chooser,
    "llamapipe": Chooser,
    "llama": LlamaChooser,
    "grandslam": GrandSlamChooser,
    "nexus": NexusChooser,
    "infaas": InfaasChooser,
}


def chooser_for(
    plan: RunPlan, topology: Topology, workforce: Workforce, timers: Timers, queues: list[StageQueue]
) -> Chooser:
    """The chooser of the plan's policy. Raises UsageError for one that nobody knows."""
    kind = POLICIES.get(plan.policy.name)
    if kind is None:
        raise UsageError(f"unknown policy {plan.policy.name!r}: expected one of {', '.join(POLICIES)}")
    return kind(plan, topology, workforce, timers, queues)
