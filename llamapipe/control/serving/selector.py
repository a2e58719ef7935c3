"""Which variants can serve a query, the cheapest first, and which replica does it now.

A variant is fast enough for a query if all but one answer in a hundred are: its invocation and the way there and back
are taken as independent, each with its own 99th percentile.

What a query asks is looked up in arrays over all variants: one pass of numpy a query that is new, a dictionary's
look-up for one that asks like an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf, isnan, nan

import numpy as np
from numpy.typing import NDArray

from llamapipe.catalog import AccuracyKind, Floor, Profile, ProfileState, Query
from llamapipe.control.serving.actions import Nearest
from llamapipe.control.serving.offers import Offer, offer_of
from llamapipe.control.serving.options import Options
from llamapipe.control.serving.transit import Transit

__all__ = ["Choice", "Live", "Selector"]

_MAX_KNOWN = 4096  # queries whose options are kept
_KINDS = (AccuracyKind.MEASURED, AccuracyKind.PUBLISHED)

_CHANGED = 0.1  # of a level: what is known of queries is not thrown away with every invocation
_P95, _P99 = 1.645, 2.326  # standard deviations from the median

Floats = NDArray[np.float64]


@dataclass(slots=True)
class Live:
    """A replica as the selector sees it."""

    name: str
    offer: Offer
    free_at_s: float  # when it can take a batch; in the past: it is idle
    slowdown: float = 1.0  # observed latency over profiled


@dataclass(frozen=True, slots=True)
class Choice:
    """A replica that is there, or a variant to be loaded; neither: refused, with ``options`` saying why."""

    options: Options
    offer: Offer | None = None
    replica: str | None = None
    done_s: float = inf  # p95 of when it will be answered
    in_time: bool = False


@dataclass(slots=True)
class Selector:
    """An index of what may be chosen. ``price``: of a core-second, by device."""

    price: Callable[[str], float]
    transit: Transit = field(default_factory=Transit)
    offers: dict[str, Offer] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)  # variant -> reason
    _order: list[Offer] = field(default_factory=list)
    _known: dict[tuple[object, ...], Options] = field(default_factory=dict)
    _masks: dict[tuple[str, str], NDArray[np.bool_]] = field(default_factory=dict)
    _times: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)  # items -> (p99 s of answers, cost)
    _levels: dict[str, dict[str, float]] = field(default_factory=dict)  # variant -> host -> ln(seconds over profile)
    _accuracies: dict[tuple[str, str], Floats] = field(default_factory=dict)

    def update(self, profiles: Iterable[Profile], removed: Sequence[str] = ()) -> None:
        """Take in what is known now of variants; forget those that are removed."""
        for profile in profiles:
            name = profile.variant.name
            if profile.state == ProfileState.READY and profile.points:
                self.offers[name] = offer_of(profile, self.price(profile.variant.device))
                self.rejected.pop(name, None)
            else:
                self.reject(name, profile.reason or "it has not been profiled")
        for name in removed:
            self.offers.pop(name, None)
            self.rejected.pop(name, None)
        self._rebuild()

    def reject(self, name: str, reason: str) -> None:
        """A variant is not to be chosen any more."""
        self.offers.pop(name, None)
        self.rejected[name] = reason
        self._rebuild()

    def travelled(self, seconds: float) -> None:
        """A query was so long on its way, which tells of those to come."""
        if self.transit.observe(seconds):
            self._known.clear()
            self._times.clear()

    def seems(self, name: str, host: str, level: float) -> None:
        """A variant takes exp(level) times as long on a host as it was profiled to, while nothing is in its way."""
        levels = self._levels.setdefault(name, {})
        if host not in levels or abs(level - levels[host]) > _CHANGED:
            levels[host] = level
            self._known.clear()
            self._times.clear()

    def options(self, query: Query) -> Options:
        """All that can serve a query within what it asks, loaded or not."""
        floor = query.accuracy
        key = (
            query.task,
            query.model,
            query.variant,
            query.num_items,
            query.latency_s,
            query.max_cost,
            None if floor is None else (floor.value, floor.metric),
        )
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[key] = self._look_up(query)
        return known

    def select(self, query: Query, live: Iterable[Live], now_s: float) -> Choice:
        """The cheapest replica that answers in time; where none does, what comes first: a replica, or one loaded."""
        options = self.options(query)
        if not options.offers:
            return Choice(options)
        names, num_items = options.names, query.num_items
        due_s = inf if query.latency_s is None else now_s + query.latency_s
        best: Live | None = None
        best_cost = best_done_s = soonest_s = inf
        soonest: Live | None = None
        for replica in live:
            offer = replica.offer
            if offer.name not in names:
                continue
            wait_s = replica.free_at_s - now_s
            takes_s = offer.p95_s[num_items] if num_items <= offer.max_batch else offer.items_p95_s(num_items)
            done_s = now_s + (wait_s if wait_s > 0 else 0.0) + takes_s * replica.slowdown
            if done_s < soonest_s:
                soonest, soonest_s = replica, done_s
            if done_s <= due_s:
                cost = offer.items_cost(num_items)
                if cost < best_cost or (cost == best_cost and done_s < best_done_s):
                    best, best_cost, best_done_s = replica, cost, done_s
        if best is not None:
            return Choice(options, best.offer, best.name, best_done_s, in_time=True)
        cold_s = inf
        cold: Offer | None = None
        for offer in options.offers:
            done_s = now_s + offer.load_s + offer.items_p95_s(num_items)
            if done_s <= due_s:
                return Choice(options, offer, None, done_s, in_time=True)
            if done_s < cold_s:
                cold, cold_s = offer, done_s
        if soonest is not None and soonest_s <= cold_s:
            return Choice(options, soonest.offer, soonest.name, soonest_s)
        return Choice(options, cold, None, cold_s)

    def accuracy(self, offer: Offer, floor: Floor | None, task: str | None) -> float | None:
        """A variant's figure for a task on the floor's metric, of the kind that is looked at.

        What was held against it when ``offer`` was made may have been measured anew since: today's figure counts.
        """
        offer_now = self.offers.get(offer.name)
        if floor is None or offer_now is None:
            return None
        value = float(self._figures(floor.metric, task)[self._order.index(offer_now)])
        return None if isnan(value) else value

    def nearest(self, query: Query, fits: Callable[[Offer], bool]) -> Nearest | None:
        """The closest to a query among variants of its task, model or name that ``fits``; None: there are none."""
        mask = self._asked(query)[1] & np.array([fits(offer) for offer in self._order], dtype=bool)
        if not mask.any():
            return None
        late_s, cost = self._timed(query.num_items)
        figures = None if query.accuracy is None else self._figures(query.accuracy.metric, query.task)
        return self._nearest(query, mask, late_s, cost, figures)

    def _rebuild(self) -> None:
        self._order = list(self.offers.values())
        self._known.clear()
        self._masks.clear()
        self._times.clear()
        self._accuracies.clear()

    def _look_up(self, query: Query) -> Options:
        asked, mask = self._asked(query)
        if not mask.any():
            rejected = self._rejected(query)
            why = f"; rejected: {rejected}" if rejected else ""
            return Options(code="unknown", reason=f"nothing serves {asked} on this machine{why}")
        late_s, cost = self._timed(query.num_items)
        fits = mask.copy()
        complaints: list[str] = []
        floor = query.accuracy
        figures: Floats | None = None
        if floor is not None:
            figures = self._figures(floor.metric, query.task)
            reached = figures >= floor.value - 1e-12
            if not (mask & reached).any():
                complaints.append(_below(floor, figures[mask]))
            fits &= reached
        if query.latency_s is not None:
            fast = late_s <= query.latency_s
            if not (mask & fast).any():
                complaints.append(f"the fastest takes {min(late_s[mask]) * 1e3:.3g} ms (99 of 100 answers)")
            fits &= fast
        if query.max_cost is not None:
            cheap = cost <= query.max_cost
            if not (mask & cheap).any():
                complaints.append(f"the cheapest costs {min(cost[mask]):.3g} an item")
            fits &= cheap
        if not fits.any():
            reason = " and ".join(complaints) or "each constraint can be met, but not all of them by one variant"
            nearest = self._nearest(query, mask, late_s, cost, figures)
            return Options(code="constraint", reason=f"{asked}: {reason}", nearest=nearest)
        places = np.flatnonzero(fits)
        order = places[np.lexsort((late_s[places], cost[places]))]
        offers = tuple(self._order[place] for place in order)
        return Options(offers, frozenset(offer.name for offer in offers))

    def _asked(self, query: Query) -> tuple[str, NDArray[np.bool_]]:
        kind, name = (
            ("variant", query.variant)
            if query.variant is not None
            else ("model", query.model)
            if query.model is not None
            else ("task", query.task or "")
        )
        mask = self._masks.get((kind, name))
        if mask is None:
            mask = np.array([_is(offer.profile, kind, name) for offer in self._order], dtype=bool)
            self._masks[kind, name] = mask
        if kind != "task" and query.task is not None:  # both were given: both hold
            mask = mask & self._asked(Query(task=query.task))[1]
        return f"{kind} {name}", mask

    def _rejected(self, query: Query) -> str:
        named = query.variant or query.model
        found = [f"{name} ({why})" for name, why in self.rejected.items() if named and name.startswith(named)]
        return ", ".join(found[:3])

    def _timed(self, num_items: int) -> tuple[Floats, Floats]:
        times = self._times.get(num_items)
        if times is None:
            times = self._times[num_items] = (
                self._late_s(num_items),
                np.array([offer.items_cost(num_items) for offer in self._order]),
            )
        return times

    def _late_s(self, num_items: int) -> Floats:
        """What 99 of 100 answers take, on the way and being worked on."""
        level = np.array([min(self._levels.get(offer.name, {}).values(), default=0.0) for offer in self._order])
        p95_s = np.exp(level) * [offer.items_p95_s(num_items) for offer in self._order]
        median_s = np.exp(level) * [offer.items_median_s(num_items) for offer in self._order]
        return np.asarray(median_s + np.hypot(_P99 / _P95 * (p95_s - median_s), self.transit.used_s))

    def _figures(self, metric: str, task: str | None) -> Floats:
        """Of one kind, nan where a variant has none: agreement, else the kind that most variants have."""
        key = (metric, task or "")
        figures = self._accuracies.get(key)
        if figures is None:
            kinds = (AccuracyKind.AGREEMENT,) if metric == "agreement" else _KINDS
            by_kind = [
                np.array([_figure(offer.profile, metric, kind, task) for offer in self._order]) for kind in kinds
            ]
            figures = self._accuracies[key] = max(by_kind, key=lambda values: int(np.isfinite(values).sum()))
        return figures

    def _nearest(
        self, query: Query, mask: NDArray[np.bool_], late_s: Floats, cost: Floats, figures: Floats | None
    ) -> Nearest:
        """The variant whose worst miss, relative to what is asked, is the least."""
        miss = np.zeros(len(late_s))
        if query.latency_s is not None:
            miss = np.maximum(miss, late_s / max(query.latency_s, 1e-9) - 1)
        if query.max_cost is not None:
            miss = np.maximum(miss, cost / max(query.max_cost, 1e-12) - 1)
        if query.accuracy is not None and figures is not None:
            short = query.accuracy.value - figures
            miss = np.maximum(miss, np.where(np.isnan(figures), 1e6, short / max(query.accuracy.value, 1e-9)))
        miss = np.where(mask, miss, inf)
        place = int(np.lexsort((cost, miss))[0])
        value = nan if figures is None else float(figures[place])
        return Nearest(
            self._order[place].name, float(late_s[place]), float(cost[place]), None if isnan(value) else value
        )


def _is(profile: Profile, kind: str, name: str) -> bool:
    if kind == "task":
        return name in profile.tasks
    return name == (profile.variant.name if kind == "variant" else profile.variant.model)


def _figure(profile: Profile, metric: str, kind: str, task: str | None) -> float:
    """Of the task, where one is asked for; else of the first that the model does."""
    for figure in profile.accuracy:
        if task is not None and figure.task not in ("", task):
            continue
        if figure.kind == kind and metric in ("agreement", figure.metric):
            return figure.value
    return nan


def _below(floor: Floor, figures: Floats) -> str:
    known = figures[np.isfinite(figures)]
    if not len(known):
        return f"no variant has a figure for {floor.metric}"
    return f"the highest {floor.metric} is {max(known):.3g}, {floor.value:.3g} is asked"
