"""The simulator drives the same control; hypothesis explores what may happen to it."""

import hypothesis.strategies as st
from hypothesis import given, settings
from msgspec.structs import replace

from llamapipe.control import LogEntry, ResumePlan, SinkTally, StreamPlan, encode_entry, encode_plan, read_log, replay
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.control.actions import Checkpoint
from llamapipe.sim import ItemOutcome, SourceTrace, WorldProfile, profile_of_log, simulate
from tests.control.plans import boxes, detect_only, faces_in_people, frames, plan, stage
from tests.examples import examples


def trace(n, **more):
    return SourceTrace(tuple(i / 25 for i in range(n)), **more)


def test_virtual_time_is_what_the_profile_says():
    """Two workers, ten frames of 10 ms each: 50 ms."""
    world = WorldProfile({"detect": (0.0, 0.010)}, {"cam0": trace(10)})
    result = simulate(detect_only(workers=2), world)
    assert (result.outcome, round(result.wall_s, 6)) == ("done", 0.05)
    assert result.ledger.accounts["cam0", "out"].delivered == 10


def test_a_live_stream_at_twice_the_capacity_drops_half_and_says_so():
    world = WorldProfile({"detect": (0.0, 0.080)}, {"cam0": trace(100, paced=True)})
    result = simulate(detect_only(workers=1, drop_policy="drop-oldest", max_in_flight=4), world)
    account = result.ledger.accounts["cam0", "out"]
    assert account.delivered + account.dropped["overload"] == 100
    assert 45 <= account.delivered <= 60


outcomes = st.one_of(
    st.builds(ItemOutcome, st.integers(0, 3)),
    st.just(ItemOutcome(ev.FAILED_ITEM, (), "ValueError: x")),
)


@settings(max_examples=examples(60), deadline=None)
@given(
    data=st.data(),
    num_frames=st.integers(0, 12),
    streams=st.integers(1, 3),
    workers=st.integers(1, 3),
    policy=st.sampled_from(["block", "drop-oldest", "drop-newest"]),
    max_in_flight=st.integers(2, 8),
)
def test_whatever_happens_every_frame_is_accounted_for_and_the_log_replays(
    data, num_frames, streams, workers, policy, max_in_flight
):
    plan = faces_in_people(streams=streams, workers=workers, drop_policy=policy, max_in_flight=max_in_flight)
    content = {
        (stage, f"cam{s}", seq, 0): outcome
        for stage in ("people", "track", "crop")
        for s in range(streams)
        for seq in range(num_frames)
        if (outcome := data.draw(outcomes)) and (stage == "crop" or outcome.count != 0)
    }
    content = {
        key: outcome if key[0] == "crop" or outcome.count < 0 else ItemOutcome(1) for key, outcome in content.items()
    }
    service = {stage.name: (0.0, data.draw(st.floats(0, 0.1))) for stage in plan.stages}
    undecodable = dict.fromkeys(data.draw(st.sets(st.integers(0, 11))), "corrupt-packet")
    world = WorldProfile(
        service,
        {f"cam{s}": trace(num_frames, paced=policy != "block", undecodable=undecodable) for s in range(streams)},
        outcomes=content,
    )
    log = [encode_plan(plan)]
    result = simulate(plan, world, observe=lambda t, event, actions: log.append(encode_entry(t, event, actions)))
    assert result.outcome == "done"
    for s in range(streams):
        assert result.ledger.decoded[f"cam{s}"] == num_frames
    replayed = replay(log)
    replayed.check_invariants()
    assert replayed.ledger.to_dict() == result.ledger.to_dict()
    # a run's own profile leads to its own ledger; which frames a live stream drops, only its moments tell
    for moments in (True, False) if policy == "block" else (True,):
        again = simulate(plan, profile_of_log(plan, read_log(log)[1], moments=moments))
        assert again.ledger.to_dict() == result.ledger.to_dict()


def test_a_run_that_goes_on_with_another_simulates_from_where_that_had_come_and_makes_its_checkpoints():
    made = plan(stage("detect", frames()), stage("track", boxes("detect"), stateful=True, depth=2))
    resume = ResumePlan(20, {"out": SinkTally(20)}, ("track",))
    made = replace(made, streams=(StreamPlan("cam0", segment_frames=10, resume=resume),), checkpoint_every_s=0.0)
    times = tuple(0.1 * i for i in range(20, 55))
    profile = WorldProfile({"detect": (0.0, 0.01), "track": (0.0, 0.001)}, {"cam0": SourceTrace(times)})
    seen = []
    result = simulate(made, profile, observe=lambda now_s, event, actions: seen.extend(actions))
    assert result.outcome == "done"
    assert result.ledger.accounts["cam0", "out"].delivered == 55
    made_at = [(action.seq, action.ended) for action in seen if isinstance(action, Checkpoint)]
    assert made_at == [(30, False), (50, False), (55, True)]  # one is prepared at a time


def test_an_answer_that_came_second_says_nothing_of_its_items():
    run_plan = detect_only(workers=2)
    sent = act.Dispatch(0, "w0/detect", "w0", "detect", [("cam0", 0, 0)])
    twin = act.Dispatch(1, "w1/detect", "w1", "detect", [("cam0", 0, 0)])
    entries = [
        LogEntry(0.0, ev.FramesArrived("cam0", 0, [0.0], [0.0]), [sent]),
        LogEntry(1.0, ev.WorkerSilent("w0"), [twin]),
        LogEntry(2.0, ev.InvocationDone(1, [3], busy_s=0.5), [act.Forget(0)]),
        LogEntry(3.0, ev.InvocationDone(0, [], busy_s=2.5), []),
    ]
    assert profile_of_log(run_plan, entries).outcome("detect", "cam0", 0, 0).count == 3
