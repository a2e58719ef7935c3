"""Control: literal events in, literal actions out."""

import pytest

from llamapipe.control import Controller, FaultPlan
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.errors import InvalidTransition
from tests.control.plans import boxes, detect_only, faces_in_people, frames, plan, stage


def started(run_plan):
    """A controller with every replica loaded."""
    control = Controller(run_plan)
    for action in control.step(ev.Start(), 0.0):
        if isinstance(action, act.Load):
            control.step(ev.ReplicaLoaded(action.replica), 0.0)
    return control


def arrive(control, *seqs, stream="cam0"):
    out = []
    for seq in seqs:
        out += control.step(ev.FramesArrived(stream, seq, [float(seq)], [seq / 10]), float(seq))
    return out


def of(actions, kind):
    return [action for action in actions if isinstance(action, kind)]


def test_start_brings_up_workers_loads_stages_and_grants_credit():
    assert Controller(detect_only(workers=1, max_in_flight=8)).step(ev.Start(), 0.0) == [
        act.StartWorker("w0"),
        act.Load("w0/detect", "w0", "detect"),
        act.Grant("cam0", 8),
    ]


def test_frames_wait_for_a_loaded_replica():
    control = Controller(detect_only(workers=1))
    control.step(ev.Start(), 0.0)
    assert arrive(control, 0) == []
    assert control.step(ev.ReplicaLoaded("w0/detect"), 1.0) == [
        act.Dispatch(0, "w0/detect", "w0", "detect", [("cam0", 0, 0)])
    ]


def test_a_dispatch_carries_the_earliest_deadline():
    control = started(detect_only(workers=1, latency_slo_s=0.2))
    [dispatch] = arrive(control, 3)
    assert dispatch.deadline_s == pytest.approx(3.2)


def test_work_goes_to_the_emptiest_worker_and_no_deeper_than_max_queued():
    control = started(detect_only(workers=2, max_queued=2))
    assert [d.worker for d in of(arrive(control, 0, 1, 2, 3, 4), act.Dispatch)] == ["w0", "w1", "w0", "w1"]


def test_frames_are_delivered_in_order_whatever_order_they_are_done_in():
    control = started(detect_only())
    arrive(control, 0, 1)
    assert control.step(ev.InvocationDone(1, [1]), 1.0) == []
    assert control.step(ev.InvocationDone(0, [1]), 1.0) == [
        act.Deliver("cam0", 0, "out", "delivered"),
        act.Deliver("cam0", 1, "out", "delivered"),
    ]


def test_a_committed_frame_is_released_and_its_credit_returned():
    control = started(detect_only())
    arrive(control, 0)
    control.step(ev.InvocationDone(0, [1]), 1.0)
    assert control.step(ev.Committed("cam0", "out", 0), 1.0) == [act.Release("cam0", 0), act.Grant("cam0", 1)]


def test_the_end_is_acknowledged_end_to_end():
    control = started(detect_only(workers=1))
    arrive(control, 0)
    control.step(ev.StreamEnded("cam0", 1), 1.0)
    control.step(ev.InvocationDone(0, [1]), 1.0)
    assert control.step(ev.Committed("cam0", "out", 0), 1.0) == [act.Release("cam0", 0), act.CloseStream("cam0")]
    assert control.step(ev.StreamClosed("cam0"), 1.0) == [act.StopWorker("w0"), act.Finish("done")]


def test_a_batch_takes_what_is_there_up_to_its_size():
    control = Controller(detect_only(workers=1, batch=3))
    control.step(ev.Start(), 0.0)
    arrive(control, 0, 1, 2, 3)
    sent = control.step(ev.ReplicaLoaded("w0/detect"), 1.0)
    assert [len(d.items) for d in sent] == [3, 1]


def test_fan_out_makes_one_item_a_crop_and_joins_them_again():
    control = started(faces_in_people(workers=1))
    arrive(control, 0)
    control.step(ev.InvocationDone(0, [1]), 0.0)  # people
    control.step(ev.InvocationDone(1, [1]), 0.0)  # track
    [faces] = control.step(ev.InvocationDone(2, [3]), 0.0)  # crop: three
    assert faces.items == [("cam0", 0, 0), ("cam0", 0, 1), ("cam0", 0, 2)]
    done = control.step(ev.InvocationDone(3, [1, 1, 1]), 0.0)
    assert of(done, act.Dispatch)[0].stage == "blur"
    assert act.Deliver("cam0", 0, "lines", "delivered") in done


