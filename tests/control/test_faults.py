"""Faults: what control does about workers that die, fall silent or never answer, and items that fail."""

from msgspec.structs import replace

from llamapipe.control import Controller, FaultPlan, StreamPlan
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from tests.control.plans import boxes, detect_only, frames, plan, stage
from tests.control.test_controller import arrive, of, started

FAST = FaultPlan(hang_floor_s=10.0, dead_after_s=3.0, backoff_s=0.5, max_losses=2, snapshot_items=2)


def tick(control, now_s):
    return control.step(ev.Tick(), now_s)


def track(**more):
    """detect -> track, which remembers."""
    return started(
        plan(stage("detect", frames()), stage("track", boxes("detect"), stateful=True, depth=2), faults=FAST, **more)
    )


def test_a_lost_worker_is_replaced_after_a_wait_that_doubles():
    control = started(detect_only(workers=2, faults=FAST))
    control.step(ev.WorkerLost("w0", "killed"), 1.0)
    assert control.next_deadline_s() == 1.5
    assert tick(control, 1.5) == [act.StartWorker("w0", 1), act.Load("w0/detect", "w0", "detect")]
    control.step(ev.WorkerLost("w0", "killed"), 2.0)
    assert tick(control, 2.9) == []
    assert of(tick(control, 3.0), act.StartWorker) == [act.StartWorker("w0", 2)]


def test_a_worker_that_only_ever_dies_is_given_up_and_with_the_last_one_the_run():
    control = started(detect_only(workers=1, faults=FAST))
    arrive(control, 0)
    for now_s in (1.0, 10.0):
        control.step(ev.WorkerLost("w0", "killed"), now_s)
        assert of(tick(control, now_s + 5), act.StartWorker)
    sent = control.step(ev.WorkerLost("w0", "killed"), 20.0)
    assert act.StopSource("cam0") in sent
    assert of(sent, act.Deliver)[0].reason.endswith("no worker left (killed)")
    assert control.next_deadline_s() is None or of(tick(control, 99.0), act.StartWorker) == []


def test_an_answer_clears_a_workers_record():
    control = started(detect_only(workers=1, faults=FAST))
    arrive(control, 0)
    for round_ in range(5):
        control.step(ev.WorkerLost("w0", "killed"), 10.0 * round_)
        tick(control, 10.0 * round_ + 5)
        [again] = control.step(ev.ReplicaLoaded("w0/detect"), 10.0 * round_ + 6)
        control.step(ev.InvocationDone(again.invocation, [1]), 10.0 * round_ + 7)
        arrive(control, round_ + 1)


def test_only_the_invocation_that_was_running_is_blamed_for_the_death_of_its_worker():
    control = started(detect_only(workers=1, max_queued=2, faults=FAST))
    arrive(control, 0, 1)
    control.step(ev.WorkerLost("w0", "killed"), 1.0)
    assert [(key[2], n) for key, (n, _) in control._work._suspects._known.items()] == [(0, 1)]


def test_an_item_that_fails_is_tried_on_another_worker_and_alone():
    control = started(detect_only(workers=2, batch=2, max_queued=1, max_in_flight=8))
    sent = arrive(control, 0, 1, 2, 3, 4)
    first = of(sent, act.Dispatch)
    assert [d.items for d in first] == [[("cam0", 0, 0)], [("cam0", 1, 0)]]
    [pair] = of(control.step(ev.InvocationDone(0, [1]), 5.0), act.Dispatch)
    assert pair.items == [("cam0", 2, 0), ("cam0", 3, 0)]
    control.step(ev.InvocationDone(1, [1]), 5.0)  # takes frame 4
    again = of(
        control.step(ev.InvocationDone(pair.invocation, [1, ev.FAILED_ITEM], errors={1: "x"}), 5.0), act.Dispatch
    )
    assert [(d.items, d.worker) for d in again] == [([("cam0", 3, 0)], "w0")]  # the other one is busy


