"""The engine lets messages gather where many frames come, and where nobody waits for them."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llamapipe.control.actions import Dispatch
from llamapipe.runtime.gathering import Gathering
from tests.control.plans import detect_only


def fed(plan, per_second: float, seconds: float = 3.0) -> Gathering:
    gathering, now_s = Gathering(plan), 0.0
    while now_s < seconds:
        gathering.took(1, now_s)
        now_s += 1 / per_second
    return gathering


def paced(**more):
    plan = detect_only(streams=3, drop_policy="drop-oldest", **more)
    return replace(plan, streams=tuple(replace(stream, paced=True) for stream in plan.streams))


def test_what_few_frames_send_is_taken_at_once_and_what_many_send_after_a_pause() -> None:
    assert fed(paced(), 75).pause_s == 0.0
    assert fed(paced(), 900).pause_s == 0.002
    assert Gathering(paced()).pause_s == 0.0  # nothing has come yet


def test_a_pause_that_gathers_does_not_end_itself() -> None:
    gathering = fed(paced(), 900)
    for turn in range(1, 500):
        gathering.took(2, 3.0 + 0.0025 * turn)
    assert gathering.pause_s == 0.002


def test_a_tight_objective_allows_a_small_part_of_itself() -> None:
    assert fed(paced(latency_slo_s=0.03), 900).pause_s == 0.02 * 0.03


def test_files_that_are_read_as_fast_as_they_go_are_never_kept_waiting() -> None:
    assert fed(detect_only(streams=3), 2000).pause_s == 0.0


def given(worker: str, stage: str = "detect", chain: tuple[str, ...] = ()) -> Dispatch:
    return Dispatch(0, f"{worker}/{stage}", worker, stage, [("cam0", 0, 0)], chain=chain)


def working(gathering: Gathering, seconds: float = 0.01) -> Gathering:
    """Two workers have answered an invocation of so many seconds each, at time 1."""
    for worker in ("w0", "w1"):
        gathering.answered(given(worker), 1.0 - seconds, 1.0)
    return gathering


def test_a_job_rests_for_less_than_every_worker_has_in_hand() -> None:
    both = [given("w0"), given("w1")]
    gathering = working(Gathering(detect_only()))
    assert gathering.rest_s(both, 1.0) == 0.005  # at most
    assert gathering.rest_s(both, 1.006) == pytest.approx(0.6 * 0.004)
    assert gathering.rest_s([*both, given("w1")], 1.006) == pytest.approx(0.6 * 0.004)  # the other one counts
    assert gathering.rest_s([*both, *both], 1.006) == 0.005
    assert gathering.rest_s(both, 1.0095) == 0.0  # not worth it
    assert gathering.rest_s([*both, *both], 1.5) == 0.005  # what they are at takes longer, but more is left to do then
    assert working(Gathering(detect_only()), 0.0005).rest_s(both, 1.0) == 0.0


def test_a_job_does_not_rest_while_somebody_has_nothing_to_do() -> None:
    gathering = working(Gathering(detect_only()))
    assert gathering.rest_s([], 1.0) == gathering.rest_s([given("w0")], 1.0) == 0.0
    assert gathering.rest_s([given("w0"), given("w1"), given("w2")], 1.0) == 0.0  # nobody knows yet how long it takes
    assert gathering.rest_s([given("w0"), given("w1", "track")], 1.0) == 0.0  # nor what that stage takes
    assert Gathering(detect_only()).rest_s([given("w0")], 1.0) == 0.0
    gathering.answered(given("w0"), 1.6, 1.61)
    assert gathering.rest_s([given("w0")], 1.61) == 0.0
    assert gathering.rest_s([given("w0")], 1.61) == 0.005  # the other one has not been needed for long


def test_what_is_expected_follows_quicker_invocations_quickly() -> None:
    gathering = working(Gathering(detect_only()))
    gathering.answered(given("w0"), 1.0, 1.002)
    assert gathering.rest_s([given("w0"), given("w1")], 1.0) == pytest.approx(0.6 * 0.006)
    chained = given("w0", chain=("draw",))
    gathering.answered(chained, 1.0, 1.02)  # apart from single stages
    assert gathering.rest_s([given("w0"), given("w1")], 1.0) == pytest.approx(0.6 * 0.006)


def test_only_jobs_whose_workers_have_something_in_hand_rest() -> None:
    both = [given("w0"), given("w1")]
    assert working(Gathering(paced())).rest_s(both, 1.0) == 0.0
    assert working(Gathering(detect_only(drop_policy="drop-oldest"))).rest_s(both, 1.0) == 0.0
    assert working(Gathering(detect_only(max_queued=1))).rest_s(both, 1.0) == 0.0
    assert working(Gathering(detect_only(latency_slo_s=0.05))).rest_s(both, 1.0) == pytest.approx(0.001)


def test_where_a_frame_has_many_stages_before_it_the_pauses_come_to_the_same_in_all() -> None:
    deep = paced()
    deep = replace(deep, stages=tuple(replace(stage, depth=4) for stage in deep.stages))
    assert fed(deep, 900).pause_s == 0.0005