def test_no_crops_means_done_with_nothing_and_nobody_waits():
    control = started(faces_in_people(workers=1))
    arrive(control, 0)
    control.step(ev.InvocationDone(0, [1]), 0.0)
    control.step(ev.InvocationDone(1, [1]), 0.0)
    done = control.step(ev.InvocationDone(2, [0]), 0.0)
    assert [d.stage for d in of(done, act.Dispatch)] == ["blur"]


def test_a_failed_item_fails_its_frame_from_there_on_and_says_where():
    control = started(faces_in_people(workers=1, faults=FaultPlan(max_attempts=1)))
    arrive(control, 0)
    control.step(ev.InvocationDone(0, [1]), 0.0)
    control.step(ev.InvocationDone(1, [1]), 0.0)
    control.step(ev.InvocationDone(2, [2]), 0.0)
    done = control.step(ev.InvocationDone(3, [1, ev.FAILED_ITEM], errors={1: "ValueError: no"}), 0.0)
    reason = "faces: ValueError: no"
    assert act.Deliver("cam0", 0, "video", "failed", "faces", reason) in done
    assert act.Deliver("cam0", 0, "lines", "failed", "faces", reason) in done


def test_a_filtered_frame_ends_at_every_sink_below_as_filtered():
    control = started(
        plan(
            stage("gate", frames(), outputs={"frames": "frames"}, filters=True),
            stage("detect", frames(stage="gate"), depth=2),
        )
    )
    arrive(control, 0)
    assert control.step(ev.InvocationDone(0, [ev.FILTERED_ITEM]), 0.0) == [
        act.Deliver("cam0", 0, "out", "filtered", "gate", "filtered")
    ]


def test_a_stage_that_remembers_sees_its_stream_in_order_on_one_worker():
    control = started(
        plan(stage("detect", frames()), stage("track", boxes("detect"), stateful=True, depth=2), workers=2)
    )
    arrive(control, 0, 1)
    assert of(control.step(ev.InvocationDone(1, [1]), 0.0), act.Dispatch) == []
    sent = of(control.step(ev.InvocationDone(0, [1]), 0.0), act.Dispatch)
    assert [(d.items, d.worker) for d in sent] == [([("cam0", 0, 0)], "w0"), ([("cam0", 1, 0)], "w0")]


def test_a_frame_that_fails_upstream_keeps_no_later_one_waiting():
    once = FaultPlan(max_attempts=1)
    track = stage("track", boxes("detect"), stateful=True, depth=2)
    control = started(plan(stage("detect", frames()), track, faults=once))
    arrive(control, 0, 1)
    control.step(ev.InvocationDone(1, [1]), 0.0)
    done = control.step(ev.InvocationDone(0, [ev.FAILED_ITEM], errors={0: "x"}), 0.0)
    assert [d.items for d in of(done, act.Dispatch)] == [[("cam0", 1, 0)]]


@pytest.mark.parametrize(("policy", "lost"), [("drop-oldest", [2, 3]), ("drop-newest", [6, 7])])
def test_a_live_stream_that_outruns_the_workers_drops_by_its_policy(policy, lost):
    control = started(detect_only(workers=1, drop_policy=policy, max_in_flight=2))
    arrive(control, *range(8))  # two in flight, four pending
    assert control.ledger.decoded["cam0"] == 8
    sent = [action for seq in range(2) for action in control.step(ev.InvocationDone(seq, [1]), 0.0)]
    sent += control.step(ev.Committed("cam0", "out", 1), 0.0)
    for invocation in range(2, 6):
        sent += control.step(ev.InvocationDone(invocation, [1]), 0.0)
        sent += control.step(ev.Committed("cam0", "out", of(sent, act.Deliver)[-1].seq), 0.0)
    assert [d.seq for d in of(sent, act.Deliver)] == list(range(8))
    assert [d.seq for d in of(sent, act.Deliver) if d.outcome == "dropped"] == lost


def test_an_undecodable_frame_is_delivered_in_its_place_as_failed():
    control = started(detect_only())
    arrive(control, 0)
    assert control.step(ev.FrameUndecodable("cam0", 1, "corrupt-packet"), 0.0) == []
    assert control.step(ev.InvocationDone(0, [1]), 0.0)[1] == act.Deliver(
        "cam0", 1, "out", "failed", "source", "source: corrupt-packet"
    )


