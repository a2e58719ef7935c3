"""Which queries an idle replica takes, in one batch."""

from __future__ import annotations

import heapq
from math import inf

from llamapipe.control.serving.fleet import Replica
from llamapipe.control.serving.policies import Policy, ServingState
from llamapipe.control.serving.waiting import Group, Pending

__all__ = ["WAITED", "form_batch"]

_WELL_IN_TIME = 0.5  # of the time left: to wait for somebody else must not become a risk
WAITED = 0.1  # share of its latency: a query that has waited longer is begun only if it will be in time


def form_batch(
    state: ServingState, policy: Policy, replica: Replica, waiting: list[Group], num_idle: int, now_s: float
) -> list[tuple[Pending, int, int]] | None:
    """The batch for an idle replica: the most urgent that it can serve, and as many more as leave those in time.

    Items are taken off their queues: (query, first item, one past the last). ``num_idle`` replicas share the work.
    """
    offer = replica.offer
    groups = [group for group in waiting if replica.offer.name in group.names]
    online = [group for group in groups if not group.offline and group.head() is not None]
    longest_s = inf
    chosen = online
    if not online:
        chosen = [group for group in groups if group.head() is not None]
        if not chosen:
            return None
        longest_s = policy.guard_s(replica, now_s)
        if offer.fitting_batch(longest_s, replica.health.slowdown) == 0:
            return None
    heads: list[tuple[float, int, Group]] = []
    for place, group in enumerate(chosen):
        head = group.head()
        assert head is not None
        if not _left(state, policy, head, replica, now_s):
            heapq.heappush(heads, (head.urgent_s, place, group))
    taken: list[tuple[Pending, int, int]] = []
    size, limit = 0, 0
    while heads:
        _, place, group = heapq.heappop(heads)
        head = group.head()
        if head is None:
            continue
        if not taken:
            limit = _limit(replica, head, chosen, num_idle, longest_s, now_s)
        if size >= limit:
            break
        count = min(limit - size, head.num_todo)
        while count and offer.cost(size + count) > group.max_cost * (1 + 1e-9) and size:
            count -= 1
        if count == 0:
            break
        first, end = state.waiting.take(head, count)
        taken.append((head, first, end))
        size += end - first
        following = group.head()
        if following is not None:
            heapq.heappush(heads, (following.urgent_s, place, group))
    return taken or None


def _limit(replica: Replica, head: Pending, groups: list[Group], num_idle: int, longest_s: float, now_s: float) -> int:
    """How many items the batch may have that begins with this query."""
    offer = replica.offer
    fitting = offer.fitting_batch(min(head.deadline_s - now_s, longest_s), replica.health.slowdown)
    backlog = sum(group.num_waiting for group in groups)
    limit = max(min(offer.best[fitting] if fitting else 1, -(-backlog // num_idle)), 1)
    if offer.cost(limit) > head.group.max_cost * (1 + 1e-9):  # it was admitted at the cost of a fuller batch
        return max(limit, min(head.num_todo, offer.max_batch))
    return limit


def _left(state: ServingState, policy: Policy, head: Pending, replica: Replica, now_s: float) -> bool:
    """Whether a replica leaves a query alone: it would be late with it, and another not, or there is no hope."""
    if not policy.sheds or head.deadline_s == inf or head.excused:
        return False
    slack_s = head.deadline_s - now_s
    slowdown = replica.health.slowdown
    if replica.health.interfered and _others_do(state, head, now_s):
        return True
    if replica.offer.fitting_batch(slack_s, slowdown):
        return False
    if replica.offer.median_s[1] * slowdown > slack_s:
        return True
    if now_s - head.arrived_at_s > WAITED * (head.deadline_s - head.arrived_at_s):
        return True
    for other in state.fleet.of(head.group.names):
        start_s = max(other.free_at_s(), now_s)
        if other is not replica and start_s + other.offer.p95_s[1] * other.health.slowdown <= head.deadline_s:
            return True
    return False


def _others_do(state: ServingState, head: Pending, now_s: float) -> bool:
    """Whether replicas that nothing is in the way of serve all that waits with this query well in time."""
    well = [other for other in state.fleet.of(head.group.names, loading=False) if not other.health.interfered]
    if not well:
        return False
    rate = sum(other.offer.throughput(inf) / other.health.slowdown for other in well)
    free_s = min(max(other.free_at_s() - now_s, 0.0) for other in well)
    p95_s = max(other.offer.p95_s[1] * other.health.slowdown for other in well)
    return free_s + head.group.num_waiting / rate + p95_s <= _WELL_IN_TIME * (head.deadline_s - now_s)
