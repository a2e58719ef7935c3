"""Control under random orders of events: no frame lost or delivered twice, no deadlock, decisions that replay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llamapipe.catalog import BatchPoint
from llamapipe.control import Candidate, FaultPlan, PolicyPlan, RunPlan, SinkPlan, StagePlan, StreamPlan, replay
from llamapipe.control.chains import chains_of
from tests.control.driver import Driver
from tests.control.plans import boxes, detect_only, faces_in_people, frames, plan, stage
from tests.examples import examples

_FAULTS = FaultPlan(
    straggler_floor_s=0.5,
    hang_floor_s=2.0,
    first_hang_s=6.0,
    dead_after_s=1.0,
    backoff_s=0.1,
    max_losses=4,
    snapshot_items=4,
    snapshot_frames=2,
)


def gated(**more):
    """A filter, a condition, and a stage that looks at some frames only."""
    return plan(
        stage("gate", frames(), outputs={"frames": "frames"}, filters=True),
        stage("detect", frames(stage="gate"), depth=2, sample_fps=4.0),
        stage("track", boxes("detect"), depth=3, stateful=True),
        stage("closer", frames(stage="gate"), boxes("track"), depth=4, when="count($ops.detect.boxes) > 0", batch=2),
        **more,
    )


def sampled_join(**more):
    """Two sampled stages and a plain one that meet in one sink."""
    return plan(
        stage("a", frames(), sample_fps=3.0),
        stage("b", frames(), sample_fps=5.0, batch=3),
        stage("c", frames()),
        stage("d", boxes("a"), boxes("b", "more"), depth=2),
        **more,
    )


def still(**more):
    """A stage that holds while nothing moves, another that also looks at some frames only, and what follows them."""
    return plan(
        stage("motion", frames(), outputs={"events": "events"}, stateful=True),
        stage("detect", frames(), depth=2, hold_unless="any($ops.motion.events)"),
        stage("rarely", frames(), depth=2, hold_unless="any($ops.motion.events)", sample_fps=4.0, batch=2),
        stage("track", boxes("detect"), boxes("rarely", "more"), depth=3, stateful=True),
        stage("closer", frames(), boxes("track"), depth=4, when="count($ops.detect.boxes) > 0", batch=2),
        **more,
    )


def filters(**more):
    """Three picture filters in a row, the first of which is not always wanted, beside a tracker that the last reads."""
    return plan(
        stage("people", frames()),
        stage("track", boxes("people"), depth=2, stateful=True),
        stage("a", frames(), outputs={"frames": "frames"}, depth=2, batch=2, when="count($ops.people.boxes) > 0"),
        stage("b", frames(stage="a"), outputs={"frames": "frames"}, depth=3, batch=2, hides=True),
        stage("c", frames(stage="b"), boxes("track"), outputs={"frames": "frames"}, depth=4, batch=2),
        stage("count", frames(stage="c"), depth=5),
        sinks=(
            SinkPlan("video", "test/video@v1", (frames(stage="c"),), hides=True),
            SinkPlan("lines", "test/lines@v1", (boxes("track"), boxes("count", "more"))),
        ),
        **more,
    )


@st.composite
def chosen_among(draw: st.DrawFn, of: StagePlan) -> StagePlan:
    """The stage with up to three candidates, as right and as fast as they may be."""
    if of.stateful:
        return of
    candidates = []
    for number in range(draw(st.integers(1, 3))):
        median_s = draw(st.sampled_from([0.001, 0.02, 0.2]))
        batch = of.configuration.batch if number == 0 else draw(st.integers(1, 6))
        points = tuple(
            BatchPoint(n, median_s * (1 + n) / 2, median_s * n, median_s * n) for n in (1, batch) if n <= batch
        )
        accuracy = draw(st.sampled_from([0.6, 0.8, 1.0]))
        candidates.append(Candidate(replace(of.configuration, batch=batch), points, accuracy))
    return replace(of, candidates=tuple(candidates))


@st.composite
def changeable(draw: st.DrawFn, of: StagePlan) -> StagePlan:
    """The stage with up to two more ways to run it, taken when a change says so."""
    if of.stateful or of.filters or of.fan_out:
        return of
    batches = draw(st.lists(st.integers(1, 6), max_size=2))
    standby = tuple(Candidate(replace(of.configuration, batch=batch)) for batch in batches)
    return replace(of, standby=standby, changeable=True)


_RARE = ("cancel", " ends", " fails", "hangs", "is lost", "falls silent", "sends a bad one", "time passes")
_SHAPES = (detect_only, faces_in_people, gated, sampled_join, still, filters)


@st.composite
def plans(draw: st.DrawFn, of: tuple[Callable[..., RunPlan], ...] = _SHAPES) -> RunPlan:
    make = draw(st.sampled_from(of))
    made = make(
        workers=draw(st.integers(1, 3)),
        streams=draw(st.integers(1, 2)),
        max_in_flight=draw(st.integers(2, 12)),
        max_queued=draw(st.integers(1, 3)),
        faults=replace(_FAULTS, max_attempts=draw(st.integers(1, 3))),
    )
    kinds = draw(st.sampled_from([("thread",), ("process",), ("thread", "process")]))
    workers = tuple(replace(w, name=f"{kind}{i}", kind=kind) for i, w in enumerate(made.workers) for kind in kinds)
    stages = tuple(replace(s, placement=draw(st.sampled_from(kinds))) for s in made.stages)
    policy, slo_s = PolicyPlan(), None
    if draw(st.booleans()):
        stages = tuple(draw(chosen_among(s)) for s in stages)
        overload = st.sampled_from(["late", "degrade", "drop"])
        policy = PolicyPlan(
            name="llamapipe",
            floor=draw(st.sampled_from([0.0, 0.7, 0.95])),
            on_overload=draw(overload),
            late_commit=draw(st.booleans()),
            delayed_batching=draw(st.booleans()),
        )
        slo_s = draw(st.sampled_from([None, 0.01, 0.2, 2.0]))
    if draw(st.booleans()):
        stages = tuple(draw(changeable(s)) for s in stages)
    policies = st.sampled_from(["block", "drop-oldest", "drop-newest"])
    streams = tuple(
        StreamPlan(
            s.stream,
            draw(policies),
            max_pending=draw(st.integers(1, 4)),
            paced=draw(st.booleans()),
            awaited=draw(st.sampled_from(["", "", "others", "limit"])),
        )
        for s in made.streams
    )
    made = replace(
        made,
        workers=workers,
        stages=stages,
        streams=streams,
        policy=policy,
        latency_slo_s=slo_s,
        allotted=draw(st.integers(0, 2)),
    )
    return replace(made, chains=chains_of(made)) if draw(st.booleans()) else made


def play(run_plan: RunPlan, choices: list[tuple[int, int]]) -> Driver:
    driver = Driver(run_plan)
    for which, detail in choices:
        moves = driver.moves()
        if not moves:
            break
        moves[which % len(moves)][1](detail)
    driver.finish()
    return driver


@settings(max_examples=examples(300), deadline=None)
@given(plans(), st.lists(st.tuples(st.integers(0, 199), st.integers(0, 199)), max_size=120))
def test_every_frame_is_accounted_for_once_and_the_run_ends(run_plan: RunPlan, choices: list[tuple[int, int]]) -> None:
    check(play(run_plan, choices))


@settings(max_examples=examples(150), deadline=None)
@given(plans((filters,)), st.integers(0, 1 << 32))
def test_so_is_every_frame_of_a_chain_in_long_runs(run_plan: RunPlan, seed: int) -> None:
    driver = Driver(replace(run_plan, chains=chains_of(run_plan)))
    driver.load()
    rng = np.random.default_rng(seed)
    for _ in range(300):
        moves = driver.moves()
        if rng.random() < 0.98:  # what ends a run or costs a worker is rare
            moves = [move for move in moves if not move[0].endswith(_RARE)]
        if moves:
            moves[rng.integers(len(moves))][1](int(rng.integers(200)))
    driver.finish()
    check(driver)


def check(driver: Driver) -> None:
    """Every frame is accounted for once, and the log says all that was decided."""
    run_plan, control = driver.plan, driver.control
    control.ledger.check()
    control.check_invariants()
    for stream, decoded in control.ledger.decoded.items():
        assert [driver.released[stream, seq] for seq in range(decoded)] == [1] * decoded
        for sink in run_plan.sinks:
            state = driver.sinks[stream, sink.name]
            if not state.failed:
                assert [d.seq for d in state.delivered] == list(range(decoded))
                account = control.ledger.accounts[stream, sink.name]
                assert account.delivered == sum(d.outcome == "delivered" for d in state.delivered)
    replay(driver.log)
