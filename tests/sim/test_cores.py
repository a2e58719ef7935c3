"""Cores are shared evenly by whoever wants them."""

from __future__ import annotations

import pytest

from llamapipe.sim import SourceTrace, WorldProfile, simulate
from llamapipe.sim.cores import SharedCores
from tests.control.plans import detect_only


def test_three_tasks_on_two_cores_take_half_as_long_again() -> None:
    cores = SharedCores(2)
    for name in "abc":
        cores.add(0.0, 1.0, name)
    assert cores.next_s() == pytest.approx(1.5)
    assert [cores.pop(1.5), cores.pop(1.5), cores.pop(1.5)] == ["a", "b", "c"]
    assert cores.next_s() is None
    assert cores.busy_core_s == pytest.approx(3.0)


def test_whoever_comes_later_slows_down_who_is_there() -> None:
    cores = SharedCores(1)
    cores.add(0.0, 1.0, "first")
    cores.add(0.5, 1.0, "second")  # half of the first is left, at half speed
    assert cores.next_s() == pytest.approx(1.5)
    assert cores.pop(1.5) == "first"
    assert cores.next_s() == pytest.approx(2.0)


def test_a_task_of_two_threads_wants_two_cores() -> None:
    cores = SharedCores(2)
    cores.add(0.0, 1.0, "wide", weight=2)
    cores.add(0.0, 1.0, "narrow")
    assert cores.next_s() == pytest.approx(1.5)


def test_workers_sources_and_sinks_share_the_cores() -> None:
    """100 frames of 4 + 30 + 6 ms on two cores with three workers: 2 s if nobody is ever idle."""
    world = WorldProfile(
        {"detect": (0.0, 0.030)},
        {"cam0": SourceTrace(tuple(i / 25 for i in range(100)), decode_s=0.004)},
        sink_s=0.006,
        cores=2,
    )
    result = simulate(detect_only(workers=3, max_in_flight=16), world)
    assert result.outcome == "done"
    assert result.wall_s == pytest.approx(2.0, rel=0.05)
