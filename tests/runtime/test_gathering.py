"""The engine lets messages gather where many frames come, and where nobody waits for them."""

from __future__ import annotations

from msgspec.structs import replace

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


def test_where_a_frame_has_many_stages_before_it_the_pauses_come_to_the_same_in_all() -> None:
    deep = paced()
    deep = replace(deep, stages=tuple(replace(stage, depth=4) for stage in deep.stages))
    assert fed(deep, 900).pause_s == 0.0005
