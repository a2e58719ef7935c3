"""What serving does, literally: events in, actions out."""

from __future__ import annotations

import msgspec

from llamapipe.catalog import AccuracyFigure, Floor, Query
from llamapipe.control.serving import Host, ServingController, ServingPlan, StaticPlan
from llamapipe.control.serving import actions as act
from llamapipe.control.serving import events as ev
from llamapipe.control.serving.program import Demand, Option, Problem, Solution, greedy, solve
from tests.control.serving.profiles import name, profile


def controller(*profiles, cores=(0, 1), memory=1000, **more) -> ServingController:
    return ServingController(ServingPlan((Host("local", tuple(cores), memory),), **more), profiles)


def of(kind, actions):
    return [action for action in actions if isinstance(action, kind)]


def served(control, now_s=0.0, **query) -> str:
    """A controller with one replica that is loaded and idle: its name."""
    (start,) = of(act.StartReplica, control.step(ev.QueryArrived(1000, Query(**query)), now_s))
    (serve,) = of(act.Serve, control.step(ev.ReplicaReady(start.replica, 0.1), now_s + 0.1))
    assert of(act.Answer, control.step(ev.BatchDone(serve.batch_id, 0.03), now_s + 0.13))
    return start.replica


def test_a_query_is_served_by_a_replica_that_is_loaded_for_it() -> None:
    control = controller(profile("a"))
    started = control.step(ev.QueryArrived(1, Query(task="people")), 0.0)
    assert of(act.StartReplica, started) == [act.StartReplica("r1", name("a"), "local", (0,), 100)]
    served = control.step(ev.ReplicaReady("r1", 0.3), 0.3)
    assert of(act.Serve, served) == [act.Serve(1, "r1", (act.Part(1, 0, 1),))]
    (answer,) = of(act.Answer, control.step(ev.BatchDone(1, 0.03), 0.33))
    assert (answer.query_id, answer.variant, answer.late) == (1, name("a"), False)


def test_what_no_variant_reaches_is_refused_with_the_nearest() -> None:
    control = controller(profile("a", 0.03, agreement=0.9), profile("b", 0.01, agreement=0.7))
    (refuse,) = control.step(ev.QueryArrived(1, Query(task="people", accuracy=Floor(0.95))), 0.0)
    assert refuse.code == "constraint"
    assert refuse.reason == "task people: the highest agreement is 0.9, 0.95 is asked"
    assert refuse.nearest.variant == name("a")


def test_a_replica_that_is_lost_loses_no_query() -> None:
    control = controller(profile("a"))
    replica = served(control, task="people")
    (serve,) = of(act.Serve, control.step(ev.QueryArrived(1, Query(task="people")), 1.0))
    started = of(act.StartReplica, control.step(ev.ReplicaLost(replica, "killed"), 1.01))
    again = of(act.Serve, control.step(ev.ReplicaReady(started[0].replica), 1.3))
    assert [part.query_id for part in again[0].parts] == [1]
    assert control.step(ev.BatchDone(serve.batch_id, 0.03), 1.31) == []  # the lost one's answer comes too late
    assert len(of(act.Answer, control.step(ev.BatchDone(again[0].batch_id, 0.03), 1.33))) == 1


def test_a_prepared_query_is_told_when_something_is_ready_for_it() -> None:
    control = controller(profile("a"))
    assert of(act.StartReplica, control.step(ev.Prepare(1, Query(task="people", latency_s=0.1)), 0.0))
    assert of(act.Answer, control.step(ev.ReplicaReady("r1"), 0.3)) == [act.Answer(1, name("a"), "it is loaded", 0.0)]


def test_a_replica_slower_than_profiled_is_interfered_and_comes_back_by_probes() -> None:
    control = controller(profile("a", 0.02))
    served(control, task="people")
    now_s = 1.0
    for number in range(3):
        (serve,) = of(act.Serve, control.step(ev.QueryArrived(number, Query(task="people")), now_s))
        control.step(ev.BatchDone(serve.batch_id, 0.05), now_s + 0.05)
        now_s += 0.1
    assert control.replicas()[0].state == "interfered"
    probes = 0
    while control.replicas()[0].state == "interfered" and now_s < 5.0:
        now_s = max(control.next_deadline_s(), now_s)
        for probe in of(act.Probe, control.step(ev.Tick(), now_s)):
            control.step(ev.BatchDone(probe.batch_id, 0.02), now_s + 0.02)
            probes += 1
    assert control.replicas()[0].state == "active"
    assert 2 <= probes <= 12
    assert now_s < 3.0


