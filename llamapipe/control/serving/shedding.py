"""Queries that would be late: how long they may wait to be begun with, and what is said to those that waited longer."""

from __future__ import annotations

from math import inf

from llamapipe.control.serving.actions import Nearest
from llamapipe.control.serving.batching import WAITED
from llamapipe.control.serving.offers import Offer
from llamapipe.control.serving.policies import ServingState
from llamapipe.control.serving.waiting import Pending

__all__ = ["last_moment_s", "why_late"]


def last_moment_s(pending: Pending, state: ServingState) -> float:
    """When the fastest of what is there or will be has to begin."""
    offers = [(replica.offer, replica.health.slowdown) for replica in state.fleet.of(pending.group.names)]
    if not offers:
        offers = [(offer, 1.0) for offer in _known(pending, state)]
    # One that is begun with no more than p95 to go is late once in twenty: after a wait, others are taken instead.
    latest_s = max((pending.deadline_s - offer.p95_s[1] * slowdown for offer, slowdown in offers), default=inf)
    if latest_s >= pending.arrived_at_s + WAITED * (pending.deadline_s - pending.arrived_at_s):
        return latest_s
    least_s = min((offer.median_s[1] * slowdown for offer, slowdown in offers), default=0.0)
    return pending.deadline_s - least_s


def why_late(pending: Pending, state: ServingState, now_s: float) -> tuple[str, str, Nearest | None]:
    """(code, reason, what comes closest) of a query that can no more be answered in time."""
    live = state.fleet.of(pending.group.names, loading=False)
    code, reason = "overload", "what serves it is busy with others"
    if not live:
        load_s = min((offer.load_s for offer in _known(pending, state)), default=0.0)
        code, reason = "cold", f"nothing that serves it is loaded, which takes {load_s:.2g} s"
    offers = [replica.offer for replica in live] or _known(pending, state)
    if not offers:
        return code, reason, None
    offer = min(offers, key=lambda offer: offer.p95_s[1])
    wait_s = min((max(replica.free_at_s() - now_s, 0.0) for replica in live), default=offer.load_s)
    nearest = Nearest(
        offer.name,
        now_s - pending.arrived_at_s + wait_s + offer.items_p95_s(pending.query.num_items),
        offer.items_cost(pending.query.num_items),
        state.selector.accuracy(offer, pending.query.accuracy, pending.query.task),
    )
    return code, reason, nearest


def _known(pending: Pending, state: ServingState) -> list[Offer]:
    known = state.selector.offers
    return [known[name] for name in pending.group.names if name in known]
