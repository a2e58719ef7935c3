"""Serves queries with replicas that come and go: step(event, now_s) -> actions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

from llamapipe.catalog import Profile
from llamapipe.control.serving import actions as act
from llamapipe.control.serving import events as ev
from llamapipe.control.serving.autoscaler import Adaptive
from llamapipe.control.serving.batching import form_batch
from llamapipe.control.serving.fixed import Static
from llamapipe.control.serving.fleet import Batch, Replica
from llamapipe.control.serving.infaas import Infaas
from llamapipe.control.serving.lifecycle import QueryState, VariantState
from llamapipe.control.serving.offers import Offer
from llamapipe.control.serving.plan import Host, ServingPlan
from llamapipe.control.serving.policies import Admission, Moves, Policy, ServingState
from llamapipe.control.serving.selector import Selector
from llamapipe.control.serving.shedding import last_moment_s, why_late
from llamapipe.control.serving.transit import Transit
from llamapipe.control.serving.waiting import Pending
from llamapipe.control.timers import Timers
from llamapipe.errors import LlamapipeError, UsageError

__all__ = ["ReplicaStatus", "ServingController"]

_HANG_FLOOR_S = 5.0  # no replica is given up sooner
_HANG_FACTOR = 20.0  # over the p95 of what it works on
_LOAD_FLOOR_S = 60.0
_LOAD_FACTOR = 10.0
_URGENT_GAP_S = 0.02
_ASSESS_GAP_S = 0.05
_MOST_DOUBLED = 8  # times that the wait before another try to load is doubled
_PROBE_GAP_S = 0.1

_POLICIES: dict[str, Callable[[ServingState], Policy]] = {"llamapipe": Adaptive, "infaas": Infaas, "static": Static}


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One replica, for whoever looks on."""

    name: str
    variant: str
    host: str
    cores: tuple[int, ...]
    state: str
    slowdown: float
    num_served: int  # items


