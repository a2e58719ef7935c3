"""The workers of a run: who is there, who serves what, who comes back after a crash and when.

A *seat* is a worker's place in the plan; whoever fills it may die and be replaced. Deciding what a seat works on is
`llamapipe.control.dispatch`'s.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf

from llamapipe.control import actions as act
from llamapipe.control.lifecycle import LINK, REPLICA, LinkState, Machine, ReplicaState
from llamapipe.control.plan import FaultPlan, RunPlan, WorkerPlan, replica_name
from llamapipe.control.pools import Pool
from llamapipe.control.timers import Timers

__all__ = ["Seat", "Workforce"]


@dataclass(slots=True)
class Seat:
    """One worker's place."""

    plan: WorkerPlan
    index: int
    stages: tuple[int, ...]  # that it is to serve
    link: Machine[LinkState]
    replicas: dict[tuple[int, int], Machine[ReplicaState]] = field(default_factory=dict)  # by stage and candidate
    held: list[int] = field(default_factory=list)  # invocations out to it, oldest first: that one is being run
    guarded: bool = False  # it has an item that must have a worker to itself, see `llamapipe.control.suspects`
    answered: set[int] = field(default_factory=set)  # stages that this incarnation has answered for
    incarnation: int = 0
    losses: int = 0  # since it last answered an invocation
    given_up: bool = False  # it will not come back
    condemned: bool = False  # it is being killed
    spare: bool = False  # others are enough for now
    silences: int = 0  # of all who filled it: a time set for one says nothing of the next
    free_at_s: float = 0.0  # when it is expected to be done with what it holds
    stamp: int = 0  # counts its changes, see `llamapipe.control.pools`
    homes: int = 0  # memories that are there, or are to be
    restoring: int = 0  # memories that are being brought up there
    late_s: float = inf  # when what it runs is late, and when it hangs, see `llamapipe.control.watching`
    hung_s: float = inf
    rings_s: float = inf  # the earliest timer that is set for the two
    load_answers: int = 0  # loads that were answered by whoever filled it: while they come, nothing hangs
    blocked: dict[tuple[int, str], None] = field(default_factory=dict)  # (stage, stream) that wait for it alone

    @property
    def name(self) -> str:
        """The worker's name, the same for all who fill the seat."""
        return self.plan.name

    @property
    def able(self) -> bool:
        """Whether it is there, and does what it is given."""
        return self.link.state is LinkState.ALIVE and not self.condemned

    @property
    def usable(self) -> bool:
        """Whether new work may go to it. A spare one does only what no other can: it may hold what others lack."""
        return self.able and not self.spare

    def serves(self, stage: int, choice: int = 0) -> bool:
        """Whether the stage's candidate is loaded there."""
        replica = self.replicas.get((stage, choice))
        return replica is not None and replica.state is ReplicaState.READY

    def serves_some(self, stage: int) -> bool:
        """Whether any of the stage's candidates is loaded there."""
        return any(r.state is ReplicaState.READY for (s, _), r in self.replicas.items() if s == stage)

    def may_yet_serve(self, stage: int, choices: Container[int] | None = None) -> bool:
        """Whether it serves the stage, or can be waited for; with one of ``choices``, where they are given."""
        if self.given_up or stage not in self.stages:
            return False
        mine = {choice: replica for (s, choice), replica in self.replicas.items() if s == stage}
        return not mine or any(
            replica.state is not ReplicaState.FAILED
            for choice, replica in mine.items()
            if choices is None or choice in choices
        )


def _rank(seat: Seat, avoid: str) -> tuple[bool, int, float, int]:
    return seat.name == avoid, len(seat.held), seat.free_at_s if seat.held else 0.0, seat.index


