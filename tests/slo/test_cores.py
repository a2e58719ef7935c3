"""On how few cores an objective is met."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llamapipe.slo import LateBudget, cores_for_deadline, cores_for_rate, workers_on

POSITIVE = st.floats(1e-4, 1e3)


def test_one_core_does_for_a_camera_and_two_for_four() -> None:
    assert cores_for_rate(0.01, 25.0, 8) == 1
    assert cores_for_rate(0.01, 100.0, 8) == 2
    assert cores_for_rate(0.01, 1e6, 8) == 8


def test_a_job_takes_no_more_cores_than_its_deadline_asks_for() -> None:
    assert cores_for_deadline(0.01, 800, 10.0, 4) == 1
    assert cores_for_deadline(0.01, 1000, 10.0, 4) == 2
    assert cores_for_deadline(0.01, 1000, -1.0, 4) == 4  # it is late already: all there are
    assert cores_for_deadline(0.01, 0, 10.0, 4) == 1


@given(POSITIVE, POSITIVE, st.integers(1, 64))
def test_cores_are_some_of_those_there_are_and_more_work_takes_no_fewer(
    core_s: float, rate: float, usable: int
) -> None:
    cores = cores_for_rate(core_s, rate, usable)
    assert 1 <= cores <= usable
    assert cores_for_rate(2 * core_s, rate, usable) >= cores
    cores = cores_for_deadline(core_s, int(rate), 10.0, usable)
    assert 1 <= cores <= usable
    assert cores_for_deadline(core_s, int(rate), 5.0, usable) >= cores


def test_a_late_budget_bears_the_first_frame_and_less_than_the_objective_lets_be_late() -> None:
    budget = LateBudget(0.1, 0.95)
    budget.add(0.5)
    assert not budget.spent
    for _ in range(9):
        budget.add(0.05)
    assert not budget.spent
    budget.add(0.5)
    assert budget.spent  # 2 of 11
    for _ in range(89):
        budget.add(0.05)
    assert not budget.spent  # 2 of 100


def test_what_was_well_for_long_is_no_credit() -> None:
    budget = LateBudget(0.1, 0.95)
    for _ in range(100_000):
        budget.add(0.05)
    for _ in range(14):
        budget.add(0.5)
    assert budget.spent


def test_a_second_worker_stands_by_only_where_time_is_short() -> None:
    assert workers_on(1, latency=True) == 2
    assert workers_on(2, latency=False) == 2