class ServingController:
    """Queues, batches and retries queries and keeps replicas within their hosts; a policy says which there should be.

    ``now_s`` of `step` never goes back. The driver calls it with each event, and with Tick at `next_deadline_s`.
    """

    def __init__(self, plan: ServingPlan, profiles: Iterable[Profile] = ()) -> None:
        self._plan = plan
        self._state = ServingState(plan, Selector(plan.price, Transit(plan.transit_s)))
        self._state.selector.update(profiles)
        for host in plan.hosts:
            self._state.fleet.add_host(host)
        policy = _POLICIES.get(plan.policy)
        if policy is None:
            raise UsageError(f"policy {plan.policy}: there are {', '.join(_POLICIES)}")
        self._policy: Policy = policy(self._state)
        self._timers = Timers()
        self._batches: dict[int, Replica] = {}
        self._num_batches = 0
        self._num_solves = 0
        self._now_s = 0.0
        self._next_plan_s = 0.0
        self._assessed_s = -inf
        self._urgent_s = -inf  # not asked again at once before then
        self._failures: dict[str, tuple[int, float, str]] = {}  # variant -> times, not before, reason
        self._prepared: dict[int, ev.Prepare] = {}  # not answered yet
        self._closing = False
        self._reserved = 0.0
        self._out: list[act.ServingAction] = []
        self._handlers: dict[type[Any], Callable[[Any, float], None]] = {
            ev.QueryArrived: self._on_query,
            ev.QueryCancelled: self._on_cancelled,
            ev.Prepare: self._on_prepare,
            ev.ReplicaReady: self._on_ready,
            ev.ReplicaFailed: self._on_failed,
            ev.ReplicaLost: self._on_lost,
            ev.ReplicaStopped: self._on_stopped,
            ev.BatchDone: self._on_done,
            ev.Solved: self._on_solved,
            ev.HostJoined: self._on_host,
            ev.HostLost: self._on_host_lost,
            ev.ProfilesChanged: self._on_profiles,
            ev.Close: self._on_close,
            ev.Tick: lambda event, now_s: None,
        }

    @property
    def transit(self) -> Transit:
        """What queries have shown of their way to replicas and back."""
        return self._state.selector.transit

    # -- the two calls of a driver -------------------------------------------------------------------------------

    def step(self, event: ev.ServingEvent, now_s: float) -> list[act.ServingAction]:
        """What is to be done now that this has happened."""
        self._now_s = max(self._now_s, now_s)
        self._handlers[type(event)](event, self._now_s)
        self._ring(self._now_s)
        self._tell_prepared()
        self._dispatch(self._now_s)
        self._assess(self._now_s)
        self._scale(self._now_s)
        out, self._out = self._out, []
        return out

    def next_deadline_s(self) -> float | None:
        """When to call `step` with Tick, should nothing happen before; None: not before something happens."""
        times = [self._timers.next_s()]
        if self._state.waiting.pending or self._state.fleet.replicas or self._prepared or self._policy.eager:
            times.append(self._next_plan_s)
        known = [time for time in times if time is not None and not self.closed]
        return min(known) if known else None

    # -- what can be seen from outside ---------------------------------------------------------------------------

    @property
    def num_pending(self) -> int:
        """Queries that are neither answered nor refused."""
        return len(self._state.waiting.pending)

    @property
    def closed(self) -> bool:
        """Whether all has ended that was ever begun."""
        return self._closing and not self._state.waiting.pending and not self._state.fleet.replicas

    def replicas(self) -> list[ReplicaStatus]:
        """All that hold cores."""
        return [
            ReplicaStatus(
                replica.name,
                replica.offer.name,
                replica.host,
                replica.cores,
                replica.state,
                replica.health.slowdown,
                replica.num_served,
            )
            for replica in self._state.fleet.replicas.values()
        ]

    def reserved_cost(self, now_s: float) -> float:
        """Core-seconds (or their price) that replicas have held, from being told to load until they were gone."""
        running = sum(
            (now_s - replica.started_at_s) * replica.offer.cost_per_s for replica in self._state.fleet.replicas.values()
        )
        return self._reserved + running

    def validate(self) -> None:
        """Raises LlamapipeError where an invariant is broken; tests call it after every step."""
        self._state.fleet.validate()
        for batch_id, replica in self._batches.items():
            if replica.batch is None or replica.batch.batch_id != batch_id:
                raise LlamapipeError(f"batch {batch_id} is not with {replica.name}")
        out: dict[int, int] = {}
        for replica in self._batches.values():
            assert replica.batch is not None
            for part in replica.batch.parts:
                out[part.query_id] = out.get(part.query_id, 0) + part.count
        for query_id, pending in self._state.waiting.pending.items():
            held = (pending.num_todo, pending.num_out, pending.num_done)
            if sum(held) != pending.query.num_items or pending.num_out != out.get(query_id, 0):
                raise LlamapipeError(f"query {query_id}: {held} of {pending.query.num_items} items")
            if pending.ended:
                raise LlamapipeError(f"query {query_id} has ended and is kept")

    # -- events --------------------------------------------------------------------------------------------------

    def _on_query(self, event: ev.QueryArrived, now_s: float) -> None:
        if self._closing:
            self._out.append(act.Refuse(event.query_id, "closed", "serving has ended"))
            return
        arrived_s = now_s if event.arrived_at_s is None else min(event.arrived_at_s, now_s)
        admission = self._policy.admit(event.query, now_s)
        if admission.code:
            self._out.append(act.Refuse(event.query_id, admission.code, admission.reason, admission.nearest))
            return
        pending = self._queue(event, admission, arrived_s)
        self._policy.arrived(event.query, admission.names, now_s)
        pending.group.arrived(event.query.num_items, now_s)
        self._watch(pending, now_s)

    def _on_prepare(self, event: ev.Prepare, now_s: float) -> None:
        if self._closing:
            self._out.append(act.Refuse(event.query_id, "closed", "serving has ended"))
            return
        admission = self._policy.admit(event.query, now_s)
        if admission.code:
            self._out.append(act.Refuse(event.query_id, admission.code, admission.reason, admission.nearest))
            return
        until_s = now_s + event.hold_s
        self._policy.prepare(event.query, admission.names, event.items_per_s, until_s, now_s)
        self._prepared[event.query_id] = event
        self._state.prepared[event.query_id] = admission.names

    def _on_cancelled(self, event: ev.QueryCancelled, now_s: float) -> None:
        self._prepared.pop(event.query_id, None)
        self._state.prepared.pop(event.query_id, None)
        pending = self._state.waiting.pending.get(event.query_id)
        if pending is not None:
            self._state.waiting.end(pending, QueryState.CANCELLED)

    def _on_ready(self, event: ev.ReplicaReady, now_s: float) -> None:
        replica = self._state.fleet.replicas.get(event.replica)
        if replica is None or replica.state is not VariantState.LOADING:
            return
        replica.machine.to(VariantState.ACTIVE)
        replica.used_at_s = now_s
        self._failures.pop(replica.offer.name, None)
        self._stop_if_idle(replica, "no longer needed")

    def _on_failed(self, event: ev.ReplicaFailed, now_s: float) -> None:
        replica = self._state.fleet.replicas.get(event.replica)
        if replica is None:
            return
        self._gone(replica, now_s)
        name = replica.offer.name
        times = self._failures.get(name, (0, 0.0, ""))[0] + 1
        self._failures[name] = (times, now_s + self._plan.backoff_s * 2 ** min(times - 1, _MOST_DOUBLED), event.reason)
        # One more of a variant that serves may fail for want of memory: that says nothing against those that are there.
        serves = any(other.offer.name == name for other in self._state.fleet.serving())
        if times >= self._plan.max_load_failures and not serves:
            self._state.selector.reject(name, f"cannot be loaded: {event.reason}")
            self._readmit(now_s)
        else:
            self._state.not_before_s[name] = self._failures[name][1]
            self._timers.add(self._failures[name][1], "plan", "", 0)

    def _on_lost(self, event: ev.ReplicaLost, now_s: float) -> None:
        replica = self._state.fleet.replicas.get(event.replica)
        if replica is not None:
            self._gone(replica, now_s)

    def _on_stopped(self, event: ev.ReplicaStopped, now_s: float) -> None:
        replica = self._state.fleet.replicas.get(event.replica)
        if replica is not None:
            self._gone(replica, now_s)

    def _on_done(self, event: ev.BatchDone, now_s: float) -> None:
        replica = self._batches.pop(event.batch_id, None)
        if replica is None or replica.batch is None:
            return  # of a replica that is gone: its items were given to others
        batch, replica.batch = replica.batch, None
        if batch.parts:
            replica.used_at_s = now_s
        if not event.failed:
            if (
                replica.num_served
            ):  # libraries prepare for pictures of a size when the first comes: it says nothing of others
                replica.health.observe(event.seconds, replica.offer.median_s[batch.size], now_s)
                self._judge(replica, now_s)
                self._state.selector.seems(replica.offer.name, replica.host, replica.health.normal.level)
            self._travelled(batch, event.seconds, now_s)
        place = 0
        for part in batch.parts:
            failed = {
                part.first + position - place: event.failed[position]
                for position in range(place, place + part.count)
                if position in event.failed
            }
            place += part.count
            self._part_done(part, failed, replica, batch, now_s)
        replica.num_served += place - len(event.failed)
        self._stop_if_idle(replica, "no longer needed")

    def _travelled(self, batch: Batch, seconds: float, now_s: float) -> None:
        """Learn from a query of one item that was sent as it arrived what it takes beside its invocation."""
        if len(batch.parts) != 1 or batch.size != 1:
            return
        pending = self._state.waiting.pending.get(batch.parts[0].query_id)
        if pending is None or pending.queued_at_s != batch.sent_at_s:
            return
        self._state.selector.travelled(max(now_s - pending.arrived_at_s - seconds, 0.0))

    def _part_done(self, part: act.Part, failed: dict[int, str], replica: Replica, batch: Batch, now_s: float) -> None:
        pending = self._state.waiting.pending.get(part.query_id)
        if pending is None:
            return  # refused or cancelled meanwhile
        pending.num_out -= part.count
        done = part.count - len(failed)
        pending.num_done += done
        pending.cost += done * replica.offer.cost(batch.size)
        self._policy.served(replica.offer, done, now_s - pending.arrived_at_s, now_s)
        for item, reason in failed.items():
            pending.attempts[item] = pending.attempts.get(item, 0) + 1
            if pending.attempts[item] >= self._plan.max_attempts:
                self._refuse(pending, "failed", f"item {item} failed {pending.attempts[item]} times: {reason}")
                return
        if failed:
            self._state.waiting.give_back(pending, failed)
        elif pending.num_done == pending.query.num_items:
            self._answer(pending, replica, now_s)

    def _on_solved(self, event: ev.Solved, now_s: float) -> None:
        self._carry_out(self._policy.solved(event.solution, now_s), now_s)

    def _on_host(self, event: ev.HostJoined, now_s: float) -> None:
        self._state.fleet.add_host(Host(event.host, event.cores, event.memory_bytes))
        self._next_plan_s = now_s

    def _on_host_lost(self, event: ev.HostLost, now_s: float) -> None:
        for replica in self._state.fleet.remove_host(event.host):
            self._gone(replica, now_s)
        self._readmit(now_s)

    def _on_profiles(self, event: ev.ProfilesChanged, now_s: float) -> None:
        self._state.selector.update(event.profiles, event.removed)
        self._readmit(now_s)

    def _on_close(self, event: ev.Close, now_s: float) -> None:
        self._closing = True
        for query_id in self._prepared:
            self._out.append(act.Refuse(query_id, "closed", "serving has ended"))
        self._prepared.clear()
        self._state.prepared.clear()
        if event.now:
            for pending in list(self._state.waiting.pending.values()):
                self._refuse(pending, "closed", "serving has ended")

    # -- queries -------------------------------------------------------------------------------------------------

    def _queue(self, event: ev.QueryArrived, admission: Admission, arrived_s: float) -> Pending:
        query = event.query
        group = self._state.waiting.group(admission.names, query.max_cost, offline=query.offline)
        return self._state.waiting.add(
            event.query_id,
            query,
            group,
            arrived_at_s=arrived_s,
            now_s=self._now_s,
            patience_s=self._plan.patience_s,
            why=admission.why,
        )

    def _tell_prepared(self) -> None:
        for query_id, event in list(self._prepared.items()):
            names = self._state.prepared[query_id]
            ready = self._state.fleet.of(names, loading=False)
            # Held for as long as was asked from when it is there: loading may take longer than that.
            hold_s = event.hold_s if ready else max(event.hold_s, self._plan.linger_s)
            self._policy.prepare(event.query, names, event.items_per_s, self._now_s + hold_s, self._now_s)
            if ready:
                del self._prepared[query_id], self._state.prepared[query_id]
                self._out.append(act.Answer(query_id, ready[0].offer.name, "it is loaded", 0.0))

    def _answer(self, pending: Pending, replica: Replica, now_s: float) -> None:
        self._state.waiting.end(pending, QueryState.ANSWERED)
        late = now_s > pending.deadline_s + 1e-9
        why = pending.why
        if pending.num_lost:
            why += f"; served again after {pending.num_lost} of its replicas went away"
        self._out.append(
            act.Answer(
                pending.query_id,
                replica.offer.name,
                why,
                now_s - pending.arrived_at_s,
                late,
                pending.cost / pending.query.num_items,
            )
        )

    def _refuse(self, pending: Pending, code: str, reason: str, nearest: act.Nearest | None = None) -> None:
        self._state.waiting.end(pending, QueryState.REFUSED)
        self._out.append(act.Refuse(pending.query_id, code, reason, nearest))

    def _readmit(self, now_s: float) -> None:
        """What may be chosen has changed: look again who can serve those that wait."""
        for query_id, event in list(self._prepared.items()):
            admission = self._policy.admit(event.query, now_s)
            self._state.prepared[query_id] = admission.names
            if admission.code:
                del self._prepared[query_id], self._state.prepared[query_id]
                self._out.append(act.Refuse(query_id, "failed", admission.reason, admission.nearest))
        for pending in list(self._state.waiting.pending.values()):
            admission = self._policy.admit(pending.query, now_s)
            if admission.code and not pending.num_out:
                code = "failed" if admission.code == "unknown" else admission.code
                self._refuse(pending, code, admission.reason, admission.nearest)
            elif not admission.code:
                query = pending.query
                group = self._state.waiting.group(admission.names, query.max_cost, offline=query.offline)
                if group is not pending.group:
                    self._state.waiting.move(pending, group)

    def _watch(self, pending: Pending, now_s: float) -> None:
        """Look again when the last moment has come to begin with it, or refuse it now."""
        if not self._policy.sheds or pending.deadline_s == inf or pending.excused or not pending.todo:
            return
        begin_s = last_moment_s(pending, self._state)
        if begin_s > now_s:
            self._timers.add(begin_s, "query", "", pending.query_id)
        else:
            self._refuse(pending, *why_late(pending, self._state, now_s))

    # -- replicas ------------------------------------------------------------------------------------------------

    def _start(self, offer: Offer, host: str, now_s: float) -> None:
        replica = self._state.fleet.start(offer, host, now_s)
        self._timers.add(now_s + max(_LOAD_FLOOR_S, _LOAD_FACTOR * offer.load_s), "load", replica.name, 0)
        self._out.append(act.StartReplica(replica.name, offer.name, replica.host, replica.cores, offer.memory_bytes))

    def _stop(self, replica: Replica, reason: str) -> None:
        replica.stopping = True
        self._stop_if_idle(replica, reason)

    def _stop_if_idle(self, replica: Replica, reason: str) -> None:
        loaded = replica.state not in (VariantState.LOADING, VariantState.UNLOADING)
        if replica.stopping and loaded and replica.batch is None and not replica.told:
            replica.told = True
            replica.machine.to(VariantState.UNLOADING)
            self._out.append(act.StopReplica(replica.name, reason))

    def _kill(self, replica: Replica, reason: str) -> None:
        if not replica.told:
            replica.told = True
            self._out.append(act.KillReplica(replica.name, reason))

    def _gone(self, replica: Replica, now_s: float) -> None:
        """Its cores are free, and what it worked on waits again."""
        self._reserved += (now_s - replica.started_at_s) * replica.offer.cost_per_s
        batch, replica.batch = replica.batch, None
        self._state.fleet.end(replica)
        if batch is None:
            return
        del self._batches[batch.batch_id]
        for part in batch.parts:
            pending = self._state.waiting.pending.get(part.query_id)
            if pending is None:
                continue
            pending.num_out -= part.count
            pending.num_lost += 1
            if pending.num_lost >= self._plan.max_attempts:
                self._refuse(pending, "failed", f"{pending.num_lost} replicas went away while they worked on it")
            else:
                self._state.waiting.give_back(pending, range(part.first, part.first + part.count))
        known = self._state.selector.offers
        if any(
            (pending := self._state.waiting.pending.get(part.query_id)) is not None
            and not any(name in known for name in pending.group.names)
            for part in batch.parts
        ):
            self._readmit(now_s)  # what served it is no choice any more

    def _judge(self, replica: Replica, now_s: float) -> None:
        """Bring its state in line with its health."""
        if replica.state in (VariantState.LOADING, VariantState.UNLOADING):
            return
        interfered = replica.state is VariantState.INTERFERED
        if replica.health.interfered and not interfered:
            replica.machine.to(VariantState.INTERFERED)
            self._state.fleet.trouble(replica, now_s)
            self._timers.add(now_s + self._probe_gap_s(replica), "probe", replica.name, 0)
        elif interfered and not replica.health.interfered:
            replica.machine.to(VariantState.ACTIVE)

    def _probe_gap_s(self, replica: Replica) -> float:
        """So seldom that probing takes a fifth of its time at most."""
        return max(_PROBE_GAP_S, 5 * replica.offer.median_s[1] * replica.health.slowdown)

    def _probe(self, replica: Replica, now_s: float) -> None:
        """See whether an interfered replica is as fast as it was, unless queries show it anyway."""
        if replica.state is not VariantState.INTERFERED or replica.told:
            return
        gap_s = self._probe_gap_s(replica)
        if replica.batch is None and now_s >= replica.health.last_s + gap_s - 1e-9:
            self._num_batches += 1
            expected_s = replica.offer.p95_s[1] * replica.health.slowdown
            replica.batch = Batch(self._num_batches, (), 1, now_s, expected_s)
            self._batches[self._num_batches] = replica
            self._timers.add(now_s + max(_HANG_FLOOR_S, _HANG_FACTOR * expected_s), "batch", "", self._num_batches)
            self._out.append(act.Probe(self._num_batches, replica.name))
        self._timers.add(now_s + gap_s, "probe", replica.name, 0)

    def _assess(self, now_s: float) -> None:
        """Which variants have more to do than they were measured to serve."""
        if now_s < self._assessed_s + _ASSESS_GAP_S:
            return
        self._assessed_s = now_s
        fleet = self._state.fleet
        over: set[str] = set()
        for group in self._state.waiting.groups.values():
            if group.num_waiting and not group.offline:
                replicas = fleet.of(group.names, loading=False)
                if replicas and group.exceeds(now_s, [(r.offer, r.health.slowdown) for r in replicas]):
                    over.update(replica.name for replica in replicas)
        for replica in fleet.replicas.values():
            if replica.state is VariantState.ACTIVE and replica.name in over:
                replica.machine.to(VariantState.OVERLOADED)
            elif replica.state is VariantState.OVERLOADED and replica.name not in over:
                replica.machine.to(VariantState.ACTIVE)

    # -- time ----------------------------------------------------------------------------------------------------

    def _ring(self, now_s: float) -> None:
        for kind, name, number in self._timers.due(now_s):
            if kind == "query":
                pending = self._state.waiting.pending.get(number)
                if pending is not None and pending.todo:
                    self._dispatch(now_s)
                    if not pending.ended and pending.todo:
                        self._watch(pending, now_s)
            elif kind == "batch":
                hung = self._batches.get(number)
                if hung is not None:
                    self._kill(hung, "it does not answer")
            elif kind == "overdue":
                late = self._batches.get(number)
                if late is not None and late.batch is not None:
                    elapsed_s = now_s - late.batch.sent_at_s
                    if late.health.overdue(elapsed_s, late.offer.p95_s[late.batch.size], now_s):
                        self._judge(late, now_s)
            elif kind == "probe":
                interfered = self._state.fleet.replicas.get(name)
                if interfered is not None:
                    self._probe(interfered, now_s)
            elif kind == "load":
                loading = self._state.fleet.replicas.get(name)
                if loading is not None and loading.state is VariantState.LOADING:
                    self._kill(loading, "it does not come up")
            elif kind == "plan":
                self._next_plan_s = now_s

    # -- dispatch ------------------------------------------------------------------------------------------------

    def _dispatch(self, now_s: float) -> None:
        groups = [group for group in self._state.waiting.groups.values() if group.num_waiting]
        if not groups:
            return
        idle = [
            replica
            for replica in self._state.fleet.serving()
            if replica.batch is None and any(replica.offer.name in group.names for group in groups)
        ]
        for replica in self._policy.order(idle) if len(idle) > 1 else idle:
            taken = form_batch(
                self._state, self._policy, replica, [group for group in groups if group.num_waiting], len(idle), now_s
            )
            if taken is not None:
                self._send(replica, taken, now_s)

    def _send(self, replica: Replica, taken: list[tuple[Pending, int, int]], now_s: float) -> None:
        self._num_batches += 1
        size = sum(end - first for _, first, end in taken)
        expected_s = replica.offer.p95_s[size] * replica.health.slowdown
        parts = tuple(act.Part(pending.query_id, first, end - first) for pending, first, end in taken)
        offline = all(pending.query.offline for pending, _, _ in taken)
        replica.batch = Batch(self._num_batches, parts, size, now_s, expected_s, offline)
        self._batches[self._num_batches] = replica
        self._timers.add(now_s + max(_HANG_FLOOR_S, _HANG_FACTOR * expected_s), "batch", "", self._num_batches)
        if not replica.health.interfered:
            overdue_s = replica.health.overdue_after_s(replica.offer.p95_s[size])
            self._timers.add(now_s + overdue_s, "overdue", "", self._num_batches)
        deadline_s = min(pending.deadline_s for pending, _, _ in taken)
        self._out.append(act.Serve(self._num_batches, replica.name, parts, None if deadline_s == inf else deadline_s))

    # -- scaling -------------------------------------------------------------------------------------------------

    def _scale(self, now_s: float) -> None:
        if self._closing and not self._state.waiting.pending:
            for replica in list(self._state.fleet.replicas.values()):
                self._stop(replica, "serving has ended")
            return
        urgent = now_s > self._urgent_s and (self._state.unmet() or self._policy.pressed(now_s))
        if urgent or now_s >= self._next_plan_s:
            if urgent:
                self._urgent_s = now_s + _URGENT_GAP_S
                self._carry_out(self._policy.scale(now_s, urgent=True), now_s)
            if now_s >= self._next_plan_s:
                self._next_plan_s = now_s + self._plan.period_s
                self._carry_out(self._policy.scale(now_s, urgent=False), now_s)

    def _carry_out(self, moves: Moves, now_s: float) -> None:
        for replica, reason in moves.stop:
            self._stop(replica, reason)
        for offer, host in moves.start:
            if now_s < self._failures.get(offer.name, (0, 0.0, ""))[1]:
                continue
            room = self._state.fleet.room(offer, host)
            if room is not None:
                self._start(offer, room, now_s)
        if moves.problem is not None:
            self._num_solves += 1
            self._out.append(act.Solve(self._num_solves, moves.problem))
