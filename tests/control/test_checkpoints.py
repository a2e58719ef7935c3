"""Checkpoints: where they lie, what they take, and that a stream that is taken up again goes on as it would have."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llamapipe.control import Controller, ResumePlan, RunPlan, SinkTally, StreamPlan
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.control.dataflow import FrameRecord, Topology
from llamapipe.control.queues import Sampler
from tests.control.plans import boxes, frames, plan, stage
from tests.control.test_controller import arrive, of, started


def tracked(**more: object) -> RunPlan:
    """detect -> track, which remembers; segments of two frames."""
    made = plan(
        stage("detect", frames()),
        stage("track", boxes("detect"), stateful=True, depth=2),
        workers=1,
        max_in_flight=8,
        max_queued=8,
        checkpoint_every_s=0.0,
    )
    return replace(made, streams=(StreamPlan("cam0", segment_frames=2, **more),))


def serve(control: Controller, sent: list[act.Action], now_s: float = 0.0) -> list[act.Action]:
    """Answer everything that is asked, in order; all actions on the way."""
    seen, waiting = [], list(sent)
    while waiting:
        action = waiting.pop(0)
        seen.append(action)
        for event in answers(action):
            waiting += control.step(event, now_s)
    return seen


def answers(action: act.Action) -> list[ev.Event]:
    match action:
        case act.Dispatch():
            return [ev.InvocationDone(action.invocation, [1] * len(action.items))]
        case act.Capture():
            return [ev.StateCaptured(action.stage, action.stream, action.seq)]
        case act.Restore():
            return [ev.StateRestored(action.stage, action.stream, action.worker)]
        case act.Deliver():
            marked = [ev.SinkMarked(action.stream, action.sink, action.seq + 1)] if action.mark else []
            return [ev.Committed(action.stream, action.sink, action.seq), *marked]
        case act.CloseStream():
            return [ev.StreamClosed(action.stream)]
    return []


def tally(delivered: int) -> dict[str, SinkTally]:
    return {"out": SinkTally(delivered)}


def test_a_checkpoint_is_made_when_sink_and_memory_have_come_as_far() -> None:
    control = started(tracked())
    sent = serve(control, arrive(control, 0, 1, 2))
    assert of(sent, act.Capture) == [act.Capture("w0/track", "w0", "track", "cam0", 2)]
    assert [d.mark for d in of(sent, act.Deliver)] == [False, True, False]
    assert of(sent, act.Checkpoint) == [act.Checkpoint("cam0", 2, tally(2))]


def test_a_memory_is_asked_for_before_the_first_frame_after_the_checkpoint_and_after_all_before_it() -> None:
    control = started(tracked())
    detects = of(arrive(control, 0, 1, 2, 3), act.Dispatch)
    sent: list[act.Action] = []
    for dispatch in detects:
        sent += control.step(ev.InvocationDone(dispatch.invocation, [1]), 0.0)
    order = [a.items[0][1] if isinstance(a, act.Dispatch) else "capture" for a in sent]
    assert order == [0, 1, "capture", 2, 3]


def test_frames_of_two_segments_never_share_a_batch_of_a_stage_that_remembers() -> None:
    made = tracked()
    made = replace(made, stages=(stage("track", frames(), stateful=True, batch=8),))
    made = replace(made, sinks=plan(made.stages[0]).sinks)
    control = Controller(made)
    control.step(ev.Start(), 0.0)
    arrive(control, 0, 1, 2, 3, 4)
    sent = control.step(ev.ReplicaLoaded("w0/track"), 0.0)
    assert [[seq for _, seq, _ in d.items] for d in of(sent, act.Dispatch)] == [[0, 1], [2, 3], [4]]


def test_a_stage_that_gets_no_frame_any_more_is_asked_once_all_have_passed_it() -> None:
    made = tracked()
    tracks = replace(made.stages[1], when="count($ops.detect.boxes) >= 1")
    control = started(replace(made, stages=(made.stages[0], tracks)))
    for seq in range(4):
        [detect] = of(arrive(control, seq), act.Dispatch)
        some = 1.0 if seq == 0 else 0.0  # after frame 0 there is nothing to track
        sent = control.step(ev.InvocationDone(detect.invocation, [1], [[some]]), 0.0)
        sent = serve(control, sent)
    assert of(sent, act.Checkpoint) == [act.Checkpoint("cam0", 4, tally(4))]


def test_a_stage_that_has_seen_nothing_is_not_asked() -> None:
    made = tracked()
    tracks = replace(made.stages[1], when="count($ops.detect.boxes) >= 1")
    control = started(replace(made, stages=(made.stages[0], tracks)))
    sent = []
    for seq in range(2):
        [detect] = of(arrive(control, seq), act.Dispatch)
        sent += serve(control, control.step(ev.InvocationDone(detect.invocation, [1], [[0.0]]), 0.0))
    assert of(sent, act.Capture) == []
    assert of(sent, act.Checkpoint) == [act.Checkpoint("cam0", 2, tally(2))]


def test_a_checkpoint_whose_memory_died_with_its_worker_is_given_up_and_the_next_one_made() -> None:
    control = started(tracked())
    detects = of(arrive(control, 0, 1, 2), act.Dispatch)
    sent: list[act.Action] = []
    for dispatch in detects:
        sent += control.step(ev.InvocationDone(dispatch.invocation, [1]), 0.0)
    assert of(sent, act.Capture)
    control.step(ev.WorkerLost("w0", "killed"), 1.0)
    [at_s] = [control.next_deadline_s()]
    control.step(ev.Tick(), at_s)
    control.step(ev.ReplicaLoaded("w0/detect"), 3.0)
    sent = serve(control, control.step(ev.ReplicaLoaded("w0/track"), 3.0), 3.0)
    assert of(sent, act.Checkpoint) == []
    sent = serve(control, arrive(control, 3, 4), 4.0)
    assert [c.seq for c in of(sent, act.Checkpoint)] == [4]


def test_a_stage_that_cannot_say_what_it_remembers_means_no_checkpoints() -> None:
    control = started(tracked())
    sent = arrive(control, 0, 1, 2)
    seen: list[act.Action] = []
    while sent:
        action = sent.pop(0)
        seen.append(action)
        for event in answers(action):
            kept = replace(event, kept=False) if isinstance(event, ev.StateCaptured) else event
            sent += control.step(kept, 0.0)
    assert of(seen, act.Checkpoint) == []
    assert not any(d.mark for d in of(serve(control, arrive(control, 3, 4, 5)), act.Deliver))


def test_checkpoints_keep_their_distance_in_time() -> None:
    control = started(replace(tracked(), checkpoint_every_s=5.0))
    seqs = []
    for seq in range(12):
        sent = control.step(ev.FramesArrived("cam0", seq, [float(seq)], [seq / 25]), float(seq))
        seqs += [c.seq for c in of(serve(control, sent, float(seq)), act.Checkpoint)]
    assert seqs == [2, 8]


def test_a_stream_that_has_ended_well_is_said_to_be_complete() -> None:
    control = started(tracked())
    serve(control, arrive(control, 0, 1, 2))
    sent = serve(control, control.step(ev.StreamEnded("cam0", 3), 0.0))
    assert of(sent, act.Checkpoint) == [act.Checkpoint("cam0", 3, tally(3), ended=True)]
    assert of(sent, act.Finish) == [act.Finish("done")]


def test_a_stream_that_was_stopped_is_not() -> None:
    control = started(tracked())
    serve(control, arrive(control, 0))
    control.step(ev.Cancel(), 0.0)
    sent = serve(control, control.step(ev.StreamEnded("cam0", 1), 0.0))
    assert of(sent, act.Checkpoint) == []


def test_a_run_that_goes_on_restores_memories_first_and_its_ledger_is_that_of_the_whole() -> None:
    control = started(tracked(resume=ResumePlan(4, {"out": SinkTally(3, failed={"x": 1})}, ("track",))))
    [detect] = of(arrive(control, 4), act.Dispatch)
    sent = control.step(ev.InvocationDone(detect.invocation, [1]), 0.0)
    assert sent == [act.Restore("w0/track", "w0", "track", "cam0")]
    sent = serve(control, sent)
    assert of(sent, act.Deliver) == [act.Deliver("cam0", 4, "out", "delivered")]
    sent = serve(control, control.step(ev.StreamEnded("cam0", 5), 0.0))
    assert of(sent, act.Finish) == [act.Finish("done")]
    assert control.ledger.to_dict()["sinks"] == {
        "cam0/out": {"delivered": 4, "filtered": {}, "dropped": {}, "failed": {"x": 1}, "cancelled": 0}
    }


def test_a_run_whose_streams_had_all_ended_is_done_at_once() -> None:
    control = Controller(tracked(resume=ResumePlan(4, tally(4), (), ended=True)))
    sent = control.step(ev.Start(), 0.0)
    assert of(sent, act.Grant) == []
    assert sent[-1] == act.Finish("done")
    control.check_invariants()


def _frame(seq: int) -> FrameRecord:
    return FrameRecord(Topology(plan(stage("a"))), "cam", seq, seq, seq / 25, seq / 25)


@given(st.lists(st.booleans(), min_size=20, max_size=60), st.integers(1, 12), st.sampled_from([0.5, 3.0, 25.0]))
def test_a_sampler_takes_the_same_frames_from_a_segments_beginning_on(
    comes: list[bool], segment_frames: int, fps: float
) -> None:
    """Whatever was taken before: nothing is held across a place where a run may be taken up again."""
    came = [_frame(seq) for seq, here in enumerate(comes) if here]
    whole = Sampler(fps, segment_frames)
    taken = [frame.seq for frame in came if whole.takes(frame, True)]
    for first in range(0, len(comes), segment_frames):
        later = Sampler(fps, segment_frames)
        assert [f.seq for f in came if f.seq >= first and later.takes(f, True)] == [
            seq for seq in taken if seq >= first
        ]
