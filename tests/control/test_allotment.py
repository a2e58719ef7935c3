"""Work for some of the workers only: as many as the cores are good for that a run is held on."""

from __future__ import annotations

from msgspec.structs import replace

from llamapipe.control import actions as act
from llamapipe.control import events as ev
from tests.control.plans import detect_only, frames, plan, stage
from tests.control.test_controller import arrive, of, started


def workers_of(actions: list[act.Action]) -> list[str]:
    return [action.worker for action in of(actions, act.Dispatch)]


def test_only_those_that_are_allotted_get_work_and_all_do_from_then_on_that_they_are() -> None:
    control = started(replace(detect_only(workers=3, max_queued=1), allotted=1))
    assert workers_of(arrive(control, 0, 1, 2)) == ["w0"]
    assert workers_of(control.step(ev.Allot(0), 3.0)) == ["w1", "w2"]


def test_fewer_finish_what_they_have() -> None:
    control = started(detect_only(workers=2, max_queued=1))
    first, second = of(arrive(control, 0, 1), act.Dispatch)
    control.step(ev.Allot(1), 2.0)
    assert workers_of(arrive(control, 2)) == []
    assert workers_of(control.step(ev.InvocationDone(second.invocation, [1]), 4.0)) == []
    assert workers_of(control.step(ev.InvocationDone(first.invocation, [1]), 5.0)) == ["w0"]


def test_the_others_are_there_when_one_is_lost_or_silent() -> None:
    for event in (ev.WorkerLost("w0", "killed"), ev.WorkerSilent("w0")):
        control = started(replace(detect_only(workers=2, max_queued=1), allotted=1))
        control.step(event, 0.0)
        assert workers_of(arrive(control, 0)) == ["w1"]


def test_what_a_spare_one_remembers_it_goes_on_with() -> None:
    control = started(plan(stage("track", frames(), stateful=True), streams=2, workers=2))
    assert workers_of([*arrive(control, 0), *arrive(control, 0, stream="cam1")]) == ["w0", "w1"]
    for number in (0, 1):
        control.step(ev.InvocationDone(number, [1]), 1.0)
    control.step(ev.Allot(1), 1.0)
    assert workers_of(arrive(control, 1, stream="cam1")) == ["w1"]
    control = started(replace(plan(stage("track", frames(), stateful=True), streams=2, workers=2), allotted=1))
    assert set(workers_of([*arrive(control, 0), *arrive(control, 0, stream="cam1")])) == {"w0"}
