"""The catalogue is told only of invocations that compare with what the profiler measures."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from llamapipe.catalog import BatchPoint, Configuration, Profile, Variant
from llamapipe.clock import SystemClock
from llamapipe.control import RunPlan, StagePlan
from llamapipe.control import actions as act
from llamapipe.inference import open_catalogue
from llamapipe.session.observing import Neighbours, Observations, not_comparable, uses_profiles
from llamapipe.wire import Done

VARIANT = Variant("yolox-nano", "openvino", "cpu", "fp32", (416, 416), 1)


def observations(level: str = "") -> Observations:
    stage = StagePlan("detect", "detect", (), {}, Configuration(VARIANT), level=level)
    other = StagePlan("draw", "annotate", (), {}, Configuration())
    return Observations(RunPlan("p", (stage, other), (), (), ()))


def saw(seen: Observations, start_s: float, end_s: float, stage: str = "detect", failed: int = 0) -> None:
    dispatch = act.Dispatch(0, f"w/{stage}", "w", stage, [("s", 0, 0)])
    seen.saw(dispatch, Done(0, [], start_s, end_s), failed)


def test_those_that_follow_at_once_count_and_the_first_does_not() -> None:
    seen = observations()
    for i in range(17):
        saw(seen, i * 1.0, i + 0.95)
    assert seen.ripe == {(VARIANT.name, 1): [pytest.approx(0.95)] * 16}


def test_cold_failed_and_few_ones_do_not_count() -> None:
    seen = observations()
    for i in range(40):
        saw(seen, i * 1.0, i + 0.5)  # half a second of nothing before each
    for i in range(40):
        saw(seen, 100.0 + i, 101.0 + i, stage=("detect", "draw")[i % 2])
    for i in range(40):
        saw(seen, 200.0 + i, 201.0 + i, failed=1)
    assert seen.ripe == {}


def test_crops_do_not_count() -> None:
    seen = observations(level="crops")
    for i in range(40):
        saw(seen, i * 1.0, i + 1.0)
    assert seen.ripe == {}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, ""),
        ({"workers": 2}, "2 workers"),
        ({"threads": 3}, "3 threads share 2 cores"),
        ({"lost": 1}, "lost"),
        ({"foreign": 0.2}, "20% of the cores"),
    ],
)
def test_a_run_that_shares_cores_says_nothing(given: dict[str, int], why: str) -> None:
    told = not_comparable(**{"workers": 1, "threads": 2, "cores": 2, "foreign": 0.0, "lost": 0, **given})
    assert why in told
    assert bool(why) == bool(told)


def test_profiles_of_measured_variants_are_refined_and_others_left(tmp_path: Path) -> None:
    env = {"LLAMAPIPE_CACHE": str(tmp_path)}
    seen = observations()
    for i in range(65):
        saw(seen, i * 1.0, i + 1.0)
    assert not uses_profiles(env)
    with open_catalogue(env):
        pass
    assert uses_profiles(env)
    assert not uses_profiles({**env, "LLAMAPIPE_PROFILES": "off"})
    assert seen.tell(env) == ({}, "")  # nobody has measured it
    with open_catalogue(env) as catalogue:
        catalogue.put(Profile(VARIANT, catalogue.hardware, points=(BatchPoint(1, 0.5, 0.6, 0.5, 64),)))
    assert seen.tell(env) == ({VARIANT.name: 64}, "")
    with open_catalogue(env) as catalogue:
        profile = catalogue.profile(VARIANT.name)
        assert profile is not None
        assert profile.points[0].median_s == pytest.approx(0.75)  # as many were observed as it was measured by
        assert profile.points[0].count == 128


def test_a_catalogue_that_cannot_be_had_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    seen = observations()
    for i in range(65):
        saw(seen, i * 1.0, i + 1.0)
    told, note = seen.tell({"LLAMAPIPE_CACHE": str(tmp_path / "file")})
    assert told == {}
    assert "could not be kept" in note


def test_what_others_take_is_a_share_although_a_run_is_held_on_fewer_cores_meanwhile() -> None:
    usable = sorted(os.sched_getaffinity(0))
    neighbours = Neighbours(SystemClock(), usable, len(usable))
    os.sched_setaffinity(0, usable[:1])
    try:
        time.sleep(0.05)
        assert 0 <= neighbours.share() <= 1.5  # of ticks of 10 ms
    finally:
        os.sched_setaffinity(0, usable)