class Workforce:
    """All seats. Actions go to ``out``, times into ``timers`` under the kinds ``respawn`` and ``dead``."""

    def __init__(self, plan: RunPlan, timers: Timers, out: list[act.Action]) -> None:
        self._plan = plan
        self._faults: FaultPlan = plan.faults
        self._timers = timers
        self.out = out
        self.seats: dict[str, Seat] = {}
        self._pools: dict[tuple[str, str], Pool] = {}  # by kind and device
        self.version = 0  # counts every change of who is there and serves what
        self.freed = 0  # counts how often somebody may have become free
        self._serving: dict[int, tuple[int, int]] = {}  # stage -> (version, how many serve it)
        self._num_loading = 0
        self._wanted: dict[tuple[int, int], None] = {}  # (stage, way) that a change has asked for
        for index, worker in enumerate(plan.workers):
            stages = tuple(i for i, stage in enumerate(plan.stages) if stage.placement == worker.kind)
            self.seats[worker.name] = Seat(worker, index, stages, Machine(worker.name, LINK, LinkState.UNKNOWN))
            self._pools.setdefault((worker.kind, worker.device), Pool(plan.max_queued)).num_seats += 1
        self._all_needed = False
        self._spare(plan.allotted)
        self._pools_of = [
            [
                [
                    pool
                    for (kind, device), pool in self._pools.items()
                    if kind == stage.placement and (not of or not device or of == device)
                ]
                for of in (way.device if stage.candidates else "" for way in stage.ways)
            ]
            for stage in plan.stages
        ]

    def __iter__(self) -> Iterator[Seat]:
        return iter(self.seats.values())

    def _spare(self, allotted: int) -> list[Seat]:
        """Those of whom that is news."""
        before: dict[tuple[str, str], int] = {}
        changed: list[Seat] = []
        for seat in self:
            kind = seat.plan.kind, seat.plan.device
            number = before[kind] = before.get(kind, 0) + 1
            spare = bool(allotted) and number > allotted
            if spare is not seat.spare:
                seat.spare = spare
                changed.append(seat)
        return changed

    def allot(self, workers: int) -> list[Seat]:
        """Give work to the first so many of each kind, 0: to all. The others finish what they have."""
        changed = self._spare(0 if self._all_needed else workers)
        for seat in changed:
            self.changed(seat, serves=True)
        return changed

    def need_all(self) -> list[Seat]:
        """One is gone or lacks something: from now on all are given work, whatever is allotted. Whom that changes."""
        self._all_needed = True
        return self.allot(0)

    def start(self, now_s: float) -> None:
        """Fill every seat."""
        for seat in self:
            self._fill(seat, now_s)

    def _fill(self, seat: Seat, now_s: float) -> None:
        self.out.append(act.StartWorker(seat.name, seat.incarnation))
        for stage, choice in self._loads(seat):
            name = replica_name(seat.name, self._plan.stages[stage].name, choice)
            replica = seat.replicas.get((stage, choice))
            if replica is None:
                replica = seat.replicas[stage, choice] = Machine(name, REPLICA, ReplicaState.STARTING)
            elif replica.state is ReplicaState.BACKOFF:
                replica.to(ReplicaState.STARTING)
            else:  # it failed to load before, for good
                continue
            replica.to(ReplicaState.LOADING)
            self._num_loading += 1
            self.out.append(act.Load(name, seat.name, self._plan.stages[stage].name, choice))
        self._watch_loads(seat, now_s)

    def _watch_loads(self, seat: Seat, now_s: float) -> None:
        """Look again whether it has got on with what it loads."""
        if any(replica.state is ReplicaState.LOADING for replica in seat.replicas.values()):
            self._timers.add(now_s + self._faults.load_hang_s, "load", seat.name, seat.load_answers)

    def still_loading(self, seat: Seat, answers: int) -> None:
        """A load that has not been answered for that long never will be."""
        loading = [stage for (stage, _), replica in seat.replicas.items() if replica.state is ReplicaState.LOADING]
        if loading and seat.load_answers == answers:
            name = self._plan.stages[loading[0]].name
            self.condemn(seat, f"stage {name} was not loaded within {self._faults.load_hang_s:g} s")

    def want(self, stage: int, choice: int) -> None:
        """A way to run a stage that whoever comes up from now on loads as well."""
        if choice >= self._plan.stages[stage].num_choices:
            self._wanted[stage, choice] = None

    def load_next(self, ways: Sequence[tuple[int, int]], now_s: float) -> bool:
        """Let one worker that lacks one of these load it. Whether somebody loads one now, or is still to come up."""
        for seat in self:
            if any((r := seat.replicas.get(way)) is not None and r.state is ReplicaState.LOADING for way in ways):
                return True
        for seat in self:
            for stage, choice in ways:
                if (stage, choice) in seat.replicas or not seat.able or not self._has_device(seat, stage, choice):
                    continue
                self._load(seat, stage, choice, now_s)
                return True
        return False

    def _load(self, seat: Seat, stage: int, choice: int, now_s: float) -> None:
        name = replica_name(seat.name, self._plan.stages[stage].name, choice)
        replica = seat.replicas[stage, choice] = Machine(name, REPLICA, ReplicaState.STARTING)
        replica.to(ReplicaState.LOADING)
        self._num_loading += 1
        self.out.append(act.Load(name, seat.name, self._plan.stages[stage].name, choice))
        self._watch_loads(seat, now_s)

    def _has_device(self, seat: Seat, stage: int, choice: int) -> bool:
        plan = self._plan.stages[stage]
        return stage in seat.stages and (not plan.candidates or seat.plan.has(plan.ways[choice].device))

    def _loads(self, seat: Seat) -> list[tuple[int, int]]:
        """(stage, candidate) of all that the seat can have, every stage's first candidate first."""
        wanted: list[tuple[int, int]] = []
        fixed = self._plan.policy.name == "fixed"
        for choice in range(max((stage.num_choices for stage in self._plan.stages), default=1)):
            for index in seat.stages:
                stage = self._plan.stages[index]
                if choice >= stage.num_choices or (fixed and choice > 0):
                    continue
                if not stage.candidates or seat.plan.has(stage.candidates[choice].device):
                    wanted.append((index, choice))
        return [*wanted, *(way for way in self._wanted if self._has_device(seat, *way))]

    # -- who is free --------------------------------------------------------------------------------------------

    def changed(self, seat: Seat, *, freed: bool = False, serves: bool = False) -> None:
        """What the seat holds has changed; ``serves``: or whether work may go to it, or what it has loaded."""
        self.freed += freed or serves
        self._pools[seat.plan.kind, seat.plan.device].place(seat)
        if serves:
            self.version += 1

    def freest(self, stage: int, choice: int = 0, avoid: str = "") -> Seat | None:
        """A seat with room that has the candidate loaded."""
        best: Seat | None = None
        for pool in self._pools_of[stage][choice]:
            seat = pool.freest(stage, choice, avoid)
            if seat is not None and (best is None or _rank(seat, avoid) < _rank(best, avoid)):
                best = seat
        return best

    def wait_s(self, stage: int, choice: int, now_s: float) -> float | None:
        """Until somebody has room where now nobody has; None: nobody has the candidate at all."""
        soonest: float | None = None
        for pool in self._pools_of[stage][choice]:
            seat = pool.soonest(stage, choice)
            if seat is not None:
                wait_s = max(0.0, seat.free_at_s - now_s)
                soonest = wait_s if soonest is None else min(soonest, wait_s)
        return soonest

    # -- what is heard of them ----------------------------------------------------------------------------------

    def joined(self, seat: Seat, now_s: float) -> None:
        """It has said hello."""
        if seat.link.state is LinkState.UNKNOWN:
            seat.link.to(LinkState.ALIVE)
            self.changed(seat, serves=True)
            for way in self._wanted:  # a change has come while it was on its way
                if way not in seat.replicas and self._has_device(seat, *way):
                    self._load(seat, *way, now_s)

    def loaded(self, seat: Seat, stage: int, choice: int, now_s: float) -> None:
        """A stage's candidate is ready there."""
        self.joined(seat, now_s)
        seat.replicas[stage, choice].to(ReplicaState.READY)
        self._answered(seat, now_s)
        self.changed(seat, serves=True)

    def unable(self, seat: Seat, stage: int, choice: int, now_s: float) -> None:
        """A stage's candidate cannot be loaded there."""
        seat.replicas[stage, choice].to(ReplicaState.FAILED)
        self._answered(seat, now_s)
        self.changed(seat, serves=True)

    def _answered(self, seat: Seat, now_s: float) -> None:
        self._num_loading -= 1
        seat.load_answers += 1
        self._watch_loads(seat, now_s)

    def num_serving(self, stage: int) -> int:
        """Workers that may be given the stage's invocations now."""
        version, number = self._serving.get(stage, (-1, 0))
        if version != self.version:
            number = sum(seat.usable and seat.serves_some(stage) for seat in self.seats.values())
            self._serving[stage] = self.version, number
        return number

    @property
    def loading(self) -> bool:
        """Whether something is still being loaded."""
        return self._num_loading > 0

    def silent(self, seat: Seat, now_s: float) -> None:
        """It has not been heard of for a while: no new work, and its end if that lasts."""
        if seat.link.state not in (LinkState.UNKNOWN, LinkState.ALIVE):  # it may stop before it has said hello
            return
        seat.link.to(LinkState.SUSPECT)
        seat.silences += 1
        self.changed(seat, serves=True)
        self._timers.add(now_s + self._faults.dead_after_s, "dead", seat.name, seat.silences)

    def back(self, seat: Seat) -> None:
        """A silent one is heard again."""
        if seat.link.state is LinkState.SUSPECT and not seat.condemned:
            seat.link.to(LinkState.ALIVE)
            self.changed(seat, serves=True)

    def condemn(self, seat: Seat, reason: str) -> None:
        """End it by force. What follows is decided when the driver says that it is gone."""
        if not seat.condemned and seat.link.state is not LinkState.DEAD:
            seat.condemned = True
            self.changed(seat, serves=True)
            self.out.append(act.KillWorker(seat.name, reason))

    def lost(self, seat: Seat, now_s: float) -> None:
        """It is gone, and will be replaced after a while, unless it has died too often without doing anything."""
        if seat.link.state is not LinkState.DEAD:
            seat.link.to(LinkState.DEAD)
        self.changed(seat, serves=True)
        for replica in seat.replicas.values():
            if replica.state is not ReplicaState.FAILED:
                self._num_loading -= replica.state is ReplicaState.LOADING
                replica.to(ReplicaState.FAILED)
                replica.to(ReplicaState.BACKOFF)
        seat.losses += 1
        if seat.losses > self._faults.max_losses:
            seat.given_up = True
            for replica in seat.replicas.values():
                if replica.state is ReplicaState.BACKOFF:
                    replica.to(ReplicaState.STOPPED)
            return
        wait_s = min(self._faults.max_backoff_s, self._faults.backoff_s * 2.0 ** (seat.losses - 1))
        self._timers.add(now_s + wait_s, "respawn", seat.name, seat.incarnation)

    # -- what time brings ---------------------------------------------------------------------------------------

    def respawn(self, seat: Seat, incarnation: int, now_s: float) -> None:
        """The wait is over: fill the seat again."""
        if seat.incarnation != incarnation or seat.link.state is not LinkState.DEAD or seat.given_up:
            return
        seat.incarnation += 1
        seat.condemned = False
        seat.answered.clear()
        seat.link = Machine(seat.name, LINK, LinkState.UNKNOWN)
        seat.load_answers += 1  # what was loading then is nobody's any more
        self._fill(seat, now_s)

    def still_silent(self, seat: Seat, silence: int) -> None:
        """Silent for too long, unless it was heard since that silence began."""
        if seat.silences == silence and seat.link.state is LinkState.SUSPECT:
            self.condemn(seat, f"not heard of for {self._faults.dead_after_s:g} s")

    def hopeless(self, stage: int, choices: Container[int] | None = None) -> bool:
        """Whether nobody serves the stage and nobody will; with one of ``choices``, where they are given."""
        return not any(seat.may_yet_serve(stage, choices) for seat in self)

    def whole(self) -> bool:
        """Whether everybody who can still be expected is there and ready."""
        return all(
            seat.link.state is LinkState.ALIVE
            and all(r.state in (ReplicaState.READY, ReplicaState.FAILED) for r in seat.replicas.values())
            for seat in self
            if not seat.given_up
        )