def test_a_variant_that_cannot_be_loaded_is_refused_with_its_reason_while_others_serve() -> None:
    control = controller(profile("a", 0.01), profile("b", 0.02), max_load_failures=1)
    control.step(ev.QueryArrived(1, Query(model="a")), 0.0)
    (refuse,) = of(act.Refuse, control.step(ev.ReplicaFailed("r1", "the file is corrupt"), 0.1))
    assert (refuse.code, "the file is corrupt" in refuse.reason) == ("failed", True)
    assert of(act.StartReplica, control.step(ev.QueryArrived(2, Query(task="people")), 0.2))[0].variant == name("b")


def test_a_query_that_would_be_late_is_refused_before_it_is_late() -> None:
    control = controller(profile("a", 0.03, load_s=5.0))
    refused = control.step(ev.QueryArrived(1, Query(task="people", latency_s=0.1)), 0.0)
    assert of(act.StartReplica, refused)  # for the next one
    (refuse,) = of(act.Refuse, refused) or of(act.Refuse, control.step(ev.Tick(), 0.1))
    assert refuse.code == "cold"
    assert refuse.nearest.latency_s > 5.0


def test_offline_items_wait_while_a_query_could_come_that_they_would_make_late() -> None:
    control = controller(profile("a", 0.1), cores=(0,))
    served(control, task="people", latency_s=0.5)
    (serve,) = of(act.Serve, control.step(ev.QueryArrived(2, Query(task="people", num_items=50, offline=True)), 1.0))
    assert (
        sum(part.count for part in serve.parts) == 3
    )  # 0.308 s (p95): 0.5 s less the 0.11 s that the query itself takes
    both = control.step(ev.QueryArrived(3, Query(task="people", latency_s=0.5)), 1.1)
    assert of(act.Serve, both) == []
    after = of(act.Serve, control.step(ev.BatchDone(serve.batch_id, 0.28), 1.28))
    assert [part.query_id for part in after[0].parts] == [3]


def test_max_cost_is_kept_by_the_batch_that_serves() -> None:
    control = controller(profile("a", 0.03), profile("b", 0.05))
    (refuse,) = of(act.Refuse, control.step(ev.QueryArrived(1, Query(task="people", max_cost=0.02)), 0.0))
    assert refuse.reason == "task people: the cheapest costs 0.03 an item"
    started = of(act.StartReplica, control.step(ev.QueryArrived(2, Query(task="people", max_cost=0.04)), 0.0))
    assert started[0].variant == name("a")


def test_what_has_waited_for_long_is_still_served() -> None:
    control = controller(profile("a"), cores=(0,), linger_s=1.0, scale_down_s=0.5)
    replica = served(control, task="people")
    control.step(ev.QueryArrived(1, Query(task="people", num_items=1, offline=True)), 1.0)
    control.step(ev.QueryArrived(2, Query(task="people")), 1.01)
    again = of(act.StartReplica, control.step(ev.ReplicaLost(replica, "killed"), 30.0))
    assert [start.variant for start in again] == [name("a")]


def test_a_query_that_is_cheap_enough_only_in_one_batch_is_not_split() -> None:
    control = controller(profile("a", 0.03, saves=0.5))
    query = Query(task="people", num_items=8, max_cost=0.017)  # 0.0169 an item in a batch of 8, 0.019 in one of 4
    control.step(ev.Prepare(1, Query(task="people"), items_per_s=60.0), 0.0)
    for action in of(act.StartReplica, control.step(ev.Prepare(2, Query(task="people"), items_per_s=60.0), 0.05)):
        control.step(ev.ReplicaReady(action.replica), 0.3)
    for status in control.replicas():
        control.step(ev.ReplicaReady(status.name), 0.3)
    (serve,) = of(act.Serve, control.step(ev.QueryArrived(3, query), 0.5))
    assert serve.parts == (act.Part(3, 0, 8),)
    (answer,) = of(act.Answer, control.step(ev.BatchDone(serve.batch_id, 0.135), 0.635))
    assert answer.cost <= 0.017


