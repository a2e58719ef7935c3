"""Drives serving in virtual time: replicas are a heap of future events, each as fast as its profile and chance say."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import exp, inf
from typing import TypeAlias

import numpy as np

from llamapipe.catalog import Profile, Query
from llamapipe.control.serving import ServingController, ServingPlan
from llamapipe.control.serving import actions as act
from llamapipe.control.serving import events as ev
from llamapipe.control.serving.lifecycle import VariantState
from llamapipe.control.serving.program import solve

__all__ = ["Outcome", "ServingResult", "ServingWorld", "simulate_serving"]

Slowdown: TypeAlias = Callable[[int, float], float]  # (core, seconds) -> how much slower it is than profiled


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a query. ``latency_s``: from when it was due to its answer; inf where it was refused."""

    query_id: int
    due_s: float
    latency_s: float
    in_time: bool
    variant: str = ""
    code: str = ""  # of a refusal


@dataclass(frozen=True, slots=True)
class ServingWorld:
    """How the machine behaves. ``losses``: seconds at which the oldest busy replica dies."""

    seed: int = 0
    slowdown: Slowdown = lambda core, at_s: 1.0
    losses: tuple[float, ...] = ()
    unloadable: frozenset[str] = frozenset()  # variants
    solve_s: float = 0.02


@dataclass(slots=True)
class ServingResult:
    """A simulated service. ``reserved``: core-seconds (or their price), loading included, to the end of the trace."""

    outcomes: list[Outcome] = field(default_factory=list)
    reserved: float = 0.0
    num_started: int = 0
    states: list[tuple[float, str, str]] = field(default_factory=list)  # (seconds, replica, state), on each change

    @property
    def attainment(self) -> float:
        """Share of the queries that were answered in time; those that were refused count as not."""
        return sum(outcome.in_time for outcome in self.outcomes) / max(len(self.outcomes), 1)

    @property
    def num_late(self) -> int:
        """Queries that were answered, but late."""
        return sum(not outcome.in_time and not outcome.code for outcome in self.outcomes)


def simulate_serving(
    plan: ServingPlan,
    profiles: Iterable[Profile],
    arrivals: Iterable[tuple[float, Query]],
    world: ServingWorld | None = None,
    *,
    announced: Iterable[Query] = (),
    validate: bool = False,
) -> ServingResult:
    """Feed queries at their times (in order) to a controller until each has ended.

    The world answers the controller's actions. Nothing is loaded at second 0, whatever the policy; queries like the
    ``announced`` are prepared for from then on.
    """
    return _Sim(plan, list(profiles), world or ServingWorld(), validate).run(list(arrivals), list(announced))


class _Sim:
    def __init__(self, plan: ServingPlan, profiles: list[Profile], world: ServingWorld, validate: bool) -> None:
        self._controller = ServingController(plan, profiles)
        self._profiles = {profile.variant.name: profile for profile in profiles}
        self._world = world
        self._validate = validate
        self._generator = np.random.default_rng(world.seed)
        self._heap: list[tuple[float, int, ev.ServingEvent]] = []
        self._serial = 0
        self._cores: dict[str, tuple[int, ...]] = {}
        self._variants: dict[str, str] = {}
        self._busy: dict[str, int] = {}  # replica -> batch
        self._due: dict[int, float] = {}
        self._shown: dict[str, str] = {}
        self._result = ServingResult()

    def run(self, arrivals: list[tuple[float, Query]], announced: list[Query]) -> ServingResult:
        for number, (at_s, query) in enumerate(arrivals):
            self._due[number] = at_s
            self._later(at_s, ev.QueryArrived(number, query))
        for at_s in self._world.losses:
            self._later(at_s, ev.Tick())
        losses = list(self._world.losses)
        end_s = arrivals[-1][0] if arrivals else 0.0
        now_s = 0.0
        self._step(ev.Tick(), now_s)
        for number, query in enumerate(announced):
            self._step(ev.Prepare(-1 - number, query), now_s)
        while len(self._result.outcomes) < len(arrivals):
            due_s = self._controller.next_deadline_s()
            next_s = self._heap[0][0] if self._heap else inf
            if due_s is not None and due_s < next_s:
                now_s = max(now_s, due_s)
                self._step(ev.Tick(), now_s)
                continue
            if not self._heap:
                raise RuntimeError(f"{len(arrivals) - len(self._result.outcomes)} queries will never end")
            now_s, _, event = heapq.heappop(self._heap)
            if losses and now_s >= losses[0] and self._busy:
                losses.pop(0)
                event = ev.ReplicaLost(next(iter(self._busy)), "killed")
            self._step(event, now_s)
        self._result.reserved = self._controller.reserved_cost(max(now_s, end_s))
        return self._result

    def _later(self, at_s: float, event: ev.ServingEvent) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (at_s, self._serial, event))

    def _step(self, event: ev.ServingEvent, now_s: float) -> None:
        if isinstance(event, ev.BatchDone):
            self._busy = {replica: batch for replica, batch in self._busy.items() if batch != event.batch_id}
        if isinstance(event, ev.ReplicaLost):
            self._busy.pop(event.replica, None)
        for action in self._controller.step(event, now_s):
            self._carry_out(action, now_s)
        if self._validate:
            self._controller.validate()
        for status in self._controller.replicas():
            if self._shown.get(status.name) != status.state:
                self._shown[status.name] = status.state
                self._result.states.append((now_s, status.name, VariantState(status.state).value))

    def _carry_out(self, action: act.ServingAction, now_s: float) -> None:
        if isinstance(action, act.StartReplica):
            profile = self._profiles[action.variant]
            self._cores[action.replica] = action.cores
            self._variants[action.replica] = action.variant
            self._result.num_started += 1
            load_s = profile.load_s * self._chance(0.1)
            if action.variant in self._world.unloadable:
                self._later(now_s + load_s / 2, ev.ReplicaFailed(action.replica, "its file is corrupt"))
            else:
                self._later(now_s + load_s, ev.ReplicaReady(action.replica, load_s))
        elif isinstance(action, (act.Serve, act.Probe)):
            if isinstance(action, act.Serve):
                size = sum(part.count for part in action.parts)
            else:
                size = action.batch
            point = self._profiles[self._variants[action.replica]].point(size)
            slowdown = max(self._world.slowdown(core, now_s) for core in self._cores[action.replica])
            seconds = point.median_s * self._chance((point.p95_s / point.median_s - 1) / 1.645) * slowdown
            self._busy[action.replica] = action.batch_id
            self._later(now_s + seconds, ev.BatchDone(action.batch_id, seconds))
        elif isinstance(action, act.StopReplica):
            self._later(now_s + 0.01, ev.ReplicaStopped(action.replica))
        elif isinstance(action, act.KillReplica):
            self._later(now_s + 0.01, ev.ReplicaLost(action.replica, action.reason))
        elif isinstance(action, act.Solve):
            solution = solve(action.problem, action.time_limit_s)
            self._later(now_s + self._world.solve_s, ev.Solved(action.solve_id, solution, self._world.solve_s))
        elif isinstance(action, act.Answer) and action.query_id >= 0:
            due_s = self._due[action.query_id]
            outcome = Outcome(action.query_id, due_s, now_s - due_s, not action.late, action.variant)
            self._result.outcomes.append(outcome)
        elif isinstance(action, act.Refuse) and action.query_id >= 0:
            outcome = Outcome(action.query_id, self._due[action.query_id], inf, False, code=action.code)
            self._result.outcomes.append(outcome)

    def _chance(self, deviation: float) -> float:
        return exp(float(self._generator.normal()) * deviation) if deviation > 0 else 1.0
