"""Chains: several stages in one invocation, and every record as if each had been run by itself."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from llamapipe.catalog import Configuration, Variant
from llamapipe.control import FaultPlan, SinkPlan
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.control.chains import chains_of
from llamapipe.sim import ItemOutcome, SourceTrace, WorldProfile, profile_of_log, simulate
from tests.control.plans import boxes, frames, plan, stage
from tests.control.test_controller import arrive, of, started
from tests.examples import examples

PICTURES = {"frames": "frames"}
VIDEO = SinkPlan("video", "test/video@v1", (frames(stage="c"),), hides=True)


def in_a_row(*, a=None, b=None, c=None, sinks=(VIDEO,), **more):
    """a -> b -> c, three picture filters, the second of which hides."""
    made = plan(
        replace(stage("a", frames(), outputs=PICTURES), **(a or {})),
        replace(stage("b", frames(stage="a"), outputs=PICTURES, hides=True, depth=2), **(b or {})),
        replace(stage("c", frames(stage="b"), outputs=PICTURES, depth=3), **(c or {})),
        sinks=sinks,
        **more,
    )
    return replace(made, chains=chains_of(made))


def done(dispatch, *chain, **more):
    """The answer of a chain whose first stage has done its one item."""
    return ev.InvocationDone(dispatch.invocation, [1], chain=list(chain), **more)


FINE = ev.Chained([1])
FAILS = ev.Chained([ev.FAILED_ITEM], errors={0: "ValueError: no"})
NOT_RUN = ev.Chained([ev.NOT_RUN])


def answer(control, dispatch, failing):
    """The answer of whoever runs it, with the given stages failing on everything."""
    outcomes, alive = [], True
    for name in (dispatch.stage, *dispatch.chain):
        outcomes.append(FAILS if name in failing and alive else FINE if alive else NOT_RUN)
        alive = alive and name not in failing
    first, chain = outcomes[0], outcomes[1:]
    return control.step(ev.InvocationDone(dispatch.invocation, first.counts, [], first.errors, chain=chain), 1.0)


@pytest.mark.parametrize(
    ("changes", "chains"),
    [
        ({}, (("a", "b", "c"),)),
        ({"a": {"stateful": True}}, (("b", "c"),)),
        ({"b": {"stateful": True}}, ()),
        ({"c": {"filters": True}}, (("a", "b"),)),
        ({"c": {"sample_fps": 2.0}}, (("a", "b"),)),
        ({"c": {"placement": "process"}}, (("a", "b"),)),
        ({"b": {"configuration": Configuration(batch=4)}}, ()),
        ({"a": {"configuration": Configuration(Variant("some", "onnxruntime"))}}, (("a", "b", "c"),)),
        ({"c": {"configuration": Configuration(Variant("some", "onnxruntime"))}}, (("a", "b"),)),
        ({"sinks": (VIDEO, SinkPlan("between", "test/video@v1", (frames(stage="a"),)))}, (("b", "c"),)),
    ],
)
def test_what_makes_a_chain(changes, chains):
    assert in_a_row(**changes).chains == chains


def test_boxes_that_a_sink_reads_as_well_may_begin_a_chain():
    """What the sink has of the first stage is kept, and it has it when the chain has ended."""
    first, second = stage("a", frames()), stage("b", frames(), boxes("a"), outputs=PICTURES, depth=2)
    sinks = (
        SinkPlan("lines", "test/lines@v1", (boxes("a"),)),
        SinkPlan("video", "test/video@v1", (frames(stage="b"),)),
    )
    made = plan(first, second, sinks=sinks)
    control = started(replace(made, chains=chains_of(made)))
    [sent] = of(arrive(control, 0), act.Dispatch)
    assert sent.chain == ("b",)
    assert [said.sink for said in of(control.step(done(sent, FINE), 1.0), act.Deliver)] == ["lines", "video"]
    [sent] = of(arrive(control, 1), act.Dispatch)
    said = control.step(done(sent, FAILS), 2.0)
    assert [(out.sink, out.outcome) for out in of(said, act.Deliver)] == [("lines", "delivered")]
    assert [again.stage for again in of(said, act.Dispatch)] == ["b"]
    control.check_invariants()


def test_a_condition_may_come_before_a_chain_but_not_into_it():
    """What a condition asks of a stage is a second reader of it as well."""
    first = stage("people", frames())
    a = stage("a", frames(), outputs=PICTURES, depth=2, when="count($ops.people.boxes) > 0")
    b = stage("b", frames(stage="a"), outputs=PICTURES, depth=3)
    assert chains_of(plan(first, a, b)) == (("a", "b"),)
    assert chains_of(plan(first, a, replace(b, when="count($ops.people.boxes) > 1"))) == ()


def test_a_chain_is_one_invocation_and_all_its_records():
    control = started(in_a_row())
    [sent] = of(arrive(control, 0), act.Dispatch)
    assert sent == act.Dispatch(0, "w0/a", "w0", "a", [("cam0", 0, 0)], chain=("b", "c"))
    assert control.step(done(sent, FINE, FINE), 1.0) == [act.Deliver("cam0", 0, "video", "delivered")]
    assert control.ledger.items_done == control.ledger.items_in == {"a": 1, "b": 1, "c": 1}
    control.check_invariants()


def test_a_stage_that_fails_within_is_tried_again_by_itself_elsewhere_and_the_rest_follows_it():
    control = started(in_a_row())
    [sent] = of(arrive(control, 0), act.Dispatch)
    [again] = of(control.step(done(sent, FAILS, NOT_RUN), 1.0), act.Dispatch)
    assert (again.stage, again.worker, again.chain) == ("b", "w1", ())
    [last] = of(control.step(ev.InvocationDone(again.invocation, [1]), 1.0), act.Dispatch)
    assert (last.stage, last.chain) == ("c", ())
    assert of(control.step(ev.InvocationDone(last.invocation, [1]), 1.0), act.Deliver)[0].outcome == "delivered"
    [sent] = of(arrive(control, 1), act.Dispatch)
    assert sent.chain == ("b", "c")  # nobody is under suspicion any more


@pytest.mark.parametrize("failing", ["a", "b", "c"])
def test_what_fails_three_times_is_that_stages_failure_and_the_frame_is_not_shown(failing):
    control = started(in_a_row())
    sent, tried = of(arrive(control, 0), act.Dispatch), 0
    while sent:
        tried += failing in (sent[0].stage, *sent[0].chain)
        said = answer(control, sent[0], {failing})
        sent = of(said, act.Dispatch)
    reason = f"{failing}: ValueError: no"
    assert tried == 3
    assert of(said, act.Quarantine) == [act.Quarantine(failing, "cam0", 0, 0, "ValueError: no")]
    assert of(said, act.Deliver) == [act.Deliver("cam0", 0, "video", "failed", failing, reason)]
    control.check_invariants()


@pytest.mark.parametrize("deadly", ["a", "b", "c"])
@pytest.mark.parametrize("max_attempts", [1, 2, 3])
def test_a_stage_that_costs_the_worker_is_found_in_as_many_attempts_as_any_other(deadly, max_attempts):
    """Nobody can tell from a dead worker which stage it was at: stage by stage it shows."""
    control = started(in_a_row(workers=1, faults=FaultPlan(max_attempts=max_attempts, max_losses=9)))
    sent, deaths, now_s = of(arrive(control, 0), act.Dispatch), 0, 0.0
    said = []
    while sent:
        now_s += 100.0
        if deadly in (sent[0].stage, *sent[0].chain):
            deaths += 1
            said = control.step(ev.WorkerLost("w0", "killed"), now_s)
            sent = of(said, act.Dispatch)
            for load in of(control.step(ev.Tick(), now_s + 50), act.Load):
                sent += of(control.step(ev.ReplicaLoaded(load.replica), now_s + 50), act.Dispatch)
        else:
            assert not sent[0].chain or max_attempts > 1
            said = answer(control, sent[0], set())
            sent = of(said, act.Dispatch)
    assert deaths == max_attempts
    assert of(said, act.Quarantine) == [act.Quarantine(deadly, "cam0", 0, 0, "worker lost: killed")]
    assert control._work._suspects._known == {}


def test_what_a_chain_answers_for_a_frame_that_was_given_up_meanwhile_is_forgotten():
    control = started(in_a_row(workers=1, max_queued=1))
    [sent] = of(arrive(control, 0), act.Dispatch)
    control._fail("stage c: nobody can load it")
    [given_up] = of(control.step(done(sent, FINE, FINE), 1.0), act.Deliver)
    assert given_up.outcome == "cancelled"
    assert control.ledger.accounts["cam0", "video"].cancelled == 1
    control.check_invariants()


def test_a_straggling_chain_has_a_twin_and_the_first_answer_counts():
    control = started(in_a_row())
    usual = {"a": 0.1, "b": 0.2, "c": 0.3}
    for seq in range(8):
        [sent] = of(arrive(control, seq), act.Dispatch)
        parts = [ev.Chained([1], busy_s=usual[name]) for name in sent.chain]
        control.step(done(sent, *parts, busy_s=usual["a"]), float(seq))
    [sent] = of(control.step(ev.FramesArrived("cam0", 8, [10.0], [0.8]), 10.0), act.Dispatch)
    assert of(control.step(ev.Tick(), 11.7), act.Dispatch) == []  # three times all three are 1.8 s
    [twin] = of(control.step(ev.Tick(), 11.9), act.Dispatch)
    assert (twin.worker, twin.chain) == ("w1", ("b", "c"))
    said = control.step(done(twin, FINE, FINE), 12.0)
    assert act.Forget(sent.invocation) in said
    assert len(of(said, act.Deliver)) == 1
    late = ev.InvocationDone(sent.invocation, [], chain=[FINE, FINE])
    assert control.step(late, 12.5) == []


def test_under_an_objective_a_straggler_has_a_twin_while_that_can_come_in_time():
    for slo_s, early_s, late_s in ((None, 0.24, 0.26), (0.4, 0.09, 0.11), (8.0, 0.24, 0.26)):
        control = started(in_a_row(latency_slo_s=slo_s))
        for seq in range(8):
            [sent] = of(control.step(ev.FramesArrived("cam0", seq, [float(seq)], [0.8]), float(seq)), act.Dispatch)
            parts = [ev.Chained([1], busy_s=0.01) for _ in sent.chain]
            control.step(done(sent, *parts, busy_s=0.01), seq + 0.03)
        assert of(control.step(ev.FramesArrived("cam0", 8, [10.0], [0.8]), 10.0), act.Dispatch)
        assert of(control.step(ev.Tick(), 10.0 + early_s), act.Dispatch) == []
        [twin] = of(control.step(ev.Tick(), 10.0 + late_s), act.Dispatch)
        assert twin.worker == "w1"


def test_what_else_a_stage_reads_must_be_there_or_it_waits_for_it_by_itself():
    made = plan(
        stage("people", frames()),
        stage("a", frames(), outputs=PICTURES),
        stage("b", frames(stage="a"), boxes("people"), outputs=PICTURES, depth=2),
        sinks=(SinkPlan("video", "test/video@v1", (frames(stage="b"),)),),
        workers=1,
        max_queued=1,
    )
    made = replace(made, chains=chains_of(made))
    assert made.chains == (("a", "b"),)
    control = started(made)
    [people] = of(arrive(control, 0), act.Dispatch)
    [a] = of(control.step(ev.InvocationDone(people.invocation, [1]), 0.0), act.Dispatch)
    assert (a.stage, a.chain) == ("a", ("b",))
    control.step(done(a, FINE), 0.0)
    control = started(replace(made, max_queued=2))
    sent = of(arrive(control, 0), act.Dispatch)
    assert [(d.stage, d.chain) for d in sent] == [("people", ()), ("a", ())]


def outcomes_of(failing):
    return {(name, "cam0", seq, 0): ItemOutcome(ev.FAILED_ITEM, (), "ValueError: x") for name, seq in failing}


@settings(max_examples=examples(100), deadline=None)
@given(
    failing=st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 11))),
    workers=st.integers(1, 3),
    batch=st.integers(1, 3),
    num_frames=st.integers(0, 12),
    attempts=st.integers(1, 3),
)
def test_chains_change_no_account_and_no_failure(failing, workers, batch, num_frames, attempts):
    """In virtual time, with whatever fails: the ledger and what is put into quarantine are those of single stages."""
    each = {"configuration": Configuration(batch=batch)}
    chained = in_a_row(a=each, b=each, c=each, workers=workers, faults=FaultPlan(max_attempts=attempts))
    service = dict.fromkeys("abc", (0.001, 0.002))
    trace = SourceTrace(tuple(i / 25 for i in range(num_frames)))
    world = WorldProfile(service, {"cam0": trace}, outcomes=outcomes_of(failing))
    found = []
    for made in (chained, replace(chained, chains=())):
        kept, entries = [], []

        def observe(now_s, event, actions, kept=kept, entries=entries):
            kept += of(actions, act.Quarantine)
            entries.append((now_s, event, actions))

        result = simulate(made, world, observe=observe)
        found.append((result.ledger.to_dict(), sorted(kept, key=lambda q: (q.stage, q.seq)), result.outcome))
        assert sum(result.busy_s.values()) > 0 or num_frames == 0
    assert found[0] == found[1]


def test_a_recorded_chain_gives_every_stage_its_own_times():
    from llamapipe.control import LogEntry

    sent = act.Dispatch(0, "w0/a", "w0", "a", [("cam0", 0, 0), ("cam0", 1, 0)], chain=("b", "c"))
    answer = ev.InvocationDone(
        0,
        [1, 1],
        busy_s=0.2,
        chain=[
            ev.Chained([1, ev.FAILED_ITEM], errors={1: "x"}, busy_s=0.4),
            ev.Chained([1, ev.NOT_RUN], busy_s=0.3),
        ],
    )
    profile = profile_of_log(in_a_row(), [LogEntry(0.0, ev.Tick(), [sent]), LogEntry(1.0, answer, [])])
    assert profile.service_s == {"a": (0.0, 0.1), "b": (0.0, 0.2), "c": (0.0, 0.3)}
    assert profile.outcome("b", "cam0", 1, 0) == ItemOutcome(ev.FAILED_ITEM, (), "x")
    assert ("c", "cam0", 1, 0) not in profile.outcomes