def test_a_query_without_items_is_refused() -> None:
    (refuse,) = of(
        act.Refuse, controller(profile("a")).step(ev.QueryArrived(1, Query(task="people", num_items=0)), 0.0)
    )
    assert refuse.reason == "a query has at least one item, this has 0"


def test_a_floor_is_held_against_the_figure_of_the_task_that_is_asked_for() -> None:
    """A detector of many things may be the best at one of them and poor at another."""
    figures = tuple(
        AccuracyFigure("agreement", value, "clip", "agreement", task=task)
        for task, value in (("people", 0.7), ("cars", 0.95))
    )
    both = msgspec.structs.replace(profile("a", accuracy=figures), tasks=("people", "cars"))
    control = controller(both)
    (refuse,) = control.step(ev.QueryArrived(1, Query(task="people", accuracy=Floor(0.9))), 0.0)
    assert refuse.reason == "task people: the highest agreement is 0.7, 0.9 is asked"
    assert of(act.StartReplica, control.step(ev.QueryArrived(2, Query(task="cars", accuracy=Floor(0.9))), 0.0))


def one_after_the_other(control, *, at_once: int, until_s: float, latencies_s=(0.2,)) -> tuple[int, int]:
    """So many who ask again as soon as they are answered, for as long: (queries answered, replicas in the end)."""
    now_s, number = 0.0, 0
    running: list[tuple[float, int]] = []
    loading: dict[str, float] = {}
    asking: list[int] = []
    solving: list[act.Solve] = []

    def query() -> Query:
        return Query(task="people", latency_s=latencies_s[number % len(latencies_s)])

    def take(actions) -> None:
        for action in actions:
            if isinstance(action, act.StartReplica):
                loading[action.replica] = now_s + 0.3
            elif isinstance(action, act.Serve):
                running.append((now_s + 0.03, action.batch_id))
            elif isinstance(action, act.Answer):
                asking.append(action.query_id)
            elif isinstance(action, act.Solve):
                solving.append(action)

    take(control.step(ev.Prepare(0, query()), now_s))
    while now_s < until_s:
        now_s += 0.01
        for replica in [replica for replica, ready_s in loading.items() if ready_s <= now_s]:
            del loading[replica]
            take(control.step(ev.ReplicaReady(replica, 0.3), now_s))
        for done in [done for done in running if done[0] <= now_s]:
            running.remove(done)
            take(control.step(ev.BatchDone(done[1], 0.03), now_s))
        if asking == [0]:  # it is prepared
            asking += [0] * (at_once - 1)
        while asking:
            asking.pop()
            number += 1
            take(control.step(ev.QueryArrived(number, query()), now_s))
        take(control.step(ev.Tick(), now_s))
        while solving:
            asked = solving.pop()
            take(control.step(ev.Solved(asked.solve_id, solve(asked.problem), 0.005), now_s))
    return number, len(control.replicas())


def test_nothing_is_started_for_those_who_never_wait() -> None:
    """Who asks again when he has his answer keeps a replica busy all the time, and has nothing of a second one."""
    for at_once in (1, 2):
        control = controller(profile("a", batches=(1,)), cores=range(4))
        answered, replicas = one_after_the_other(control, at_once=at_once, until_s=5.0)
        assert answered > at_once * 100
        assert (replicas > 1) == (at_once > 1)


def test_one_who_asks_in_several_ways_is_not_counted_several_times() -> None:
    control = controller(profile("a", batches=(1,)), cores=range(4))
    answered, replicas = one_after_the_other(control, at_once=1, until_s=5.0, latencies_s=(0.06, 0.07, 0.08))
    assert answered > 100
    assert replicas == 1


def test_the_program_is_solved_again_only_when_what_it_looks_at_has_changed() -> None:
    control = controller(profile("a", 0.03, batches=(1,)), profile("b", 0.02, batches=(1,)), cores=range(4))
    served(control, task="people", latency_s=0.5)
    solved = 0
    for tick in range(1, 20):
        for asked in of(act.Solve, control.step(ev.Tick(), float(tick))):
            solved += 1
            control.step(ev.Solved(asked.solve_id, greedy(asked.problem), 0.005), tick + 0.005)
    assert solved <= 2


