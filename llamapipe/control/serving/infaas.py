"""INFaaS's greedy policy, as its paper and source have it (Romero et al., "INFaaS: Automated Model-less Inference
Serving", ATC 2021; queryfe_server.cc, query_executor.cc, autoscaler.cc), for variants on CPUs.

Units follow the source where its thresholds do: milliseconds for latencies. Kept: the cache of the last five variants,
the search that ends after 15 % of the objective, tightest fit among what runs, one monitor a second, replication by
deficit, the comparison of replicating with moving all to the fastest, ten votes before a replica is stopped, nobody
refused once admitted. In its favour: queries wait for a variant, not for one replica of it, and max_cost is honoured.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from math import ceil, inf

from llamapipe.catalog import Query
from llamapipe.control.serving.fleet import Replica
from llamapipe.control.serving.offers import Offer
from llamapipe.control.serving.policies import Admission, Moves, ServingState
from llamapipe.control.serving.program import Solution

__all__ = ["Infaas"]

_LOOKUP_MS = 0.6
_LOOSE_MS = 100.0
_DOWN_VOTES = 10
_PERIOD_S = 1.0


@dataclass(slots=True)
class _Seen:
    """One variant in the second that runs."""

    queries: int = 0
    items: int = 0
    done: int = 0
    latency_ms: float = 0.0  # summed over what is done
    in_flight: int = 0
    average_ms: float = 0.0
    blacklisted: bool = False
    down_votes: int = 0
    average_batch: float = 1.0


@dataclass(slots=True)
class Infaas:
    """See above."""

    state: ServingState
    sheds: bool = False
    eager: bool = False
    _recent: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _monitored_s: float = -inf

    def admit(self, query: Query, now_s: float) -> Admission:
        """One variant."""
        options = self.state.servable(query)
        if not options.offers:
            return Admission(code=options.code, reason=options.reason, nearest=options.nearest)
        offer, why = self._choose(query, options.offers)
        self._recent[offer.name] = None
        self._recent.move_to_end(offer.name)
        while len(self._recent) > 5:
            self._recent.popitem(last=False)
        return Admission(frozenset((offer.name,)), why=why)

    def _choose(self, query: Query, offers: tuple[Offer, ...]) -> tuple[Offer, str]:
        running = {replica.offer.name for replica in self.state.fleet.serving()}
        loading = {r.offer.name for r in self.state.fleet.replicas.values() if r.loading}
        by_name = {offer.name: offer for offer in offers}
        for name in reversed(self._recent):
            if name in by_name and name in running and not self._of(name).blacklisted:
                return by_name[name], "it served a query like this lately"
        objective_ms = inf if query.latency_s is None else query.latency_s * 1e3
        count = len(offers) if objective_ms == inf else max(3, int(0.15 * objective_ms / _LOOKUP_MS))
        best: tuple[float, str, Offer] | None = None
        for offer in sorted(offers, key=lambda offer: (self._accuracy(offer, query), offer.name))[:count]:
            latency_ms = offer.items_p95_s(query.num_items) * 1e3
            if offer.name in running:
                if self._of(offer.name).blacklisted:
                    continue
                key = objective_ms - latency_ms if objective_ms < inf else latency_ms
            else:
                key = 1000 + (0.0 if offer.name in loading else offer.load_s * 1e3) + latency_ms
            if best is None or (key, offer.name) < best[:2]:
                best = (key, offer.name, offer)
        if best is not None:
            healthy = best[2].name in running
            if healthy or objective_ms <= _LOOSE_MS:
                return best[2], "the tightest fit that runs" if healthy else "the soonest to be loaded"
        idle = [offer for offer in offers if not self._of(offer.name).blacklisted]
        offer = min(idle or offers, key=lambda o: (o.load_s + o.p95_s[1], o.name))
        return offer, "the soonest to be loaded"

    def _accuracy(self, offer: Offer, query: Query) -> float:
        return self.state.selector.accuracy(offer, query.accuracy, query.task) or 0.0

    def _of(self, name: str) -> _Seen:
        return self._seen.setdefault(name, _Seen())

    def arrived(self, query: Query, names: frozenset[str], now_s: float) -> None:
        """Count it against its variant."""
        for name in names:
            seen = self._of(name)
            seen.queries += 1
            seen.items += query.num_items
            seen.in_flight += query.num_items

    def prepare(self, query: Query, names: frozenset[str], items_per_s: float, until_s: float, now_s: float) -> None:
        """The variant is loaded; how much will come is not asked."""

    def served(self, offer: Offer, items: int, latency_s: float, now_s: float) -> None:
        """Received to completed, queueing included, as its monitor has it."""
        seen = self._of(offer.name)
        seen.done += items
        seen.in_flight = max(seen.in_flight - items, 0)
        seen.latency_ms += latency_s * 1e3 * items

    def order(self, replicas: list[Replica]) -> list[Replica]:
        """The least used first."""
        return sorted(replicas, key=lambda replica: replica.num_served)

    def guard_s(self, replica: Replica, now_s: float) -> float:
        """Offline work goes on only where no variant is blacklisted."""
        return -inf if any(seen.blacklisted for seen in self._seen.values()) else inf

    def pressed(self, now_s: float) -> bool:
        """Only for a variant that is not there at all, which the controller sees itself."""
        return False

    def scale(self, now_s: float, *, urgent: bool) -> Moves:
        """Once a second: the monitor, then the autoscaler. In between: load what was chosen though not running."""
        moves = Moves()
        for name in sorted({name for names in self.state.unmet() for name in names}):
            chosen = self.state.selector.offers.get(name)
            if chosen is not None:
                moves.start.append((chosen, None))
        if now_s < self._monitored_s + _PERIOD_S - 1e-9:
            return moves
        self._monitored_s = now_s
        needs: list[tuple[Offer, int, float]] = []  # to be replicated: how often, deficit in items a second
        for replica in self.state.fleet.serving():  # one that was prepared, and that nobody has asked for, votes too
            self._of(replica.offer.name)
        for name, seen in self._seen.items():
            live = self.state.selector.offers.get(name)
            replicas = self.state.fleet.of((name,), loading=False)
            if live is not None:
                self._monitor(live, seen, len(replicas))
                if replicas:
                    self._vote(live, seen, replicas, needs, moves)
            seen.queries = seen.items = 0
        self._replicate(needs, moves)
        return moves

    def _monitor(self, offer: Offer, seen: _Seen, count: int) -> None:
        if seen.queries:
            seen.average_batch = min(max(seen.items / seen.queries, 1.0), offer.max_batch)
        profiled_ms = offer.median_s[max(round(seen.average_batch), 1)] * 1e3
        if seen.done:
            seen.average_ms = seen.latency_ms / seen.done
        else:
            seen.average_ms /= 15
        seen.done, seen.latency_ms = 0, 0.0
        k_latency, k_queries, k_flight, k_clear = (4.0, 1.0, 1.1, 1.5) if count == 1 else (2.5, 0.5, 0.8, 1.5)
        rate = 1000 / profiled_ms
        if count == 0:
            seen.blacklisted = False
        elif (seen.average_ms > k_latency * profiled_ms and seen.queries / count > k_queries * rate) or (
            seen.in_flight > k_flight * count * rate
        ):
            seen.blacklisted = True
        elif seen.in_flight < k_flight * count * rate and seen.average_ms < k_clear * profiled_ms:
            seen.blacklisted = False

    def _vote(
        self,
        offer: Offer,
        seen: _Seen,
        replicas: list[Replica],
        needs: list[tuple[Offer, int, float]],
        moves: Moves,
    ) -> None:
        batch = max(round(seen.average_batch), 1)
        served = batch / offer.median_s[batch]
        deficit = seen.items - 0.95 * len(replicas) * served
        if deficit > 0:
            seen.down_votes = 0
            if not any(r.loading for r in self.state.fleet.of((offer.name,))):  # one operation in flight a variant
                needs.append((offer, ceil(deficit / served), deficit))
        elif seen.items <= (len(replicas) - 1) * served:
            seen.down_votes += 1
            if seen.down_votes > _DOWN_VOTES:
                seen.down_votes = 0
                moves.stop.append((replicas[-1], "fewer would do"))

    def _replicate(self, needs: list[tuple[Offer, int, float]], moves: Moves) -> None:
        if not needs:
            return
        replicating = sum(offer.load_s * count for offer, count, _ in needs)
        fastest = min((offer for offer, _, _ in needs), key=lambda offer: offer.median_s[1])
        count = ceil(sum(deficit for _, _, deficit in needs) * fastest.median_s[1])
        if replicating > 1.5 * fastest.load_s * count:
            needs = [(fastest, count, 0.0)]
        for offer, wanted, _ in needs:
            moves.start += [(offer, None)] * wanted

    def solved(self, solution: Solution | None, now_s: float) -> Moves:
        """Nothing was asked."""
        return Moves()
