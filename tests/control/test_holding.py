"""A stage that holds what it gave while its condition says so: which frames it looks at all the same."""

from __future__ import annotations

import pytest

from llamapipe.control import Candidate, Controller, FaultPlan
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.control.chains import chains_of
from tests.control.plans import boxes, frames, plan, stage
from tests.control.test_controller import arrive, of, started


def motion(**more):
    return stage("motion", frames(), outputs={"events": "events"}, stateful=True, **more)


def detect(**more):
    return stage("detect", frames(), depth=2, hold_unless="any($ops.motion.events)", **more)


def held(*stages, **more):
    return started(plan(*(stages or (motion(), detect())), workers=1, max_queued=9, max_in_flight=30, **more))


def comes(control: Controller, seq: int, *, moves: bool = False, answer: str = "now"):
    """A frame, and what motion says of it; what follows. ``answer`` of a stage that looks: now, failed or later."""
    [asked] = [d for d in of(arrive(control, seq), act.Dispatch) if d.stage == "motion"]
    told = control.step(ev.InvocationDone(asked.invocation, [int(moves)], [[float(moves)]]), float(seq))
    for dispatch in [d for d in of(told, act.Dispatch) if d.stage == "detect"]:
        if answer == "now":
            told += control.step(ev.InvocationDone(dispatch.invocation, [1]), float(seq))
        elif answer == "failed":
            failed = ev.InvocationDone(dispatch.invocation, [ev.FAILED_ITEM], errors={0: "ValueError: no"})
            told += control.step(failed, float(seq))
    return told


def looked_at(actions) -> list[int]:
    return [item[1] for d in of(actions, act.Dispatch) if d.stage == "detect" for item in d.items]


def test_the_first_frame_is_looked_at_and_then_those_that_meet_the_condition():
    control = held()
    seen = [looked_at(comes(control, seq, moves=seq in (3, 4))) for seq in range(7)]
    assert seen == [[0], [], [], [3], [4], [], []]
    control.check_invariants()


def test_the_others_are_given_what_the_last_one_gave_and_are_all_delivered():
    control = held()
    sent = [action for seq in range(4) for action in comes(control, seq, moves=seq == 2)]
    assert of(sent, act.Hold) == [act.Hold("detect", "cam0", 1, 0), act.Hold("detect", "cam0", 3, 2)]
    assert [d.seq for d in of(sent, act.Deliver)] == [0, 1, 2, 3]


def test_who_holds_waits_for_an_answer_that_is_under_way():
    control = held()
    sent = comes(control, 0, answer="later")
    [dispatch] = [d for d in of(sent, act.Dispatch) if d.stage == "detect"]
    assert of(comes(control, 1), act.Deliver) == []
    done = control.step(ev.InvocationDone(dispatch.invocation, [1]), 5.0)
    assert [d.seq for d in of(done, act.Deliver)] == [0, 1]


def test_conditions_further_down_see_what_is_held():
    closer = stage("closer", boxes("detect"), depth=3, when="count($ops.detect.boxes) > 0")
    control = held(motion(), detect(), closer)
    first = comes(control, 0, answer="later")
    [dispatch] = [d for d in of(first, act.Dispatch) if d.stage == "detect"]
    sent = control.step(ev.InvocationDone(dispatch.invocation, [2], [[2.0]]), 1.0)
    sent += comes(control, 1)
    assert [d.items[0][1] for d in of(sent, act.Dispatch) if d.stage == "closer"] == [0, 1]


def test_what_changes_between_two_samples_is_looked_at_with_the_next():
    """At ten frames a second, of which five are to be looked at: 0, 2, 4, 6 and 8 at most."""
    control = held(motion(), detect(sample_fps=5.0))
    seen = [looked_at(comes(control, seq, moves=seq in (2, 3))) for seq in range(7)]
    assert seen == [[0], [], [2], [], [4], [], []]


def test_after_one_that_failed_the_next_is_looked_at():
    """Nobody knows for how long there would be nothing to hold."""
    control = held(faults=FaultPlan(max_attempts=1))
    comes(control, 0, answer="failed")
    assert [looked_at(comes(control, seq)) for seq in (1, 2)] == [[1], []]


def test_after_one_that_passed_the_stage_by_the_next_is_looked_at():
    """What it showed was told of with it, and of it alone."""
    control = held(motion(), detect(when="count($ops.motion.events) < 2"))
    probes = [key for _, key in control.topology.probes[0]]
    assert probes == ["count($ops.motion.events) < 2", "any($ops.motion.events) >= 1"]

    def tell(seq: int, events: int):
        [asked] = [d for d in of(arrive(control, seq), act.Dispatch) if d.stage == "motion"]
        measures = [[float(events), float(events > 0)]]
        told = control.step(ev.InvocationDone(asked.invocation, [events], measures), float(seq))
        for dispatch in [d for d in of(told, act.Dispatch) if d.stage == "detect"]:
            control.step(ev.InvocationDone(dispatch.invocation, [1]), float(seq))
        return looked_at(told)

    assert [tell(seq, events) for seq, events in enumerate([1, 0, 2, 0, 0])] == [[0], [], [], [3], []]


@pytest.mark.parametrize("holds", [True, False])
def test_a_change_may_have_it_look_at_all(holds: bool):
    control = held(motion(), detect(standby=(Candidate(detect().configuration),), changeable=True))
    assert [looked_at(comes(control, seq)) for seq in (0, 1)] == [[0], []]
    control.step(ev.Change([ev.Setting("detect", 0, None, holds)], "drift"), 1.5)
    assert [looked_at(comes(control, seq)) for seq in (2, 3, 4)] == [[2], [] if holds else [3], [] if holds else [4]]


def test_nothing_is_held_across_a_place_where_the_run_can_be_taken_up_again():
    from msgspec.structs import replace

    cut = plan(motion(), detect(), workers=1, max_queued=9, max_in_flight=30)
    control = started(replace(cut, streams=(replace(cut.streams[0], segment_frames=3),)))
    assert [looked_at(comes(control, seq)) for seq in range(5)] == [[0], [], [], [3], []]


def test_it_is_in_no_chain():
    assert chains_of(plan(motion(), detect(), stage("small", boxes("detect"), depth=3))) == ()