def test_an_item_that_fails_three_times_is_put_into_quarantine_and_its_frame_fails():
    control = started(detect_only(workers=2))
    [sent] = arrive(control, 0)
    workers = [sent.worker]
    for _ in range(2):
        [sent] = control.step(ev.InvocationDone(sent.invocation, [ev.FAILED_ITEM], errors={0: "ValueError: no"}), 0.0)
        workers.append(sent.worker)
    assert workers == ["w0", "w1", "w0"]
    assert control.step(ev.InvocationDone(sent.invocation, [ev.FAILED_ITEM], errors={0: "ValueError: no"}), 0.0) == [
        act.Quarantine("detect", "cam0", 0, 0, "ValueError: no"),
        act.Deliver("cam0", 0, "out", "failed", "detect", "detect: ValueError: no"),
    ]


def test_a_silent_worker_gets_nothing_more_and_its_work_goes_to_a_second_one():
    control = started(detect_only(workers=2, faults=FAST))
    [sent] = arrive(control, 0)
    [twin] = control.step(ev.WorkerSilent("w0"), 1.0)
    assert (twin.worker, twin.items) == ("w1", sent.items)
    assert of(arrive(control, 1), act.Dispatch)[0].worker == "w1"
    assert act.Forget(sent.invocation) in control.step(ev.InvocationDone(twin.invocation, [1]), 2.0)
    control.step(ev.WorkerBack("w0"), 2.5)
    assert control.step(ev.InvocationDone(sent.invocation, []), 2.6) == []  # only frees its worker
    assert tick(control, 4.0) == []  # heard again in time
    control.check_invariants()


def test_a_worker_that_stays_silent_is_ended():
    control = started(detect_only(workers=2, faults=FAST))
    control.step(ev.WorkerSilent("w0"), 1.0)
    assert tick(control, 4.0) == [act.KillWorker("w0", "not heard of for 3 s")]


def test_a_silence_is_counted_from_its_own_beginning_not_from_that_of_an_earlier_one():
    control = started(detect_only(workers=2, faults=FAST))
    control.step(ev.WorkerSilent("w0"), 1.0)
    control.step(ev.WorkerBack("w0"), 2.0)
    control.step(ev.WorkerSilent("w0"), 3.0)
    assert tick(control, 4.0) == []
    assert tick(control, 6.0) == [act.KillWorker("w0", "not heard of for 3 s")]


def test_an_invocation_that_takes_three_times_as_long_as_usual_gets_a_second_worker_and_the_first_answer_counts():
    control = started(detect_only(workers=2))
    for seq in range(8):
        [sent] = of(arrive(control, seq), act.Dispatch)
        control.step(ev.InvocationDone(sent.invocation, [1], busy_s=0.2), 0.0)
        control.step(ev.Committed("cam0", "out", seq), 0.0)
    [sent] = of(control.step(ev.FramesArrived("cam0", 8, [10.0], [0.8]), 10.0), act.Dispatch)
    assert of(tick(control, 10.59), act.Dispatch) == []
    [twin] = tick(control, 10.61)
    assert (twin.worker, twin.items) == ("w1", sent.items)
    done = control.step(ev.InvocationDone(sent.invocation, [1]), 10.7)
    assert done == [act.Forget(twin.invocation), act.Deliver("cam0", 8, "out", "delivered")]


def test_an_invocation_that_never_returns_costs_its_worker_and_goes_to_another():
    control = started(detect_only(workers=2, faults=FAST))
    [first] = of(arrive(control, 0), act.Dispatch)
    control.step(ev.InvocationDone(first.invocation, [1], busy_s=0.01), 0.0)
    [sent] = of(arrive(control, 1), act.Dispatch)
    assert of(tick(control, 12.0), act.KillWorker) == [act.KillWorker("w0", "stage detect did not return")]
    [again] = control.step(ev.WorkerLost("w0", "stage detect did not return"), 12.0)
    assert (again.worker, again.items) == ("w1", sent.items)


