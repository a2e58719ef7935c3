"""Serving under random orders of events: no query lost or answered twice, no limit broken, decisions that replay."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamapipe.catalog import Floor, Query
from llamapipe.control.serving import Host, ServingController, ServingPlan, StaticPlan
from llamapipe.control.serving import actions as act
from llamapipe.control.serving import events as ev
from llamapipe.control.serving.program import greedy, solve
from tests.control.serving.profiles import name, profile
from tests.examples import examples

_PROFILES = (
    profile("s", 0.01, agreement=0.7, memory=100),
    profile("m", 0.03, agreement=0.9, memory=300),
    profile("m", 0.02, threads=2, agreement=0.9, memory=400),
    profile("l", 0.3, threads=2, agreement=0.95, memory=500, batches=(1,)),
    profile("huge", 0.001, agreement=1.0, memory=5000),
    profile("face", 0.005, task="faces", memory=200),
)
_HOSTS = (Host("one", (0, 1), 600), Host("two", (4, 7, 8), 900))


@st.composite
def queries(draw: st.DrawFn) -> Query:
    asks = draw(st.sampled_from(["task", "model", "variant", "other"]))
    return Query(
        task={"task": "people", "other": "faces"}.get(asks),
        model=draw(st.sampled_from(["m", "none"])) if asks == "model" else None,
        variant=name("m", 2) if asks == "variant" else None,
        num_items=draw(st.sampled_from([1, 1, 1, 3, 20])),
        latency_s=draw(st.sampled_from([None, 0.005, 0.05, 0.5, 5.0])),
        accuracy=draw(st.sampled_from([None, Floor(0.8), Floor(0.95)])),
        max_cost=draw(st.sampled_from([None, 0.001, 0.04])),
        offline=draw(st.integers(0, 4)) == 0,
    )


class Driver:
    """Does what it is told whenever the test says so, and notes whatever must never happen."""

    def __init__(self, plan: ServingPlan) -> None:
        self.control = ServingController(plan, _PROFILES)
        self.now_s = 0.0
        self.asked: dict[int, Query] = {}
        self.ended: Counter[int] = Counter()
        self.cancelled: set[int] = set()
        self.loading: list[str] = []
        self.batches: dict[int, tuple[str, int]] = {}  # batch -> (replica, size)
        self.ending: list[tuple[str, bool]] = []  # (replica, by force)
        self.solves: list[act.Solve] = []
        self.held: dict[str, act.StartReplica] = {}
        self.hosts = {host.name: host for host in plan.hosts}
        self.log: list[tuple[ev.ServingEvent, float]] = []
        self.said: list[list[act.ServingAction]] = []
        self.items: Counter[tuple[int, int]] = Counter()  # items that are with a replica

    def tell(self, event: ev.ServingEvent) -> None:
        actions = self.control.step(event, self.now_s)
        self.log.append((event, self.now_s))
        self.said.append(actions)
        for action in actions:
            self.do(action)
        self.control.validate()
        self.check()

    def do(self, action: act.ServingAction) -> None:
        if isinstance(action, act.StartReplica):
            assert action.replica not in self.held
            self.held[action.replica] = action
            self.loading.append(action.replica)
        elif isinstance(action, (act.Serve, act.Probe)):
            assert action.replica in self.held, "work for a replica that is not there"
            assert action.replica not in self.loading, "work for a replica that is not loaded"
            assert all(replica != action.replica for replica, _ in self.batches.values()), "two batches at once"
            size = action.batch if isinstance(action, act.Probe) else sum(part.count for part in action.parts)
            profiled = next(p for p in _PROFILES if p.variant.name == self.held[action.replica].variant)
            assert 1 <= size <= profiled.max_batch
            if isinstance(action, act.Serve):
                for part in action.parts:
                    assert part.query_id not in self.cancelled
                    assert not self.ended[part.query_id]
                    query = self.asked[part.query_id]
                    if query.accuracy is not None:
                        assert profiled.accuracy[0].value >= query.accuracy.value
                    if query.max_cost is not None:
                        assert profiled.core_s_per_item(size) <= query.max_cost * (1 + 1e-6)
                    assert query.model in (None, profiled.variant.model)
                    assert query.task is None or query.task in profiled.tasks
            self.batches[action.batch_id] = (action.replica, size)
        elif isinstance(action, act.StopReplica):
            assert all(replica != action.replica for replica, _ in self.batches.values()), "stopped at work"
            self.ending.append((action.replica, False))
        elif isinstance(action, act.KillReplica):
            self.ending.append((action.replica, True))
        elif isinstance(action, act.Solve):
            self.solves.append(action)
        else:
            assert action.query_id in self.asked
            assert action.query_id not in self.cancelled
            self.ended[action.query_id] += 1
            assert self.ended[action.query_id] == 1, "answered twice"

    def check(self) -> None:
        for host in self.hosts.values():
            here = [start for start in self.held.values() if start.host == host.name]
            cores = [core for start in here for core in start.cores]
            assert len(cores) == len(set(cores))
            assert set(cores) <= set(host.cores)
            assert sum(start.memory_bytes for start in here) <= host.memory_bytes

    def gone(self, replica: str) -> None:
        del self.held[replica]
        self.loading = [name for name in self.loading if name != replica]
        self.ending = [(name, force) for name, force in self.ending if name != replica]
        self.batches = {batch: held for batch, held in self.batches.items() if held[0] != replica}

    def loaded(self, *, fails: bool) -> None:
        if not self.loading:
            return
        replica = self.loading.pop(0)
        if fails:
            self.gone(replica)
            self.tell(ev.ReplicaFailed(replica, "corrupt"))
        else:
            self.tell(ev.ReplicaReady(replica, 0.2))

    def done(self, slowdown: float, failing: bool, last: bool) -> None:
        if not self.batches:
            return
        batch_id = sorted(self.batches)[-1 if last else 0]
        _, size = self.batches.pop(batch_id)
        self.tell(ev.BatchDone(batch_id, 0.01 * size * slowdown, {size - 1: "broken"} if failing else {}))

    def lost(self, pick: int) -> None:
        if self.held:
            replica = sorted(self.held)[pick % len(self.held)]
            self.gone(replica)
            self.tell(ev.ReplicaLost(replica, "killed"))

    def end_one(self) -> None:
        if self.ending:
            replica, force = self.ending[0]
            self.gone(replica)
            self.tell(ev.ReplicaLost(replica, "killed") if force else ev.ReplicaStopped(replica))

    def solved(self, how: str) -> None:
        if self.solves:
            solve_id, problem = self.solves[0].solve_id, self.solves.pop(0).problem
            self.tell(ev.Solved(solve_id, None if how == "none" else greedy(problem)))

    def settle(self) -> None:
        """Everything ends, if only it is given the time."""
        self.tell(ev.Close())
        for _ in range(3000):
            if self.control.closed:
                return
            if self.solves:
                self.solved("greedy")
            elif self.loading:
                self.loaded(fails=False)
            elif self.batches:
                self.done(1.0, False, False)
            elif self.ending:
                self.end_one()
            else:
                due_s = self.control.next_deadline_s()
                assert due_s is not None, "nothing will ever happen"
                self.now_s = max(self.now_s, due_s)
                self.tell(ev.Tick())
        raise AssertionError(f"{self.control.num_pending} queries never end: {self.control.replicas()}")


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("query"), queries()),
        st.tuples(st.just("query"), queries()),
        st.tuples(st.just("query"), st.just(Query(task="people", latency_s=0.5, accuracy=Floor(0.8)))),
        st.tuples(st.just("prepare"), queries()),
        st.tuples(st.just("loaded"), st.booleans()),
        st.tuples(st.just("loaded"), st.just(False)),
        st.tuples(st.just("done"), st.tuples(st.sampled_from([1.0, 1.0, 5.0]), st.booleans(), st.booleans())),
        st.tuples(st.just("done"), st.just((1.0, False, False))),
        st.tuples(st.just("lost"), st.integers(0, 5)),
        st.tuples(st.just("stopped"), st.none()),
        st.tuples(st.just("solved"), st.sampled_from(["greedy", "greedy", "none"])),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("host lost"), st.none()),
        st.tuples(st.just("profiles"), st.sampled_from(_PROFILES)),
        st.tuples(st.just("wait"), st.sampled_from([0.01, 0.2, 1.0, 12.0])),
        st.tuples(st.just("tick"), st.none()),
    ),
    max_size=60,
)


@pytest.mark.parametrize("policy", ["llamapipe", "infaas", "static"])
@settings(max_examples=examples(120), deadline=None)
@given(steps=_STEPS)
def test_every_query_ends_once_and_no_limit_is_broken(policy: str, steps: list[tuple[str, object]]) -> None:
    static = StaticPlan({name("m"): 2, name("face"): 1})
    plan = ServingPlan(_HOSTS, policy=policy, static=static, scale_down_s=1.0, linger_s=3.0)
    driver = Driver(plan)
    for kind, value in steps:
        if kind in ("query", "prepare"):
            number = len(driver.asked)
            driver.asked[number] = value
            driver.tell(ev.QueryArrived(number, value) if kind == "query" else ev.Prepare(number, value))
        elif kind == "loaded":
            driver.loaded(fails=value)
        elif kind == "done":
            driver.done(*value)
        elif kind == "lost":
            driver.lost(value)
        elif kind == "stopped":
            driver.end_one()
        elif kind == "solved":
            driver.solved(value)
        elif kind == "cancel":
            if value in driver.asked and not driver.ended[value]:
                driver.cancelled.add(value)
                driver.tell(ev.QueryCancelled(value))
        elif kind == "host lost":
            if "two" in driver.hosts and policy != "static":
                del driver.hosts["two"]
                for replica in [name for name, start in driver.held.items() if start.host == "two"]:
                    driver.gone(replica)
                driver.tell(ev.HostLost("two", "unplugged"))
        elif kind == "profiles":
            driver.tell(ev.ProfilesChanged((value,)))
        elif kind == "wait":
            driver.now_s += value
            driver.tell(ev.Tick())
        else:
            due_s = driver.control.next_deadline_s()
            if due_s is not None:
                driver.now_s = max(driver.now_s, due_s)
                driver.tell(ev.Tick())
    driver.settle()
    assert {number: driver.ended[number] for number in driver.asked if number not in driver.cancelled} == {
        number: 1 for number in driver.asked if number not in driver.cancelled
    }
    assert driver.held == {}
    again = ServingController(plan, _PROFILES)
    assert [again.step(event, at_s) for event, at_s in driver.log] == driver.said


@settings(max_examples=examples(40), deadline=None)
@given(st.data())
def test_the_program_keeps_to_the_limits_and_is_never_worse_than_the_greedy_one(data: st.DataObject) -> None:
    from llamapipe.control.serving.program import Demand, Option, Problem, Room, keeps

    options = tuple(
        Option(
            f"v{number}",
            data.draw(st.integers(1, 3)),
            data.draw(st.sampled_from([0, 2**20, 2**22])),
            data.draw(st.sampled_from([1.0, 2.5])),
            0.5,
        )
        for number in range(data.draw(st.integers(1, 5)))
    )
    demands = tuple(
        Demand(
            data.draw(st.sampled_from([0.001, 3.0, 40.0])),
            {option.variant: data.draw(st.sampled_from([0.0, 2.0, 25.0])) for option in options},
        )
        for _ in range(data.draw(st.integers(1, 3)))
    )
    problem = Problem(options, demands, (Room("a", 2, 2**23), Room("b", 4, 2**22)))
    exact, quick = solve(problem), greedy(problem)
    assert exact is not None
    assert keeps(problem, exact)
    assert keeps(problem, quick)
    if quick.unserved == 0:
        assert exact.unserved <= 1e-4
        assert exact.cost_per_s <= quick.cost_per_s * 1.01 + 1e-9
