"""The static policy: the replicas that the plan names, no more and no fewer."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from llamapipe.catalog import Query
from llamapipe.control.serving.fleet import Replica
from llamapipe.control.serving.offers import Offer
from llamapipe.control.serving.policies import Admission, Moves, ServingState
from llamapipe.control.serving.program import Solution

__all__ = ["Static"]


@dataclass(slots=True)
class Static:
    """Queues, batches and refuses as llamapipe's own policy does; only the replicas are fixed."""

    state: ServingState
    sheds: bool = True
    eager: bool = True

    def admit(self, query: Query, now_s: float) -> Admission:
        """Those of the fixed ones that meet what is asked."""
        options = self.state.servable(query)
        if not options.offers:
            return Admission(code=options.code, reason=options.reason, nearest=options.nearest)
        names = options.names & frozenset(self.state.plan.static.replicas)
        if not names:
            return Admission(code="constraint", reason="none of the fixed variants meets what was asked")
        return Admission(names, why="it is the fixed variant")

    def arrived(self, query: Query, names: frozenset[str], now_s: float) -> None:
        """Nothing follows from it."""

    def prepare(self, query: Query, names: frozenset[str], items_per_s: float, until_s: float, now_s: float) -> None:
        """Nothing follows from it."""

    def served(self, offer: Offer, items: int, latency_s: float, now_s: float) -> None:
        """Nothing follows from it."""

    def order(self, replicas: list[Replica]) -> list[Replica]:
        """As they were started."""
        return replicas

    def guard_s(self, replica: Replica, now_s: float) -> float:
        """It knows nothing of what will come."""
        return inf

    def pressed(self, now_s: float) -> bool:
        """Never."""
        return False

    def scale(self, now_s: float, *, urgent: bool) -> Moves:
        """Whatever is missing."""
        moves = Moves()
        for name, count in self.state.plan.static.replicas.items():
            offer = self.state.selector.offers.get(name)
            if offer is not None and now_s >= self.state.not_before_s.get(name, 0.0):
                moves.start += [(offer, None)] * (count - len(self.state.fleet.of((name,))))
        return moves

    def solved(self, solution: Solution | None, now_s: float) -> Moves:
        """Nothing was asked."""
        return Moves()