def test_cancel_stops_sources_and_finishes_what_is_in_flight():
    control = started(detect_only(workers=1))
    arrive(control, 0)
    assert control.step(ev.Cancel(), 0.0) == [act.StopSource("cam0")]
    assert arrive(control, 1) == [act.Discard("cam0", 1)]
    done = control.step(ev.InvocationDone(0, [1]), 0.0)
    assert [d.outcome for d in of(done, act.Deliver)] == ["delivered", "cancelled"]
    control.step(ev.Committed("cam0", "out", 1), 0.0)
    control.step(ev.StreamEnded("cam0", 2), 0.0)
    assert control.step(ev.StreamClosed("cam0"), 0.0)[-1] == act.Finish("cancelled", "interrupted")


def test_cancel_while_models_load_waits_for_none_of_them():
    control = Controller(detect_only(workers=1))
    control.step(ev.Start(), 0.0)
    arrive(control, 0)
    actions = control.step(ev.Cancel(), 0.0)
    assert [type(action) for action in actions] == [act.StopSource, act.Deliver]
    assert of(actions, act.Deliver)[0].outcome == "cancelled"
    control.step(ev.Committed("cam0", "out", 0), 0.0)
    control.step(ev.StreamEnded("cam0", 1), 0.0)
    assert control.step(ev.StreamClosed("cam0"), 0.0)[-1] == act.Finish("cancelled", "interrupted")


def test_a_stage_that_loads_nowhere_fails_the_run_with_the_ledger_exact():
    control = Controller(detect_only(workers=1))
    control.step(ev.Start(), 0.0)
    arrive(control, 0)
    sent = control.step(ev.ReplicaFailed("w0/detect", "no such model"), 0.0)
    assert act.StopSource("cam0") in sent
    control.step(ev.StreamEnded("cam0", 1), 0.0)
    control.step(ev.Committed("cam0", "out", 0), 0.0)
    assert control.step(ev.StreamClosed("cam0"), 0.0)[-1] == act.Finish("failed", "stage detect: no such model")


def test_a_lost_worker_gives_its_stateless_work_to_another():
    control = started(detect_only(workers=2))
    arrive(control, 0, 1)
    assert control.step(ev.WorkerLost("w0", "killed"), 0.0) == []  # it shall have its next worker to itself
    [again] = of(control.step(ev.InvocationDone(1, [1]), 0.0), act.Dispatch)
    assert (again.worker, again.items) == ("w1", [("cam0", 0, 0)])
    assert control.step(ev.InvocationDone(0, [1]), 0.0) == []  # too late, not asked any more


def test_a_failed_sink_counts_what_it_never_confirmed_as_failed_and_stops_the_stream():
    control = started(detect_only(workers=1))
    arrive(control, 0, 1)
    control.step(ev.InvocationDone(0, [1]), 0.0)
    control.step(ev.InvocationDone(1, [1]), 0.0)
    control.step(ev.Committed("cam0", "out", 0), 0.0)
    assert act.StopSource("cam0") in control.step(ev.SinkFailed("cam0", "out", "disk full"), 0.0)
    control.step(ev.StreamEnded("cam0", 2), 0.0)
    assert control.step(ev.StreamClosed("cam0"), 0.0)[-1] == act.Finish("failed", "cam0 at out: disk full")
    account = control.ledger.accounts["cam0", "out"]
    assert (account.delivered, dict(account.failed)) == (1, {"output: disk full": 1})


def test_what_went_with_the_file_of_a_failed_sink_was_not_delivered():
    control = started(detect_only(workers=1))
    arrive(control, 0)
    control.step(ev.InvocationDone(0, [1]), 0.0)
    control.step(ev.Committed("cam0", "out", 0), 0.0)
    control.step(ev.SinkFailed("cam0", "out", "disk full", kept=False), 0.0)
    account = control.ledger.accounts["cam0", "out"]
    assert (account.delivered, dict(account.failed)) == (0, {"output: disk full": 1})


def test_sampled_stages_work_on_one_frame_a_period_and_hold_its_outputs():
    control = started(plan(stage("detect", frames(), sample_fps=5.0), workers=1))
    sent = arrive(control, 0, 1, 2)  # pts 0.0, 0.1, 0.2
    assert [d.items[0][1] for d in of(sent, act.Dispatch)] == [0, 2]
    done = control.step(ev.InvocationDone(0, [1]), 0.0)
    assert act.Hold("detect", "cam0", 1, 0) in done
    assert [d.seq for d in of(done, act.Deliver)] == [0, 1]


def test_an_event_that_cannot_be_is_refused_with_the_history():
    control = started(detect_only(workers=1))
    with pytest.raises(InvalidTransition, match="starting > loading > ready"):
        control.step(ev.ReplicaLoaded("w0/detect"), 0.0)
