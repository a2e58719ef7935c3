"""Per invocation the cheapest candidate that is right enough and fast enough, driven in virtual time."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from llamapipe.catalog import BatchPoint, Configuration
from llamapipe.catalog.variant import Variant
from llamapipe.control import Candidate, Controller, JobPlan, PolicyPlan, RunPlan
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.sim import SimResult, SourceTrace, WorldProfile, simulate
from llamapipe.sim.profile import ItemOutcome
from tests.control.plans import boxes, detect_only, frames, plan, stage

POLICY = PolicyPlan(name="llamapipe")


def candidate(fixed_s: float, item_s: float, *, batch: int = 1, accuracy: float = 1.0, price: float = 1.0) -> Candidate:
    sizes = [n for n in (1, 2, 4, 8, 16) if n <= batch]
    points = tuple(BatchPoint(n, fixed_s + n * item_s, 1.1 * (fixed_s + n * item_s), 0.0) for n in sizes)
    return Candidate(Configuration(Variant("net", "onnxruntime"), batch), points, accuracy, price)


def among(*candidates: Candidate, policy: PolicyPlan = POLICY, **more: object) -> RunPlan:
    made = detect_only(batch=candidates[0].max_batch, **more)
    return replace(made, stages=(replace(made.stages[0], candidates=candidates),), policy=policy)


def world(*services: tuple[float, float], n: int = 100, fps: float = 25.0, paced: bool = True) -> WorldProfile:
    names = ["detect"] + [f"detect#{i}" for i in range(1, len(services))]
    trace = SourceTrace(tuple(1.0 + i / fps for i in range(n)), paced=paced)
    return WorldProfile(dict(zip(names, services, strict=True)), {"cam0": trace})


def run(run_plan: RunPlan, profile: WorldProfile) -> tuple[SimResult, Counter[int], list[int]]:
    """The result, items by candidate, and the sizes of all invocations."""
    items: Counter[int] = Counter()
    sizes: list[int] = []

    def observe(_t: float, _event: object, actions: list[act.Action]) -> None:
        for action in actions:
            if isinstance(action, act.Dispatch):
                items[action.choice] += len(action.items)
                sizes.append(len(action.items))

    return simulate(run_plan, profile, observe=observe), items, sizes


def test_the_cheapest_that_meets_the_slack_is_chosen() -> None:
    slow_cheap, fast_dear = candidate(0, 0.300, price=1), candidate(0, 0.020, price=100)
    services = ((0, 0.300), (0, 0.020))
    _, loose, _ = run(among(slow_cheap, fast_dear, workers=8, latency_slo_s=1.0), world(*services))
    _, tight, _ = run(among(slow_cheap, fast_dear, workers=8, latency_slo_s=0.1), world(*services))
    assert loose[0] == 100
    assert tight[1] == 100


def test_the_floor_rules_out_what_is_not_right_enough() -> None:
    poor, good = candidate(0, 0.005, accuracy=0.6), candidate(0, 0.020, accuracy=0.95)
    services = ((0, 0.005), (0, 0.020))
    _, items, _ = run(among(poor, good, policy=replace(POLICY, floor=0.9), latency_slo_s=0.2), world(*services))
    assert items == {1: 100}


def test_a_burst_goes_to_the_faster_one_and_comes_back_to_the_cheaper_one() -> None:
    cheap, fast = candidate(0, 0.060, price=1), candidate(0, 0.020, price=4)
    times = [1 + i / 10 for i in range(30)] + [4 + i / 60 for i in range(60)] + [6 + i / 10 for i in range(30)]
    profile = WorldProfile(
        {"detect": (0, 0.060), "detect#1": (0, 0.020)}, {"cam0": SourceTrace(tuple(times), paced=True)}
    )
    result, items, _ = run(among(cheap, fast, workers=2, latency_slo_s=0.2, max_in_flight=64), profile)
    assert items[0] >= 60
    assert items[1] >= 20
    assert sorted(result.latencies_s)[int(0.95 * len(result.latencies_s))] <= 0.2


def test_feedback_leaves_a_candidate_that_is_slower_than_its_profile() -> None:
    """It was profiled at 20 ms and takes 120: only with feedback is the dearer one found to be needed."""
    lies, honest = candidate(0, 0.020, price=1), candidate(0, 0.030, price=3)
    services = ((0, 0.120), (0, 0.030))
    with_it, _, _ = run(among(lies, honest, workers=4, latency_slo_s=0.1), world(*services, n=300))
    without = replace(POLICY, feedback=False)
    blind, _, _ = run(among(lies, honest, workers=4, latency_slo_s=0.1, policy=without), world(*services, n=300))
    late = [sum(latency > 0.1 for latency in result.latencies_s) for result in (with_it, blind)]
    assert late[0] < 30
    assert late[1] > 250


def test_batches_are_waited_for_while_that_pays_and_never_beyond_the_slack() -> None:
    """20 ms an invocation and 1 ms an item: eight together cost a fifth."""
    batching = candidate(0.020, 0.001, batch=8)
    services = ((0.020, 0.001),)
    patient, _, sizes = run(among(batching, latency_slo_s=0.5), world(*services, fps=50))
    hurried, _, hurried_sizes = run(
        among(batching, latency_slo_s=0.5, policy=replace(POLICY, delayed_batching=False)), world(*services, fps=50)
    )
    tight, _, tight_sizes = run(among(batching, latency_slo_s=0.035), world(*services, fps=50))
    assert sum(sizes) / len(sizes) >= 5
    assert sum(hurried_sizes) / len(hurried_sizes) <= 2
    assert sum(patient.busy_s.values()) < 0.5 * sum(hurried.busy_s.values())
    assert max(patient.latencies_s) <= 0.5
    assert max(tight.latencies_s) <= 0.035 + 1e-6
    assert max(tight_sizes) <= 2


def test_a_batch_is_not_waited_for_at_the_end_of_the_stream() -> None:
    batching = candidate(0.020, 0.001, batch=8)
    result, _, _ = run(among(batching, latency_slo_s=5.0), world((0.020, 0.001), n=5, fps=10))
    assert result.outcome == "done"
    assert result.wall_s < 2.5


@pytest.mark.parametrize("on_overload", ["late", "degrade", "drop"])
def test_overload_has_the_outcome_that_was_asked_for(on_overload: str) -> None:
    """Twice as many frames as the good candidate can do."""
    good, poor = candidate(0, 0.080, accuracy=1.0), candidate(0, 0.010, accuracy=0.5)
    policy = replace(POLICY, floor=0.9, second_floor=0.4, on_overload=on_overload)
    result, items, _ = run(
        among(good, poor, workers=1, latency_slo_s=0.3, policy=policy, max_in_flight=1000),
        world((0, 0.080), (0, 0.010), n=200),
    )
    account = result.ledger.accounts["cam0", "out"]
    late = sum(latency > 0.3 for latency in result.latencies_s)
    if on_overload == "late":
        assert account.delivered == 200
        assert items == {0: 200}
        assert late > 100
    elif on_overload == "degrade":
        assert account.delivered == 200
        assert items[1] > 50
        assert late == 0
    else:
        assert account.delivered + account.dropped["late"] == 200
        assert 80 <= account.delivered <= 120
        assert late <= 2


def test_a_job_takes_the_cheap_one_when_it_has_the_time_and_the_fast_one_when_not() -> None:
    cheap, fast = candidate(0, 0.050, price=1), candidate(0, 0.010, price=10)
    services = ((0, 0.050), (0, 0.010))
    for deadline_s, expected in ((10.0, 0), (2.0, 1)):
        job = JobPlan(0.0, deadline_s, {"cam0": 100})
        result, items, _ = run(among(cheap, fast, workers=1, job=job), world(*services, paced=False))
        assert result.wall_s <= deadline_s
        assert items[expected] >= 60, (deadline_s, items)


def test_a_job_that_is_behind_its_pace_drops_nothing() -> None:
    """Far too slow for its deadline: all of it is late, and all of it is done."""
    job = JobPlan(0.0, 1.0, {"cam0": 100})
    policy = replace(POLICY, on_overload="drop")
    result, _, _ = run(among(candidate(0, 0.050), workers=1, job=job, policy=policy), world((0, 0.050), paced=False))
    assert result.ledger.accounts["cam0", "out"].delivered == 100


def test_every_decision_says_why() -> None:
    cheap, fast = candidate(0, 0.060, price=1), candidate(0, 0.020, price=4)
    services = ((0, 0.060), (0, 0.020))
    calm, _, _ = run(among(cheap, fast, workers=8, latency_slo_s=0.5), world(*services, fps=10))
    assert calm.decided["detect"] == {(0, "cheapest"): 100}
    tight, _, _ = run(among(cheap, fast, workers=8, latency_slo_s=0.05), world(*services, fps=10))
    assert tight.decided["detect"] == {(1, "slack-short"): 100}
    alone, _, _ = run(among(fast, latency_slo_s=0.5), world(services[1], fps=10))
    assert alone.decided["detect"] == {(0, "only-way"): 100}


def test_waits_and_the_ways_out_of_overload_are_told_apart() -> None:
    batching = candidate(0.020, 0.001, batch=8)
    patient, _, sizes = run(among(batching, latency_slo_s=0.5), world((0.020, 0.001), fps=50))
    told = patient.decided["detect"]
    assert told[-1, "wait-batch"] > 0
    assert sum(times for (choice, _), times in told.items() if choice >= 0) == len(sizes)
    good, poor = candidate(0, 0.080, accuracy=1.0), candidate(0, 0.010, accuracy=0.5)
    for on_overload in ("late", "degrade", "drop"):
        policy = replace(POLICY, floor=0.9, second_floor=0.4, on_overload=on_overload)
        made = among(good, poor, workers=1, latency_slo_s=0.3, policy=policy, max_in_flight=1000)
        result, _, sizes = run(made, world((0, 0.080), (0, 0.010), n=200))
        told = result.decided["detect"]
        assert (
            told[1 if on_overload == "degrade" else -1 if on_overload == "drop" else 0, f"overload-{on_overload}"] > 10
        )
        assert sum(times for (choice, _), times in told.items() if choice >= 0) == len(sizes)


def test_the_device_of_a_candidate_decides_who_loads_it() -> None:
    cpu = candidate(0, 0.050)
    gpu = replace(cpu, configuration=replace(cpu.configuration, variant=Variant("net", "tensorrt", "cuda:0")), price=20)
    made = among(cpu, gpu, workers=2, latency_slo_s=0.08)
    workers = (made.workers[0], replace(made.workers[1], device="cuda:0"))
    seen: set[tuple[str, int]] = set()
    simulate(
        replace(made, workers=workers),
        world((0, 0.050), (0, 0.005), fps=50),
        observe=lambda _t, _e, actions: seen.update(
            (a.worker, a.choice) for a in actions if isinstance(a, act.Load | act.Dispatch)
        ),
    )
    assert seen == {("w0", 0), ("w1", 1)}


def test_time_is_shared_with_the_stages_below() -> None:
    """100 ms for two stages of 40 ms and 10 ms in their cheapest way: the first may not take it all."""
    slow, fast = candidate(0, 0.090, price=1), candidate(0, 0.040, price=5)
    made = plan(
        stage("detect", frames()), stage("draw", frames(), depth=2, when="count($ops.detect.boxes) >= 0"), workers=4
    )
    stages = (
        replace(made.stages[0], candidates=(fast, slow)),
        replace(made.stages[1], candidates=(candidate(0, 0.030),)),
    )
    profile = WorldProfile(
        {"detect": (0, 0.040), "detect#1": (0, 0.090), "draw": (0, 0.030)},
        {"cam0": SourceTrace(tuple(1 + i / 10 for i in range(50)), paced=True)},
    )
    result, _, _ = run(replace(made, stages=stages, policy=POLICY, latency_slo_s=0.1), profile)
    assert max(result.latencies_s) <= 0.1


@pytest.mark.parametrize(("on_overload", "ends"), [("late", True), ("drop", True), ("degrade", False)])
def test_a_stage_fails_where_nothing_right_enough_can_be_loaded(on_overload: str, ends: bool) -> None:
    """Not for ever waited for; and what is less right serves where the pipeline allows that."""
    poor, good = candidate(0, 0.005, accuracy=0.6), candidate(0, 0.020, accuracy=0.95)
    policy = replace(POLICY, floor=0.9, on_overload=on_overload)
    control = Controller(among(good, poor, policy=policy, workers=1, latency_slo_s=0.2))
    control.step(ev.Start(), 0.0)
    control.step(ev.ReplicaLoaded("w0/detect#1"), 1.0)
    actions = control.step(ev.ReplicaFailed("w0/detect", "no such file"), 2.0)
    assert any(isinstance(action, act.StopSource) for action in actions) is ends


class Hiccup(WorldProfile):
    """The first candidate takes four times as long for two seconds."""

    def work_s(self, dispatch: act.Dispatch, now_s: float) -> float:
        slow = dispatch.choice == 0 and 6 < now_s < 8
        return 0.25 if slow else WorldProfile.work_s(self, dispatch, now_s)


def test_a_candidate_that_was_slow_for_a_moment_is_tried_again() -> None:
    times = tuple(1 + i / 10 for i in range(600))
    profile = Hiccup({"detect": (0, 0.06), "detect#1": (0, 0.02)}, {"cam0": SourceTrace(times, paced=True)})
    after: Counter[int] = Counter()

    def observe(now_s: float, _event: object, actions: list[act.Action]) -> None:
        after.update(a.choice for a in actions if isinstance(a, act.Dispatch) and now_s > 15)

    made = among(candidate(0, 0.06), candidate(0, 0.02, price=4), workers=4, latency_slo_s=0.2)
    simulate(made, profile, observe=observe)
    assert after[0] > 0.95 * after.total()


def test_one_that_stays_slow_is_tried_ever_more_seldom() -> None:
    """Profiled at 60 ms, it takes 250: what that costs is a few late frames in a minute."""
    services = ((0, 0.250), (0, 0.020))
    made = among(candidate(0, 0.06), candidate(0, 0.02, price=4), workers=4, latency_slo_s=0.2)
    result, items, _ = run(made, world(*services, n=1200, fps=10))
    assert items[0] < 40
    assert sum(latency > 0.2 for latency in result.latencies_s) < 40


def test_a_frame_of_which_some_items_are_out_has_its_time_left_for_the_others() -> None:
    """Ten crops a frame in batches of four, and two seconds for it: the second batch is no overload."""
    good, poor = candidate(0.02, 0.005, batch=4), candidate(0, 0.002, batch=4, accuracy=0.5)
    faces = stage("faces", frames(stage="crop"), level="crop", depth=3, batch=4)
    made = plan(
        stage("people", frames()),
        stage("crop", frames(), boxes("people"), outputs={"frames": "frames"}, fan_out=True, depth=2),
        replace(faces, candidates=(good, poor)),
        stage("blur", frames(), boxes("faces"), outputs={"frames": "frames"}, depth=4),
        workers=4,
    )
    policy = replace(POLICY, floor=0.9, second_floor=0.4, on_overload="degrade")
    made = replace(made, latency_slo_s=2.0, policy=policy)
    services = {
        "people": (0, 0.001),
        "crop": (0, 0.001),
        "faces": (0.02, 0.005),
        "faces#1": (0, 0.002),
        "blur": (0, 0.01),
    }
    trace = SourceTrace(tuple(1 + i / 5 for i in range(50)), paced=True)
    found = {("crop", "cam0", i, 0): ItemOutcome(10) for i in range(50)}
    result = simulate(made, WorldProfile(services, {"cam0": trace}, outcomes=found))
    assert {choice for choice, _ in result.decided["faces"]} <= {-1, 0}  # the good one, or waiting


def test_work_that_is_late_is_not_given_to_who_would_be_at_it_longest() -> None:
    """One fast worker and six slow ones, and bursts that are late for all: the fast one has done them all sooner."""
    slow, fast = candidate(0, 0.900), candidate(0.010, 0.002, batch=16)
    slow = replace(slow, configuration=replace(slow.configuration, variant=Variant("net", "onnxruntime", "cpu")))
    fast = replace(fast, configuration=replace(fast.configuration, variant=Variant("net", "tensorrt", "cuda:0")))
    made = among(slow, fast, workers=7, latency_slo_s=0.02, max_in_flight=64)
    workers = (*made.workers[:6], replace(made.workers[6], device="cuda:0"))
    times = [1 + i // 20 for i in range(200)]
    profile = WorldProfile(
        {"detect": (0, 0.900), "detect#1": (0.010, 0.002)}, {"cam0": SourceTrace(tuple(map(float, times)), paced=True)}
    )
    result, items, _ = run(replace(made, workers=workers), profile)
    assert items == {1: 200}
    assert max(result.latencies_s) < 0.1
