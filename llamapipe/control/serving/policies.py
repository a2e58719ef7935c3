"""Policies of serving behind one interface: who may serve a query, and which replicas there should be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakKeyDictionary

from llamapipe.catalog import Query
from llamapipe.control.serving.actions import Nearest
from llamapipe.control.serving.fleet import Fleet, Replica
from llamapipe.control.serving.offers import Offer
from llamapipe.control.serving.options import Options
from llamapipe.control.serving.plan import ServingPlan
from llamapipe.control.serving.program import Problem, Solution
from llamapipe.control.serving.selector import Selector
from llamapipe.control.serving.waiting import Waiting

__all__ = ["Admission", "Moves", "Policy", "ServingState"]


@dataclass(slots=True)
class ServingState:
    """What policies look at. They change none of it."""

    plan: ServingPlan
    selector: Selector
    fleet: Fleet = field(default_factory=Fleet)
    waiting: Waiting = field(default_factory=Waiting)
    not_before_s: dict[str, float] = field(default_factory=dict)  # variant that could not be loaded -> next try
    prepared: dict[int, frozenset[str]] = field(default_factory=dict)  # announced, not there yet -> who may serve it
    _fitting: WeakKeyDictionary[Options, Options] = field(default_factory=WeakKeyDictionary)
    _fitting_after: int = 0  # changes of the hosts, up to which `_fitting` holds

    def unmet(self) -> list[frozenset[str]]:
        """Sets of variants, one of which somebody waits for, and none of which is there or being loaded."""
        waiting = [group.names for group in self.waiting.groups.values() if group.num_waiting]
        return [names for names in (*waiting, *self.prepared.values()) if not self.fleet.of(names)]

    def servable(self, query: Query) -> Options:
        """What meets a query and has room on some host, were it alone there."""
        if query.num_items < 1:
            return Options(code="constraint", reason=f"a query has at least one item, this has {query.num_items}")
        options = self.selector.options(query)
        if self._fitting_after != self.fleet.num_changes:
            self._fitting.clear()
            self._fitting_after = self.fleet.num_changes
        known = self._fitting.get(options)
        if known is None:
            known = self._fitting[options] = self._with_room(query, options)
        return known

    def _with_room(self, query: Query, options: Options) -> Options:
        if not options.offers:
            nearest = self.selector.nearest(query, self.fleet.ever_fits)
            return Options(code=options.code, reason=options.reason, nearest=nearest)
        fitting = tuple(offer for offer in options.offers if self.fleet.ever_fits(offer))
        if len(fitting) == len(options.offers):
            # Not the same object: what is kept under a weak key must not hold it.
            return Options(options.offers, options.names, options.code, options.reason, options.nearest)
        if fitting:
            return Options(fitting, frozenset(offer.name for offer in fitting))
        least = min(options.offers, key=lambda offer: (offer.memory_bytes, offer.cores))
        needs = f"{least.memory_bytes / 2**20:.0f} MiB and {least.cores} cores"
        reason = f"nothing that meets what was asked has room here: {least.name} takes {needs}"
        nearest = self.selector.nearest(query, self.fleet.ever_fits)
        return Options(code="constraint", reason=reason, nearest=nearest)


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may serve a query, and why those; or, with ``code``, that nobody will."""

    names: frozenset[str] = frozenset()
    why: str = ""
    code: str = ""
    reason: str = ""
    nearest: Nearest | None = None


@dataclass(slots=True)
class Moves:
    """What should change. A start for which there is no room is left; a stop lets a replica finish its batch."""

    start: list[tuple[Offer, str | None]] = field(default_factory=list)  # with the host, None: any
    stop: list[tuple[Replica, str]] = field(default_factory=list)  # with the reason
    problem: Problem | None = None  # to be solved


class Policy(Protocol):
    """Decides; the controller queues, batches, retries and keeps to the limits."""

    sheds: bool  # whether a query is refused as soon as it cannot be answered in time any more
    eager: bool  # whether it starts replicas before anybody has asked

    def admit(self, query: Query, now_s: float) -> Admission:
        """Who may serve it. Asked again where what may be chosen has changed."""

    def arrived(self, query: Query, names: frozenset[str], now_s: float) -> None:
        """A query was admitted."""

    def prepare(self, query: Query, names: frozenset[str], items_per_s: float, until_s: float, now_s: float) -> None:
        """Such queries are announced."""

    def served(self, offer: Offer, items: int, latency_s: float, now_s: float) -> None:
        """A variant has done items of a query that came so long ago."""

    def order(self, replicas: list[Replica]) -> list[Replica]:
        """Which of several idle replicas is given work first."""

    def guard_s(self, replica: Replica, now_s: float) -> float:
        """How long a replica may be kept busy with offline items without making anybody late."""

    def pressed(self, now_s: float) -> bool:
        """Whether `scale` should be asked at once, without waiting for the period to end."""

    def scale(self, now_s: float, *, urgent: bool) -> Moves:
        """Called once a period, and when pressed or when somebody waits for what is not there (``urgent``)."""

    def solved(self, solution: Solution | None, now_s: float) -> Moves:
        """The program's answer; None: it had none in its time."""