def test_a_stage_that_remembers_is_asked_for_snapshots_and_restored_where_its_home_is_lost():
    control = track(workers=2)
    arrive(control, 0, 1, 2)
    snapshots = []
    for invocation in (0, 1):
        for sent in of(control.step(ev.InvocationDone(invocation, [1]), 0.0), act.Dispatch):
            if sent.stage == "track":
                snapshots.append(sent.snapshot)
                control.step(ev.InvocationDone(sent.invocation, [1], kept=sent.snapshot), 0.0)
    assert snapshots == [False, True]
    sent = control.step(ev.WorkerLost("w0", "killed"), 1.0)
    assert of(sent, act.Restore) == []  # nothing of it waits yet
    detected = [d for d in of(sent, act.Dispatch) if d.stage == "detect"] or [None]
    number = detected[0].invocation if detected[0] else next(iter(control._work.invocations))
    restored = control.step(ev.InvocationDone(number, [1]), 1.0)
    assert restored == [act.Restore("w1/track", "w1", "track", "cam0")]
    [again] = control.step(ev.StateRestored("track", "cam0", "w1"), 1.0)
    assert (again.stage, again.worker, again.items) == ("track", "w1", [("cam0", 2, 0)])


def test_paced_sources_begin_only_when_nobody_is_loading_any_more():
    run_plan = replace(detect_only(workers=2), streams=(StreamPlan("cam0", "block", paced=True),))
    control = Controller(run_plan)
    assert of(control.step(ev.Start(), 0.0), act.Grant) == []
    assert control.step(ev.ReplicaLoaded("w0/detect"), 1.0) == []
    assert control.step(ev.ReplicaLoaded("w1/detect"), 2.0) == [act.Grant("cam0", run_plan.max_in_flight)]


def test_paced_sources_do_not_wait_for_a_worker_that_is_lost_while_it_loads():
    run_plan = replace(detect_only(workers=2), streams=(StreamPlan("cam0", "block", paced=True),))
    control = Controller(run_plan)
    control.step(ev.Start(), 0.0)
    control.step(ev.ReplicaLoaded("w0/detect"), 1.0)
    assert act.Grant("cam0", run_plan.max_in_flight) in control.step(ev.WorkerLost("w1", "crashed"), 2.0)


def test_a_worker_that_falls_silent_before_it_has_said_hello_is_ended_all_the_same():
    control = Controller(detect_only(workers=1, faults=FAST))
    control.step(ev.Start(), 0.0)
    control.step(ev.WorkerSilent("w0"), 1.0)
    assert tick(control, 4.0) == [act.KillWorker("w0", "not heard of for 3 s")]


def test_a_stream_moves_out_where_the_stage_that_remembers_it_cannot_be_loaded():
    control = Controller(plan(stage("track", frames(), stateful=True), workers=2))
    control.step(ev.Start(), 0.0)
    arrive(control, 0)
    control.step(ev.ReplicaFailed("w0/track", "no room"), 1.0)
    assert [d.worker for d in of(control.step(ev.ReplicaLoaded("w1/track"), 2.0), act.Dispatch)] == ["w1"]


def test_a_memory_that_never_comes_up_costs_its_worker():
    control = started(plan(stage("track", frames(), stateful=True), workers=2, faults=FAST))
    [first] = of(arrive(control, 0), act.Dispatch)
    control.step(ev.InvocationDone(first.invocation, [1]), 0.0)
    control.step(ev.WorkerLost("w0", "killed"), 1.0)
    assert of(arrive(control, 1), act.Restore) == [act.Restore("w1/track", "w1", "track", "cam0")]
    assert of(tick(control, 1.0 + FAST.first_hang_s), act.KillWorker) == [
        act.KillWorker("w1", "stage track did not come up again")
    ]


