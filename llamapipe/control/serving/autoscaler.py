"""llamapipe's own policy: the cheapest replicas that serve what is forecast, decided by the program once a period.

Between two solutions a jump in load is met at once by the greedy half of the program, starts only. What a solution
leaves out is stopped when no solution of the last seconds wanted it and the others can carry the load.

However much comes, nothing is started for those who do not wait: somebody who asks again when he has his answer keeps
one replica busy all the time, and has nothing of a second one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from heapq import nsmallest
from math import ceil, floor, inf, log2, sqrt

from llamapipe.catalog import Query
from llamapipe.control.serving.fleet import Replica
from llamapipe.control.serving.forecast import Forecast
from llamapipe.control.serving.offers import Offer
from llamapipe.control.serving.policies import Admission, Moves, ServingState
from llamapipe.control.serving.program import Demand, Option, Problem, Room, Solution, greedy, is_least
from llamapipe.control.serving.queueing import utilisation

__all__ = ["Adaptive"]

_QUANTILE_Z = 1.65  # of the Poisson count that is planned for
_URGENT_GAP_S = 0.02
_PRESSED = 0.25  # of the time left that those who wait may take up before somebody is started: it has to come up, too
_WAITED_S = 2.0  # a stream in which nobody has waited for so long is served by what is there
_CALM = 0.99  # of what is there, that streams in which nobody waits demand together: the program rounds small ones up
_SINGLY = 0.5  # of what the quickest serves one query after the other: up to there no batches form that are worth it
_STEPS = 8  # latencies are told apart by an eighth of their doubling


@dataclass(slots=True)
class _Stream:
    """Queries that ask alike."""

    names: frozenset[str]
    latency_s: float
    shortlist: tuple[str, ...]  # of variants that are worth a start
    num_items: float = 1.0  # a query, smoothed
    forecast: Forecast = field(default_factory=Forecast)
    least_items_per_s: float = 0.0  # announced
    waited_s: float = -inf  # when one of them last came while nothing was idle that serves it
    until_s: float = 0.0  # there is to be something for it until then
    planned: float = 0.0  # items a second that the last plan was made for
    stirred: bool = False  # more has come since that was looked at

    def is_calm(self, now_s: float) -> bool:
        """Nobody has waited lately."""
        return now_s - self.waited_s > _WAITED_S


@dataclass(slots=True)
class Adaptive:
    """See above. ``latency_s`` of a stream is the least that was asked in it, as it was admitted."""

    state: ServingState
    sheds: bool = True
    eager: bool = False
    streams: dict[tuple[frozenset[str], int], _Stream] = field(default_factory=dict)
    _targets: deque[tuple[float, dict[str, int]]] = field(default_factory=deque)  # (when, replicas by variant)
    _urgent_s: float = -inf
    _looked_s: float = -inf
    _asking: deque[Problem] = field(default_factory=deque)  # answered in this order
    _known: tuple[Problem, Solution] | None = None  # the newest that was answered

    def admit(self, query: Query, now_s: float) -> Admission:
        """All that meets what is asked."""
        options = self.state.servable(query)
        if not options.offers:
            return Admission(code=options.code, reason=options.reason, nearest=options.nearest)
        return Admission(options.names, why=_why(query, len(options.offers)))

    def arrived(self, query: Query, names: frozenset[str], now_s: float) -> None:
        """Count it, unless it may wait for ever."""
        if query.offline:
            return
        stream = self._stream(query, names)
        stream.num_items += 0.05 * (query.num_items - stream.num_items)
        stream.forecast.arrived(query.num_items, now_s)
        stream.until_s = max(stream.until_s, now_s + self.state.plan.linger_s)
        stream.stirred = True
        if query.num_items > 1 or self._waits(names):
            stream.waited_s = now_s

    def prepare(self, query: Query, names: frozenset[str], items_per_s: float, until_s: float, now_s: float) -> None:
        """Count what is announced as if it came."""
        stream = self._stream(query, names)
        stream.least_items_per_s = items_per_s
        stream.until_s = max(stream.until_s, until_s)

    def served(self, offer: Offer, items: int, latency_s: float, now_s: float) -> None:
        """Health has seen it already."""

    def order(self, replicas: list[Replica]) -> list[Replica]:
        """The cheapest first, so that those stay free that pickier queries need; slow ones last."""
        return sorted(replicas, key=lambda r: (r.health.interfered, r.offer.cost(1) * r.health.slowdown))

    def guard_s(self, replica: Replica, now_s: float) -> float:
        """Until the pickiest query that may come would be late."""
        name, p95_s = replica.offer.name, replica.offer.p95_s[1]
        slacks = [s.latency_s - p95_s for s in self.streams.values() if name in s.names and s.until_s > now_s]
        return min(slacks, default=inf)

    def pressed(self, now_s: float) -> bool:
        """Whether what waits will be late with what is there and coming."""
        if now_s < self._urgent_s + _URGENT_GAP_S:
            return False
        fleet = self.state.fleet
        for group in self.state.waiting.groups.values():
            if group.offline or not group.num_waiting:
                continue
            head = group.head()
            if head is None:
                continue
            replicas = fleet.of(group.names)
            if not replicas:
                return True
            if group.num_waiting <= sum(r.batch is None and not r.health.interfered for r in replicas):
                continue  # each has one that takes it as soon as it is loaded
            slack_s = head.deadline_s - now_s
            rate = sum(replica.offer.throughput(inf) / replica.health.slowdown for replica in replicas)
            if group.num_waiting / rate > max(slack_s, 0.0) * _PRESSED:
                return True
        return self._surprised(now_s)

    def _surprised(self, now_s: float) -> bool:
        """Whether more comes than the last plan was made for."""
        if now_s < self._looked_s + _URGENT_GAP_S:
            return False
        self._looked_s = now_s
        stirred = [stream for stream in self.streams.values() if stream.stirred]
        for stream in stirred:
            stream.stirred = False
        return any(stream.forecast.level(now_s) > stream.planned for stream in stirred if not stream.is_calm(now_s))

    def scale(self, now_s: float, *, urgent: bool) -> Moves:
        """Ask for a solution; when urgent, start at once what the greedy half wants beyond what runs."""
        self._forget(now_s)
        problem = self._problem(now_s)
        moves = Moves()
        if urgent:
            self._urgent_s = now_s
            solution = greedy(problem)
            self._remember(solution, now_s)
            moves.start = self._starts(solution, now_s)
        elif not problem.demands:
            moves = self._followed(Solution({}), now_s)
        elif self._known is not None and problem == self._known[0]:
            moves = self._followed(self._known[1], now_s)
        elif is_least(problem, simple := greedy(problem)):
            moves = self._followed(simple, now_s)
        else:
            self._asking.append(problem)
            moves.problem = problem
        for start in self._offline():
            moves.start.append(start)
        return moves

    def solved(self, solution: Solution | None, now_s: float) -> Moves:
        """Do what the program found; None: it found nothing in its time."""
        asked = self._asking.popleft() if self._asking else None
        if asked is not None and solution is not None:
            self._known = asked, solution
        return self._followed(greedy(self._problem(now_s)) if solution is None else solution, now_s)

    def _followed(self, solution: Solution, now_s: float) -> Moves:
        """Start what is missing, stop what nobody has wanted for some seconds."""
        self._remember(solution, now_s)
        moves = Moves(start=self._starts(solution, now_s))
        starved = any(self.state.fleet.room(offer, host) is None for offer, host in moves.start) and self._starved()
        moves.stop = self._stops(solution, now_s, starved=starved)
        return moves

    def _waits(self, names: frozenset[str]) -> bool:
        """Whether a query that has just come is not begun at once, though it is not the only one."""
        replicas = self.state.fleet.of(names, loading=False)
        if replicas:
            return all(replica.batch is not None for replica in replicas)
        return sum(pending.group.names == names for pending in self.state.waiting.pending.values()) > 1

    # -- demand --------------------------------------------------------------------------------------------------

    def _stream(self, query: Query, names: frozenset[str]) -> _Stream:
        latency_s = self.state.plan.patience_s if query.latency_s is None else query.latency_s
        step = floor(log2(max(latency_s, 1e-6)) * _STEPS)
        key = (names, step)
        stream = self.streams.get(key)
        if stream is None:
            stream = self.streams[key] = _Stream(
                names, latency_s, _shortlist(self.state.servable(query).offers), float(query.num_items)
            )
        stream.latency_s = min(stream.latency_s, latency_s)
        return stream

    def _forget(self, now_s: float) -> None:
        """Keep only streams for which something is to be there: those that somebody waits for always are."""
        for group in self.state.waiting.groups.values():
            head = None if group.offline else group.head()
            if head is not None:
                stream = self._stream(head.query, group.names)
                stream.until_s = max(stream.until_s, now_s + self.state.plan.linger_s)
        self.streams = {key: stream for key, stream in self.streams.items() if stream.until_s > now_s}

    def _demanded(self, stream: _Stream, now_s: float) -> float:
        """Items a second to plan for: what the forecast says, and what chance adds while a replica is loaded."""
        known = self.state.selector.offers
        loads = [known[name].load_s for name in stream.names if name in known]
        horizon_s = self.state.plan.period_s + min(loads, default=0.0)
        rate = stream.forecast.expected(now_s, horizon_s)
        rate += _QUANTILE_Z * sqrt(rate * stream.num_items / max(horizon_s, 1.0))
        if stream.is_calm(now_s) and (there := self._there(stream)) > 0:
            rate = min(rate, there)
        return max(rate, stream.least_items_per_s, 1e-3)

    def _there(self, stream: _Stream) -> float:
        """Items a second that replicas which serve it now can do in time."""
        return sum(
            self._throughput(replica.offer, stream, 0.0)
            for replica in self.state.fleet.serving()
            if replica.offer.name in stream.names and not replica.health.interfered
        )

    def _rates(self, now_s: float) -> list[float]:
        """What each stream demands. Those in which nobody waits are together no more than what is there for them.

        Which variants are fast enough changes with what is learned, and alike queries are a new stream then: the old
        one is still counted for a while.
        """
        streams = list(self.streams.values())
        rates = [self._demanded(stream, now_s) for stream in streams]
        loads = [
            rate / there if stream.is_calm(now_s) and (there := self._there(stream)) > 0 else 0.0
            for stream, rate in zip(streams, rates, strict=True)
        ]
        serving = {replica.offer.name for replica in self.state.fleet.serving()}
        for i, stream in enumerate(streams):
            shared = stream.names & serving
            load = sum(load for other, load in zip(streams, loads, strict=True) if not shared.isdisjoint(other.names))
            if loads[i] > 0 and load > _CALM:
                rates[i] = max(rates[i] * _CALM / load, stream.least_items_per_s)
        return rates

    def _throughput(self, offer: Offer, stream: _Stream, items_per_s: float) -> float:
        """Items a second of one replica that leave everybody in time."""
        items = max(round(stream.num_items), 1)
        takes_s = offer.items_p95_s(items)
        slack_s = stream.latency_s - takes_s
        if slack_s < 0:
            return 0.0
        full = offer.throughput(max(stream.latency_s / 2, takes_s))
        service_s = items / full
        replicas = max(ceil(items_per_s / full), 1)
        return full * utilisation(replicas, service_s, slack_s)

    def _pace(self, stream: _Stream, items_per_s: float, throughput: dict[str, float]) -> dict[str, float]:
        """Items a second one query after the other, where they come so seldom."""
        items = max(round(stream.num_items), 1)
        singly = {name: items / self.state.selector.offers[name].items_median_s(items) for name in throughput}
        return singly if items_per_s <= _SINGLY * max(singly.values(), default=0.0) else {}

    def _problem(self, now_s: float) -> Problem:
        state = self.state
        running: dict[str, dict[str, int]] = {}
        for replica in state.fleet.replicas.values():
            if (replica.serves or replica.loading) and not replica.health.interfered:
                by_host = running.setdefault(replica.offer.name, {})
                by_host[replica.host] = by_host.get(replica.host, 0) + 1
        demands: list[Demand] = []
        chosen: dict[str, None] = {}
        for stream, rate in zip(self.streams.values(), self._rates(now_s), strict=True):
            throughput: dict[str, float] = {}
            for name in dict.fromkeys((*stream.shortlist, *(name for name in running if name in stream.names))):
                offer = state.selector.offers.get(name)
                if offer is None or (now_s < state.not_before_s.get(name, 0.0) and name not in running):
                    continue
                served = self._throughput(offer, stream, rate)
                if served > 0:
                    throughput[name] = served
                    chosen[name] = None
            stream.planned = max(rate, stream.forecast.level(now_s))
            demands.append(Demand(rate, throughput, self._pace(stream, rate, throughput)))
        options = tuple(
            Option(
                name,
                offer.cores,
                offer.memory_bytes,
                offer.cost_per_s,
                offer.load_s,
                running.get(name, {}),
                offer.profile.variant.device.split(":")[0],
            )
            for name in chosen
            if (offer := state.selector.offers.get(name)) is not None
        )
        held: dict[str, tuple[int, int]] = {}
        for replica in state.fleet.replicas.values():  # what cannot be counted on keeps its room until it is gone
            if not (replica.serves or replica.loading) or replica.health.interfered:
                cores, memory = held.get(replica.host, (0, 0))
                held[replica.host] = (cores + len(replica.cores), memory + replica.offer.memory_bytes)
        rooms = tuple(
            Room(
                host.name,
                len(host.cores) - held.get(host.name, (0, 0))[0],
                host.memory_bytes - held.get(host.name, (0, 0))[1],
                host.devices,
            )
            for host in state.fleet.hosts()
        )
        return Problem(options, tuple(demands), rooms, horizon_s=state.plan.linger_s)

    # -- replicas ------------------------------------------------------------------------------------------------

    def _remember(self, solution: Solution, now_s: float) -> None:
        self._targets.append((now_s, {name: sum(hosts.values()) for name, hosts in solution.replicas.items()}))
        while self._targets[0][0] < now_s - self.state.plan.scale_down_s:
            self._targets.popleft()

    def _starts(self, solution: Solution, now_s: float) -> list[tuple[Offer, str | None]]:
        starts: list[tuple[Offer, str | None]] = []
        for name, hosts in solution.replicas.items():
            if now_s < self.state.not_before_s.get(name, 0.0):
                continue  # another of it has just failed to load: those that are there stay
            offer = self.state.selector.offers.get(name)
            there = [r for r in self.state.fleet.of((name,)) if not r.health.interfered]
            for host, count in hosts.items():
                missing = count - sum(replica.host == host for replica in there)
                if offer is not None and missing > 0:
                    starts += [(offer, host)] * missing
        return starts

    def _stops(self, solution: Solution, now_s: float, *, starved: bool) -> list[tuple[Replica, str]]:
        """Beyond the most that any solution of the last seconds wanted; beyond the newest one, where others starve."""
        wanted: dict[str, int] = {}
        span_s = now_s - self._targets[0][0]
        for _, target in self._targets:
            for name, count in target.items():
                wanted[name] = max(wanted.get(name, 0), count)
        if starved:
            wanted = {name: sum(hosts.values()) for name, hosts in solution.replicas.items()}
        stops: list[tuple[Replica, str]] = []
        offline = {
            name
            for group in self.state.waiting.groups.values()
            if group.offline and group.head() is not None
            for name in group.names
        }
        by_name: dict[str, list[Replica]] = {}
        for replica in self.state.fleet.replicas.values():
            if replica.serves or replica.loading:
                by_name.setdefault(replica.offer.name, []).append(replica)
        going: set[str] = set()
        for name, replicas in by_name.items():
            surplus = len(replicas) - wanted.get(name, 0)
            replicas.sort(
                key=lambda replica: (not replica.health.interfered, replica.batch is not None, -replica.started_at_s)
            )
            for replica in replicas[: max(surplus, 0)]:
                young = now_s - replica.started_at_s < self.state.plan.scale_down_s
                if not starved and (young or span_s < self.state.plan.scale_down_s / 2):
                    continue
                if not starved and name in offline:
                    continue
                if starved or self._spared(replica, going, now_s):
                    going.add(replica.name)
                    stops.append((replica, "others are waiting for its room" if starved else "less would do"))
        return stops

    def _spared(self, replica: Replica, going: set[str], now_s: float) -> bool:
        """Whether those that are loaded can carry each stream without it."""
        others = [r for r in self.state.fleet.serving() if r is not replica and r.name not in going]
        for stream in self.streams.values():
            if replica.offer.name not in stream.names:
                continue
            rate = self._demanded(stream, now_s)
            rates = [
                self._throughput(r.offer, stream, rate) / r.health.slowdown
                for r in others
                if r.offer.name in stream.names
            ]
            if sum(rates) < rate:
                return False
        return True

    def _starved(self) -> bool:
        """Whether somebody has nothing at all."""
        fleet = self.state.fleet
        return bool(self.state.unmet()) or any(not fleet.of(stream.names) for stream in self.streams.values())

    def _offline(self) -> list[tuple[Offer, str | None]]:
        """Where there is room that nobody else wants, one replica for each queue of offline items without any."""
        starts: list[tuple[Offer, str | None]] = []
        for group in self.state.waiting.groups.values():
            if not group.offline or group.head() is None or self.state.fleet.of(group.names):
                continue
            offers = [offer for name in group.names if (offer := self.state.selector.offers.get(name)) is not None]
            fitting = [offer for offer in offers if self.state.fleet.room(offer) is not None]
            if fitting:
                starts.append((min(fitting, key=lambda offer: (offer.cost(offer.best[-1]), offer.name)), None))
        return starts


def _shortlist(offers: tuple[Offer, ...]) -> tuple[str, ...]:
    """The cheapest an item, and the best of what else may decide: speed, loading, memory, cores. They come cheapest."""
    found = [*offers[:8], *nsmallest(4, offers, key=lambda offer: offer.p95_s[1])]
    found += nsmallest(2, offers, key=lambda offer: offer.load_s)
    found += nsmallest(2, offers, key=lambda offer: offer.memory_bytes)
    found += nsmallest(2, offers, key=lambda offer: offer.cost_per_s)
    return tuple(dict.fromkeys(offer.name for offer in found))


def _why(query: Query, count: int) -> str:
    asked = [
        f"within {query.latency_s * 1e3:.4g} ms" if query.latency_s is not None else "",
        f"{query.accuracy.metric} of {query.accuracy.value:.3g} or more" if query.accuracy is not None else "",
        f"at {query.max_cost:.3g} an item or less" if query.max_cost is not None else "",
    ]
    constraints = ", ".join(text for text in asked if text) or "no constraint"
    return f"the cheapest replica ready, of {count} variants that meet what was asked ({constraints})"
