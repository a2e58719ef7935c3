"""What serving does, literally: events in, actions out."""

from __future__ import annotations

from llamapipe.catalog import Floor, Query
from llamapipe.control.serving import Host, ServingController, ServingPlan
from llamapipe.control.serving import actions as act
from llamapipe.control.serving import events as ev
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
