"""Which candidate runs the next invocation of a stage, with how many items, where, and when.

    c* = argmin over candidates c and counts n of cost(c, n) / n
         subject to  p95 latency(c, n) + wait(c) <= slack  and  accuracy(c) >= floor

The queue of a stage is unbounded and uncommitted: every look at it decides anew (early speculation), and only what a
worker has room for is committed (late commit). Where the best candidate's workers are busy, work waits for them as
long as its slack allows, and goes elsewhere when it no longer does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import ceil, inf

from llamapipe.control.dataflow import FrameRecord, Topology
from llamapipe.control.estimates import LatencyEstimate
from llamapipe.control.lifecycle import ItemState
from llamapipe.control.plan import Candidate, RunPlan
from llamapipe.control.queues import StageQueue
from llamapipe.control.timers import Timers
from llamapipe.control.workforce import Seat, Workforce
from llamapipe.slo import FrameDeadlines, ItemsPerFrame, JobPace, LatencyBound, StageGraph

__all__ = ["WHYS", "Chooser", "Decision", "Verdict"]

_PAYS = 0.05  # share of an item's cost that a fuller batch must save to be waited for
_PATIENCE = 3.0  # times the expected time until a batch is full
_NEVER = 1 << 60  # items
_AHEAD = 0.05  # of the time that a frame has, that work may be committed ahead of its turn
_MOST_LOOKED_AT = 8  # candidates, in a decision
_MARGIN_STEP = 0.02  # of a latency objective, that one late frame adds to the margin
_MOST_MARGIN = 0.5  # of it
_LOOK_S = 1e-3  # between two looks at what waits
_ALPHA = 0.1  # of the time between two items


class Verdict(Enum):
    """What becomes of the items at the head of a queue."""

    GO = "go"
    WAIT = "wait"  # for more items, or for a worker that is busy
    DROP = "drop"  # the first one: it is too late for it


@dataclass(slots=True)
class Decision:
    """A verdict, for GO with its candidate, how many items, and the seat. ``why`` is for reports: see `WHYS`."""

    verdict: Verdict
    choice: int = 0
    num_items: int = 0
    seat: Seat | None = None
    why: str = ""


WHYS = {
    "only-way": "there is one way to run it, item by item",
    "chained": "run in one invocation with the stage before it",
    "cheapest": "the cheapest of those that are right enough, in time",
    "slack-short": "a cheaper candidate or a fuller batch would have been late",
    "overload-degrade": "nothing right enough was in time: one less right was",
    "overload-late": "nothing was in time: what gets most done",
    "overload-drop": "nothing was in time: the frame was given up",
    "wait-batch": "waited for a fuller batch",
    "wait-worker": "waited for a busy worker",
}
"""Why an invocation was given out as it was, or not yet."""

_WAIT_BATCH = Decision(Verdict.WAIT, why="wait-batch")
_WAIT_WORKER = Decision(Verdict.WAIT, why="wait-worker")
_DROP = Decision(Verdict.DROP, why="overload-drop")


class Chooser:
    """Decides for one run. Looks at the time again through ``timers`` under the kind ``look``."""

    def __init__(
        self, plan: RunPlan, topology: Topology, workforce: Workforce, timers: Timers, queues: list[StageQueue]
    ) -> None:
        self._plan = plan
        self._policy = plan.policy
        self._topology = topology
        self._workforce = workforce
        self._timers = timers
        self._queues = queues
        self._graph = StageGraph(topology.consumers)
        self.candidates: list[tuple[Candidate, ...]] = [stage.ways for stage in plan.stages]
        self.first = [0] * len(plan.stages)
        """The candidate of each stage that is budgeted for, and taken where nothing is chosen."""
        feedback = plan.policy.feedback
        self.estimates = [[LatencyEstimate(c.points, feedback=feedback) for c in each] for each in self.candidates]
        self._seen_s = [-inf] * len(plan.stages)  # when an invocation of the stage last came back
        self._items = [ItemsPerFrame(max_items=most) for most in _most_items(plan, topology)]
        self._between_s = [inf] * len(plan.stages)  # two items of a stage, on average
        self._last_s = [-inf] * len(plan.stages)
        self._held_until_s = [inf] * len(plan.stages)  # how long its first items are to wait for others
        self._deadlines = _deadlines(plan)
        # A stage that waits is not looked at before one of these: so many items are there, somebody has become free,
        # the time has come.
        self._asleep: list[tuple[int, int, float] | None] = [None] * len(plan.stages)
        self._looks_s = [inf] * len(plan.stages)  # the earliest timer that is set for a stage that waits
        self._margin_s = 0.0
        steers = plan.policy.name == "llamapipe" and plan.policy.feedback and plan.latency_slo_s is not None
        self._step_s = _MARGIN_STEP * (plan.latency_slo_s or 0.0) if steers else 0.0
        self.expects_more = True
        self._passed_over = False  # whether something cheaper would be late, as of the decision that is being taken
        self._turn_s = 0.0  # how long a worker is waited for, as of the decision that is being taken
        # How long one that is still busy may be so, to be given something.
        self._patience_s = inf
        if plan.latency_slo_s is not None:
            self._patience_s = _AHEAD * plan.latency_slo_s
        elif plan.job is not None:
            self._patience_s = _AHEAD * plan.job.deadline_s
        # A job's deadlines are a pace: a frame behind it may be made up for, and nothing is dropped.
        self._drops = plan.policy.on_overload == "drop" and plan.latency_slo_s is not None
        # Stages that leave nothing to decide: one way to run them, one item at a time, late or not.
        standing = [each[: stage.num_choices] for stage, each in zip(plan.stages, self.candidates, strict=True)]
        self._plain = [len(each) == 1 and each[0].max_batch == 1 and not self._drops for each in standing]
        self._allowed = [self._fit_for(each, plan.policy.floor) for each in standing]
        self._degraded = [self._fit_for(each, plan.policy.second_floor) for each in standing]

    @staticmethod
    def _fit_for(candidates: tuple[Candidate, ...], floor: float) -> tuple[int, ...]:
        """Candidates that are right enough; the most right ones where none is.

        Of many, the cheapest and the fastest are looked at: observations may turn a few around, not hundreds.
        """
        fitting = [i for i, candidate in enumerate(candidates) if candidate.accuracy >= floor]
        best = max(candidate.accuracy for candidate in candidates)
        fitting = fitting or [i for i, candidate in enumerate(candidates) if candidate.accuracy == best]
        if len(fitting) > _MOST_LOOKED_AT:
            cheap = sorted(fitting, key=lambda i: candidates[i].full_batch_cost)[: _MOST_LOOKED_AT - 2]
            fast = sorted(fitting, key=lambda i: _alone_s(candidates[i]))[:2]
            fitting = sorted({*cheap, *fast})
        return tuple(fitting)

    @property
    def active(self) -> bool:
        """Whether there is anything to decide."""
        return self._policy.name != "fixed"

    def decides_for(self, stage: int) -> bool:
        """Whether the stage's invocations are this one's to form. Those of a stage that remembers have one home."""
        return self.active and not self._plan.stages[stage].stateful

    def usable(self, stage: int) -> tuple[int, ...]:
        """Candidates that an invocation may be given at all, however late it is."""
        if not self.decides_for(stage):
            return (self.first[stage],)
        return self._degraded[stage] if self._policy.on_overload == "degrade" else self._allowed[stage]

    def change(self, stage: int, choice: int) -> None:
        """From now on the stage is run in this way alone."""
        self.first[stage] = choice
        self._allowed[stage] = self._degraded[stage] = (choice,)
        self._plain[stage] = self.candidates[stage][choice].max_batch == 1 and not self._drops
        self._asleep[stage], self._held_until_s[stage] = None, inf

    def due_s(self, frame: FrameRecord) -> float:
        """When the frame is to have left the pipeline, a margin before its deadline; infinite without an objective."""
        deadlines = self._deadlines.get(frame.stream)
        return inf if deadlines is None else deadlines.due_s(frame.captured_at_s, frame.seq) - self._margin_s

    def asleep(self, stage: int, available: int, now_s: float) -> bool:
        """Whether nothing has happened since the stage began to wait that could end its waiting."""
        asleep = self._asleep[stage]
        if asleep is None:
            return False
        if available < asleep[0] and asleep[1] in (-1, self._workforce.freed) and now_s < asleep[2]:
            return True
        self._asleep[stage] = None
        return False

    # -- what is observed ---------------------------------------------------------------------------------------

    def arrived(self, stage: int, num_items: int, now_s: float) -> None:
        """So many items have become ready."""
        last_s = self._last_s[stage]
        self._last_s[stage] = now_s
        if last_s > -inf:
            between_s = (now_s - last_s) / num_items
            known_s = self._between_s[stage]
            self._between_s[stage] = between_s if known_s == inf else known_s + _ALPHA * (between_s - known_s)

    def no_more(self) -> None:
        """Every source has ended: nothing comes that a batch could be filled with."""
        self.expects_more = False
        self._asleep = [None] * len(self._asleep)

    def left(self, frame: FrameRecord, now_s: float) -> None:
        """A frame has left the pipeline. Follows the objective's own quantile: of what profiles and percentiles of

        single stages leave out, the margin grows until just the share of frames is late that may be.
        """
        if self._step_s > 0.0:
            late = now_s > self.due_s(frame) + self._margin_s
            step_s = self._step_s * (self._policy.quantile if late else self._policy.quantile - 1.0)
            self._margin_s = min(max(0.0, self._margin_s + step_s), _MOST_MARGIN / _MARGIN_STEP * self._step_s)

    def saw_frame(self, stage: int, num_items: int) -> None:
        """A frame has had so many items at the stage, 0 where it was not taken there."""
        self._items[stage].saw(num_items)

    def saw(self, stage: int, choice: int, num_items: int, busy_s: float, now_s: float) -> None:
        """An invocation came back."""
        self.estimates[stage][choice].saw(num_items, busy_s, now_s)
        self._seen_s[stage] = now_s

    def median_s(self, stage: int, choice: int, num_items: int) -> float:
        """What the invocation usually takes."""
        return self.estimates[stage][choice].median_s(num_items)

    # -- slack --------------------------------------------------------------------------------------------------

    def efforts_s(self, deciding: int, frame: FrameRecord, num_frames: int) -> list[float]:
        """What every stage takes of the time of ``num_frames`` frames like this one, in its first candidate.

        All stages share the workers: where nobody is idle, each begins with a wait for somebody. ``deciding`` is the
        stage that an invocation is looked for: of this frame, some of its items may be out already.
        """
        topology, efforts = self._topology, [0.0] * len(self._plan.stages)
        for stage in range(len(efforts)):
            own = stage == deciding
            state = frame.state[stage]
            if not own and state is not ItemState.WAITING and state is not ItemState.QUEUED:
                continue  # what is done, or skipped, gives its time back
            level = topology.level[stage]
            known = level >= 0 and frame.state[level] is ItemState.DONE
            items = num_frames * (frame.count[level] if known else self._items[stage].upper)
            if own:
                items = min(items, max(1, len(self._queues[stage])))
            if items <= 0:
                continue
            parallel = max(1, self._workforce.num_serving(stage))
            estimate = self.estimates[stage][self.first[stage]]
            batch = max(1, min(self.candidates[stage][self.first[stage]].max_batch, ceil(items / parallel)))
            # The items in question are the first of their own stage's queue: only in others' do some lie before them.
            waiting = 0 if own else len(self._queues[stage]) // (batch * parallel)
            effort_s = estimate.p95_s(batch) * ceil(items / (batch * parallel)) + waiting * estimate.median_s(batch)
            efforts[stage] = effort_s if own else effort_s + self._turn_s
        return efforts

    def _slack_s(self, stage: int, frame: FrameRecord, num_items: int, now_s: float) -> float:
        due_s = self.due_s(frame)
        if due_s == inf:
            return inf
        self._turn_s = self._wait_for_anybody_s(stage, now_s)
        per_frame = max(1.0, self._items[stage].mean)
        efforts = self.efforts_s(stage, frame, max(1, round(num_items / per_frame)))
        return self._graph.slack_s(stage, due_s - now_s, efforts)

    def _wait_for_anybody_s(self, stage: int, now_s: float) -> float:
        """Until some worker is done with all it has; nothing where one is idle."""
        seat = self._workforce.freest(stage, self.first[stage])
        if seat is None:
            return self._workforce.wait_s(stage, self.first[stage], now_s) or 0.0
        return max(0.0, seat.free_at_s - now_s) if seat.held else 0.0

    # -- the decision -------------------------------------------------------------------------------------------

    def decide(self, stage: int, frame: FrameRecord, available: int, now_s: float, avoid: str = "") -> Decision:
        """For the ``available`` items at the head of the queue, the first of them ``frame``'s."""
        if self._plain[stage]:
            only = self.first[stage]
            seat, _ = self._seat(stage, only, now_s, avoid)
            return self._sleep(stage, inf, inf) if seat is None else Decision(Verdict.GO, only, 1, seat, "only-way")
        candidates = self.candidates[stage]
        largest = min(available, max(candidates[i].max_batch for i in self._allowed[stage]))
        slack_s = self._slack_s(stage, frame, largest, now_s)
        why = "cheapest"
        found = self._cheapest(stage, self._allowed[stage], available, slack_s, now_s, avoid)
        if found is None and self._drops and self._too_late(stage, frame, now_s):
            return _DROP
        if found is None and self._policy.on_overload == "degrade":
            found = self._cheapest(stage, self._degraded[stage], available, slack_s, now_s, avoid)
            why = "overload-degrade"
        if found is None:
            return self.rush(stage, available, now_s, avoid)
        choice, num_items, seat, latency_s = found
        if seat is None:  # the best one is busy: as long as there is time, wait for it
            return self._sleep(stage, inf, now_s + max(_LOOK_S, slack_s - latency_s))
        if self._policy.delayed_batching:
            target = self._worth_waiting_for(stage, choice, num_items, available, slack_s, now_s)
            if target:
                return self._sleep(stage, target, self._held_until_s[stage], seats=False)
        self._held_until_s[stage] = inf
        if self._passed_over and why == "cheapest":
            why = "slack-short"
        return Decision(Verdict.GO, choice, num_items, seat, why)

    def rush(self, stage: int, available: int, now_s: float, avoid: str = "") -> Decision:
        """It is late already: whatever gets most done, right now."""
        degrade = self._policy.on_overload == "degrade"
        found = self._fastest(stage, (self._degraded if degrade else self._allowed)[stage], available, now_s, avoid)
        if found is None:
            return self._sleep(stage, inf, inf)
        choice, num_items, seat, _ = found
        return Decision(Verdict.GO, choice, num_items, seat, "overload-late")

    def _cheapest(
        self, stage: int, allowed: tuple[int, ...], available: int, slack_s: float, now_s: float, avoid: str
    ) -> tuple[int, int, Seat | None, float] | None:
        """(candidate, items, seat or None where all are busy, latency) of the least cost an item."""
        best: tuple[int, int, Seat | None, float] | None = None
        best_key = (inf, inf)
        least_late = inf  # cost of what would be late
        for choice in allowed:
            candidate, estimate = self.candidates[stage][choice], self.estimates[stage][choice]
            if self._seen_s[stage] > estimate.seen_s:  # others run in its place; else there was nothing to do
                estimate.fade(now_s)
            seat, wait_s = self._seat(stage, choice, now_s, avoid)
            if wait_s == inf or (seat is None and not self._policy.late_commit):
                continue
            rate = candidate.price * candidate.cores
            num_items = min(available, candidate.max_batch)
            while num_items > 0:
                latency_s = estimate.p95_s(num_items) + wait_s
                if latency_s <= slack_s:
                    key = (rate * estimate.median_s(num_items) / num_items, latency_s)
                    if key < best_key:
                        best, best_key = (choice, num_items, seat, latency_s), key
                    break
                least_late = min(least_late, rate * estimate.median_s(num_items) / num_items)
                num_items //= 2
        self._passed_over = least_late < best_key[0]
        return best

    def _fastest(
        self, stage: int, allowed: tuple[int, ...], available: int, now_s: float, avoid: str
    ) -> tuple[int, int, Seat | None, float] | None:
        """Of those with a free worker the one that gets most done: it is too late for anything else.

        Not one that would still be at it when a busy one has done all that waits: None then, and that is waited for.
        """
        best: tuple[int, int, Seat | None, float] | None = None
        least_s = drained_s = inf
        for choice in allowed:
            seat, wait_s = self._seat(stage, choice, now_s, avoid)
            most, estimate = self.candidates[stage][choice].max_batch, self.estimates[stage][choice]
            if seat is None:
                drained_s = min(drained_s, wait_s + ceil(available / most) * estimate.median_s(min(available, most)))
                continue
            num_items = min(available, most)
            latency_s = estimate.median_s(num_items)
            if (latency_s + wait_s) / num_items < least_s:
                least_s = (latency_s + wait_s) / num_items
                best = choice, num_items, seat, latency_s + wait_s
        return None if best is not None and best[3] > drained_s else best

    def _seat(self, stage: int, choice: int, now_s: float, avoid: str) -> tuple[Seat | None, float]:
        """The seat with room that is free first, None where all are too busy; and the wait. Infinite: nobody has it.

        Work is put behind other work only where that will be over in a small part of a frame's time: what is
        committed cannot go elsewhere any more, and whatever comes up deeper in the pipeline waits behind it.
        """
        seat = self._workforce.freest(stage, choice, avoid)
        if seat is None:
            wait_s = self._workforce.wait_s(stage, choice, now_s)
            return None, inf if wait_s is None else wait_s
        if not seat.held:
            return seat, 0.0
        wait_s = max(0.0, seat.free_at_s - now_s)
        return (seat if wait_s <= self._patience_s else None), wait_s

    def _too_late(self, stage: int, frame: FrameRecord, now_s: float) -> bool:
        """Whether even the fastest candidate, started now, would leave the frame late."""
        remaining_s = self.due_s(frame) - now_s
        efforts = self.efforts_s(stage, frame, 1)
        rest_s = self._graph.ways_s(efforts)[stage] - efforts[stage]
        fastest_s = min(
            self.estimates[stage][i].median_s(1) + self._seat(stage, i, now_s, "")[1] for i in self._allowed[stage]
        )
        return remaining_s - rest_s < fastest_s

    # -- waiting ------------------------------------------------------------------------------------------------

    def _worth_waiting_for(
        self, stage: int, choice: int, num_items: int, available: int, slack_s: float, now_s: float
    ) -> int:
        """How many items to wait for: what pays, is on its way, and comes in time. 0: go now."""
        candidate, estimate = self.candidates[stage][choice], self.estimates[stage][choice]
        full = candidate.max_batch
        if num_items < available or num_items >= full or not self.expects_more:
            return 0
        between_s = self._between_s[stage]
        if between_s == inf:
            return 0
        target = full
        while target > num_items and (target - num_items) * between_s > slack_s - estimate.p95_s(target):
            target = num_items + (target - num_items) // 2
        if target == num_items:
            return 0
        saved = 1.0 - (estimate.median_s(target) / target) / (estimate.median_s(num_items) / num_items)
        if saved < _PAYS:
            return 0
        latest_s = now_s + slack_s - estimate.p95_s(target)
        needed_s = (target - num_items) * between_s
        until_s = min(self._held_until_s[stage], latest_s, now_s + _PATIENCE * needed_s)
        if until_s <= now_s:
            return 0
        self._held_until_s[stage] = until_s
        return target

    def _sleep(self, stage: int, num_items: float, until_s: float, *, seats: bool = True) -> Decision:
        """Wait for so many items, a time, and unless ``seats`` is false, for somebody to become free."""
        enough = _NEVER if num_items == inf else int(num_items)
        self._asleep[stage] = enough, self._workforce.freed if seats else -1, until_s
        self._look(stage, until_s)
        return _WAIT_WORKER if seats else _WAIT_BATCH

    def _look(self, stage: int, at_s: float) -> None:
        if at_s < self._looks_s[stage]:
            self._looks_s[stage] = at_s
            self._timers.add(at_s, "look", "", stage)

    def looked(self, stage: int, now_s: float) -> None:
        """A timer has rung for a stage that waited when it was set; it may wait for a later time by now."""
        if self._looks_s[stage] <= now_s:
            self._looks_s[stage] = inf
        asleep = self._asleep[stage]
        if asleep is not None and asleep[2] > now_s:
            self._look(stage, asleep[2])


def _most_items(plan: RunPlan, topology: Topology) -> list[int]:
    """By stage, of a frame: what the stage makes of one that gives it its items."""
    return [plan.stages[level].max_items if level >= 0 else 64 for level in topology.level]


def _alone_s(candidate: Candidate) -> float:
    return candidate.points[0].median_s if candidate.points else 0.0


def _deadlines(plan: RunPlan) -> dict[str, FrameDeadlines]:
    """By stream; none for a run without an objective."""
    if plan.latency_slo_s is not None:
        bound = LatencyBound(plan.latency_slo_s)
        return {stream.stream: bound for stream in plan.streams}
    if plan.job is not None:
        job = plan.job
        return {
            stream: JobPace(job.began_s, job.deadline_s, num_frames, job.fill_s)
            for stream, num_frames in job.num_frames.items()
            if num_frames > 0
        }
    return {}
