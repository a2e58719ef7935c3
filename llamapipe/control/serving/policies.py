"""Policies of serving behind one interface: who may serve a query, and which replicas there should be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from llamapipe.catalog import Query
from llamapipe.control.serving.actions import Nearest
from llamapipe.control.serving.fleet import Fleet, Replica
from llamapipe.control.serving.offers import Offer
from llamapipe.control.serving.plan import ServingPlan
from llamapipe.control.serving.program import Problem, Solution
from llamapipe.control.serving.selector import Selector
from llamapipe.control.serving.waiting import Waiting

__all__ = ["Admission", "Moves", "OnDemand", "Policy", "ServingState"]


@dataclass(slots=True)
class ServingState:
    """What policies look at. They change none of it."""

    plan: ServingPlan
    selector: Selector
    fleet: Fleet = field(default_factory=Fleet)
    waiting: Waiting = field(default_factory=Waiting)
    prepared: list[frozenset[str]] = field(default_factory=list)  # variants, one of which is to be there


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may serve a query, and why those; or, with ``code``, that nobody will."""

    names: frozenset[str] = frozenset()
    replica: str | None = None  # only this one
    why: str = ""
    code: str = ""
    reason: str = ""
    nearest: Nearest | None = None


@dataclass(slots=True)
class Moves:
    """What should change. A start is put off until there is room for it; a stop lets a replica finish its batch."""

    start: list[tuple[Offer, str | None]] = field(default_factory=list)  # with the host, None: any
    stop: list[tuple[Replica, str]] = field(default_factory=list)  # with the reason
    problem: Problem | None = None  # to be solved


class Policy(Protocol):
    """Decides; the controller queues, batches, retries and keeps to the limits."""

    sheds: bool  # whether a query is refused as soon as it cannot be answered in time any more

    def admit(self, query: Query, now_s: float) -> Admission:
        """A query has come."""

    def order(self, replicas: list[Replica]) -> list[Replica]:
        """Which of several idle replicas is given work first."""

    def scale(self, now_s: float) -> Moves:
        """Called once a period, and as soon as queries wait for something that is not there."""

    def solved(self, solution: Solution | None, now_s: float) -> Moves:
        """The program's answer; None: it had none in its time."""


@dataclass(slots=True)
class OnDemand:
    """Load the cheapest variant when somebody asks, stop it when nobody has for a while. The simplest that serves."""

    state: ServingState
    sheds: bool = True

    def admit(self, query: Query, now_s: float) -> Admission:
        """All that meets what is asked."""
        options = self.state.selector.options(query)
        if not options.offers:
            return Admission(code=options.code, reason=options.reason, nearest=options.nearest)
        return Admission(options.names, why=f"the cheapest of {len(options.offers)} variants that meet what was asked")

    def order(self, replicas: list[Replica]) -> list[Replica]:
        """The cheapest first, so that those stay free that pickier queries need."""
        return sorted(replicas, key=lambda replica: replica.offer.cost(1) * replica.health.slowdown)

    def scale(self, now_s: float) -> Moves:
        """One replica for whoever has none."""
        state, moves = self.state, Moves()
        waiting = [group.names for group in state.waiting.groups.values() if group.head() is not None]
        for names in [*waiting, *state.prepared]:
            if state.fleet.of(names):
                continue
            offers = [state.selector.offers[name] for name in names if name in state.selector.offers]
            offers.sort(key=lambda offer: (offer.cost(1), offer.name))
            fitting = [offer for offer in offers if state.fleet.ever_fits(offer)]
            if fitting and not any(offer in fitting for offer, _ in moves.start):
                moves.start.append((fitting[0], None))
        for replica in state.fleet.serving():
            if replica.batch is None and now_s - replica.used_at_s >= state.plan.linger_s:
                moves.stop.append((replica, "nobody asked for it"))
        return moves

    def solved(self, solution: Solution | None, now_s: float) -> Moves:
        """Nothing was asked."""
        return Moves()