def test_a_frame_that_waited_for_a_sampled_one_ends_once_when_nothing_can_be_computed_any_more():
    control = started(plan(stage("detect", frames(), sample_fps=1.0), workers=1, faults=replace(FAST, max_losses=0)))
    arrive(control, 0, 1)  # the second one is to hold what the first one gives
    sent = control.step(ev.WorkerLost("w0", "killed"), 1.0)
    assert [(d.seq, d.outcome) for d in of(sent, act.Deliver)] == [(0, "failed"), (1, "cancelled")]
    control.step(ev.Committed("cam0", "out", 1), 1.0)
    assert control.step(ev.StreamEnded("cam0", 2), 1.0) == [act.CloseStream("cam0")]


def test_a_run_that_has_lost_a_sink_still_ends_when_it_loses_its_last_worker():
    control = started(detect_only(workers=1, streams=2, faults=replace(FAST, max_losses=0)))
    arrive(control, 0, stream="cam0")
    arrive(control, 0, stream="cam1")
    control.step(ev.SinkFailed("cam0", "out", "disk full"), 1.0)
    sent = control.step(ev.WorkerLost("w0", "killed"), 1.0)
    assert [(d.stream, d.outcome) for d in of(sent, act.Deliver)] == [("cam1", "failed")]
    assert act.StopSource("cam1") in sent


def test_work_that_waits_for_a_memory_to_come_up_is_not_timed_until_it_is():
    quick = replace(FAST, hang_factor=0.0, hang_floor_s=1.0, warm_hang_s=1.0)
    control = started(plan(stage("track", frames(), stateful=True), stage("detect", frames()), faults=quick))
    sent = of(arrive(control, 0), act.Dispatch)
    for dispatch in sent:
        control.step(ev.InvocationDone(dispatch.invocation, [1], busy_s=0.01), 0.0)
    control.step(ev.WorkerLost("w0", "killed"), 1.0)
    again = control.step(ev.FramesArrived("cam0", 1, [2.0], [0.1]), 2.0)
    assert [d.worker for d in of(again, act.Dispatch)] == ["w1"]
    assert of(again, act.Restore) == [act.Restore("w1/track", "w1", "track", "cam0")]
    assert of(tick(control, 10.0), act.KillWorker) == []
    control.step(ev.StateRestored("track", "cam0", "w1"), 11.0)
    assert of(tick(control, 12.1), act.KillWorker) == [act.KillWorker("w1", "stage detect did not return")]


def test_a_workers_first_invocation_of_a_stage_may_take_longer():
    control = started(detect_only(workers=1, faults=replace(FAST, hang_factor=0.0, hang_floor_s=1.0)))
    [first] = arrive(control, 0)
    control.step(ev.InvocationDone(first.invocation, [1], busy_s=0.01), 0.0)
    control.step(ev.WorkerLost("w0", "killed"), 1.0)
    tick(control, 2.0)
    control.step(ev.ReplicaLoaded("w0/detect"), 3.0)
    arrive(control, 4)
    assert of(tick(control, 13.9), act.KillWorker) == []
    assert of(tick(control, 14.1), act.KillWorker) == [act.KillWorker("w0", "stage detect did not return")]


def test_an_item_that_was_with_a_lost_worker_has_the_next_one_to_itself():
    """The answer before may have been lost with the worker: in company nobody could tell who is to blame."""
    control = started(detect_only(workers=2, max_queued=2, faults=FAST))
    sent = of([a for seq in range(4) for a in arrive(control, seq)], act.Dispatch)
    assert [d.worker for d in sent] == ["w0", "w1", "w0", "w1"]
    assert of(control.step(ev.WorkerLost("w0", "killed"), 1.0), act.Dispatch) == []  # w1 has two of its own
    assert of(control.step(ev.InvocationDone(sent[1].invocation, [1]), 1.1), act.Dispatch) == []
    [again] = of(control.step(ev.InvocationDone(sent[3].invocation, [1]), 1.2), act.Dispatch)
    assert (again.worker, again.items) == ("w1", [("cam0", 0, 0)])
    [other] = of(control.step(ev.InvocationDone(again.invocation, [1]), 1.3), act.Dispatch)
    assert other.items == [("cam0", 2, 0)]