def test_a_solution_that_comes_late_is_not_taken_for_that_of_a_later_problem() -> None:
    """The solver may take longer than the time between two ticks."""
    control = controller(profile("a", 0.03, batches=(1,)), cores=range(4))
    policy = control._policy
    one, two = (Problem((Option(name, 1, 0, 1.0, 0.5),), (Demand(5, {name: 10}),), ()) for name in ("a", "b"))
    policy._asking.extend((one, two))
    policy.solved(Solution({"a": {}}), 1.0)
    assert policy._known == (one, Solution({"a": {}}))
    policy.solved(None, 2.0)  # nothing was found in time
    assert policy._known == (one, Solution({"a": {}}))


def test_what_waits_for_a_replica_in_trouble_has_another_started() -> None:
    control = controller(profile("a", 0.02), cores=(0, 1))
    served(control, task="people")
    for number in range(3):
        now_s = 1.0 + 0.1 * number
        (serve,) = of(act.Serve, control.step(ev.QueryArrived(number, Query(task="people")), now_s))
        control.step(ev.BatchDone(serve.batch_id, 0.05), now_s + 0.05)
    assert control.replicas()[0].state == "interfered"
    policy = control._policy
    replica = next(iter(policy.state.fleet.replicas.values()))
    waiting = policy.state.waiting
    group = next(iter(waiting.groups.values()))
    query = Query(task="people", latency_s=0.01)
    waiting.add(7, query, group, arrived_at_s=1.3, now_s=1.3, patience_s=1.0, why="")
    assert replica.batch is None
    assert policy.pressed(1.32)


def test_what_loads_for_longer_than_it_is_held_is_there_for_as_long_once_it_is() -> None:
    control = controller(profile("a", load_s=30.0))
    now_s, out = 0.0, control.step(ev.Prepare(1, Query(task="people", latency_s=0.5), hold_s=5.0), 0.0)
    while now_s < 60:
        now_s += 0.1
        ready = abs(now_s - 30) < 0.05
        out += control.step(ev.ReplicaReady("r1", 30.0) if ready else ev.Tick(), now_s)
        if now_s < 34.9:
            assert of(act.StopReplica, out) == []
    assert of(act.Answer, out) == [act.Answer(1, name("a"), "it is loaded", 0.0)]
    assert len(of(act.StopReplica, out)) == 1


def test_what_is_just_fast_enough_is_started() -> None:
    control = controller(profile("a", 0.0965, tail=1.005))  # between 100 ms and an eighth of a doubling below
    assert of(act.StartReplica, control.step(ev.Prepare(1, Query(task="people", latency_s=0.1)), 0.0))


def test_a_second_replica_that_cannot_be_loaded_says_nothing_against_the_first() -> None:
    control = controller(profile("a"), policy="static", static=StaticPlan({name("a"): 2}))
    control.step(ev.Tick(), 0.0)
    control.step(ev.ReplicaReady("r1"), 0.3)
    now_s, failed = 0.4, 0
    while failed < 4 and now_s < 60:
        loading = [r.name for r in control.replicas() if r.state == "loading"]
        if loading:
            control.step(ev.ReplicaFailed(loading[0], "memory is short"), now_s)
            failed += 1
        control.step(ev.Tick(), now_s)
        now_s += 0.1
    assert failed == 4
    assert of(act.Serve, control.step(ev.QueryArrived(9, Query(task="people")), now_s))
    (refuse,) = of(act.Refuse, fallen(control, now_s))
    assert refuse.query_id == 9


def fallen(control: ServingController, now_s: float) -> list:
    """The serving replica is gone, and no other one can be loaded."""
    out = control.step(ev.ReplicaLost("r1", "killed"), now_s)
    for _ in range(2000):
        now_s += 0.1
        loading = [r.name for r in control.replicas() if r.state == "loading"]
        out += control.step(ev.ReplicaFailed(loading[0], "memory is short") if loading else ev.Tick(), now_s)
        if of(act.Refuse, out):
            break
    return out
