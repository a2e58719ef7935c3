"""A change while the run goes on: loaded beside the old way, one worker after another, then taken instead of it."""

from __future__ import annotations

from llamapipe.catalog import Configuration
from llamapipe.control import Candidate, Controller
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.control.chains import chains_of
from llamapipe.control.lifecycle import RunState
from tests.control.plans import boxes, frames, plan, stage
from tests.control.test_controller import arrive, of, started

OTHER = Candidate(Configuration(batch=2))


def changeable(**more):
    detect = stage("detect", frames(), standby=(OTHER,), changeable=True)
    return plan(detect, stage("track", boxes("detect"), depth=2, stateful=True), **more)


def change(control, choice=1, sample_fps=None):
    return control.step(ev.Change([ev.Setting("detect", choice, sample_fps)], "drift"), 1.0)


def loaded(control, *workers):
    out = []
    for worker in workers:
        out += control.step(ev.ReplicaLoaded(f"{worker}/detect#1"), 2.0)
    return out


def test_what_stands_by_is_not_loaded_before_it_is_wanted():
    loads = of(Controller(changeable(workers=1)).step(ev.Start(), 0.0), act.Load)
    assert [load.replica for load in loads] == ["w0/detect", "w0/track"]


def test_one_worker_after_another_loads_and_the_change_is_made_when_all_have():
    control = started(changeable(workers=2))
    assert change(control) == [act.Load("w0/detect#1", "w0", "detect", 1)]
    assert control.run.state is RunState.RECONFIGURING
    assert [d.replica for d in of(arrive(control, 0), act.Dispatch)] == ["w0/detect"]
    assert loaded(control, "w0") == [act.Load("w1/detect#1", "w1", "detect", 1)]
    assert loaded(control, "w1") == [act.Changed([ev.Setting("detect", 1)], "drift")]
    assert control.run.state is RunState.RUNNING
    assert [d.replica for d in of(arrive(control, 1), act.Dispatch)] == ["w1/detect#1"]


def test_what_was_given_out_comes_back_as_it_was_asked_for_and_the_rest_goes_the_new_way():
    control = started(changeable(workers=1, max_queued=1))
    [first] = arrive(control, 0, 1, 2)
    change(control)
    loaded(control, "w0")
    [then] = of(control.step(ev.InvocationDone(first.invocation, [1]), 3.0), act.Dispatch)[:1]
    assert (then.stage, then.choice) == ("track", 0)
    [rest] = of(control.step(ev.InvocationDone(then.invocation, [1]), 3.0), act.Dispatch)
    assert (rest.replica, rest.items) == ("w0/detect#1", [("cam0", 1, 0), ("cam0", 2, 0)])


def test_a_rate_is_changed_with_it():
    control = started(changeable(workers=1, max_queued=9, max_in_flight=9))
    change(control, sample_fps=5.0)
    loaded(control, "w0")
    actions = arrive(control, 0, 1, 2, 3)  # at ten frames a second
    assert [d.items for d in of(actions, act.Dispatch)] == [[("cam0", 0, 0)], [("cam0", 2, 0)]]
    change(control, choice=0)
    assert [d.choice for d in of(arrive(control, 4, 5), act.Dispatch)] == [0, 0]


def test_what_can_be_loaded_nowhere_is_not_taken():
    control = started(changeable(workers=1))
    change(control)
    [changed] = control.step(ev.ReplicaFailed("w0/detect#1", "no room"), 2.0)
    assert changed == act.Changed([ev.Setting("detect", 1)], "drift", "no room")
    assert [d.replica for d in of(arrive(control, 0), act.Dispatch)] == ["w0/detect"]


def test_whoever_comes_up_after_a_change_loads_the_new_way_too():
    control = started(changeable(workers=2))
    change(control)
    loaded(control, "w0", "w1")
    control.step(ev.WorkerLost("w1", "killed"), 3.0)
    loads = of(control.step(ev.Tick(), control.next_deadline_s()), act.Load)
    assert [load.replica for load in loads] == ["w1/detect", "w1/track", "w1/detect#1"]


def test_a_worker_that_dies_while_it_loads_keeps_the_others_from_nothing():
    control = started(changeable(workers=2))
    change(control)
    actions = control.step(ev.WorkerLost("w0", "killed"), 2.0)
    assert of(actions, act.Load) == [act.Load("w1/detect#1", "w1", "detect", 1)]
    assert of(loaded(control, "w1"), act.Changed)
    assert control.run.state is RunState.DEGRADED


def test_a_run_that_is_cancelled_changes_nothing_more():
    control = started(changeable(workers=1))
    control.step(ev.Cancel(), 1.0)
    assert change(control) == []


def test_a_stage_that_may_be_changed_is_in_no_chain():
    assert chains_of(changeable()) == ()
