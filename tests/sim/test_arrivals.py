"""When requests come, by each process."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest

from llamapipe.errors import UsageError
from llamapipe.sim.arrivals import Rate, constant, diurnal, poisson, ramp, recorded, spike, steady, zipf


def test_constant_arrivals_are_a_gap_apart() -> None:
    times_s = list(constant(steady(4.0, 2.0)))
    assert times_s == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0])


def test_constant_arrivals_follow_a_rate_that_changes() -> None:
    times_s = list(constant(ramp(0.0, 20.0, 10.0)))
    assert abs(len(times_s) - 100) <= 1
    assert times_s[50] == pytest.approx(10 * (51 / 100) ** 0.5, abs=0.02)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (steady(50.0, 60.0), 3000.0),
        (ramp(10.0, 90.0, 60.0), 3000.0),
        (spike(20.0, 200.0, 60.0, start_s=20.0, length_s=10.0), 3000.0),
        (diurnal(10.0, 90.0, 60.0, period_s=30.0), 3000.0),
    ],
)
def test_poisson_arrivals_are_as_many_as_the_rate_says(rate: Rate, expected: float) -> None:
    times_s = list(poisson(rate, seed=7))
    assert abs(len(times_s) - expected) < 4 * expected**0.5
    assert all(a < b for a, b in pairwise(times_s))
    assert times_s[-1] < rate.duration_s


def test_poisson_gaps_vary_as_much_as_their_mean() -> None:
    gaps_s = [b - a for a, b in pairwise(poisson(steady(100.0, 100.0), seed=1))]
    mean = sum(gaps_s) / len(gaps_s)
    deviation = (sum((gap - mean) ** 2 for gap in gaps_s) / len(gaps_s)) ** 0.5
    assert deviation / mean == pytest.approx(1.0, abs=0.05)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    rate = spike(5.0, 50.0, 20.0, start_s=5.0, length_s=5.0)
    assert list(poisson(rate, seed=3)) == list(poisson(rate, seed=3))
    assert list(poisson(rate, seed=3)) != list(poisson(rate, seed=4))


def test_a_spike_is_there_while_it_lasts() -> None:
    times_s = list(poisson(spike(10.0, 100.0, 30.0, start_s=10.0, length_s=10.0), seed=2))
    inside = sum(10 <= at_s < 20 for at_s in times_s)
    assert inside > 4 * (len(times_s) - inside)


def test_a_day_begins_at_its_low_and_peaks_half_a_period_later() -> None:
    rate = diurnal(10.0, 30.0, 100.0, period_s=40.0)
    assert [rate.at(t_s) for t_s in (0.0, 10.0, 20.0, 40.0)] == pytest.approx([10.0, 20.0, 30.0, 10.0])


def test_a_trace_is_played_from_its_first_arrival_as_fast_as_asked() -> None:
    assert list(recorded([100.0, 101.0, 101.0, 104.0], speed=2.0)) == [0.0, 0.5, 0.5, 2.0]
    assert list(recorded([0.0, 1.0, 2.0], duration_s=1.5)) == [0.0, 1.0]


def test_a_trace_that_goes_back_is_refused() -> None:
    with pytest.raises(UsageError, match=r"time 3 of the trace is 1 s, after 2 s"):
        list(recorded([0.0, 2.0, 1.0]))


def test_names_are_asked_for_by_their_rank() -> None:
    names = list(islice(zipf(("a", "b", "c", "d"), seed=5, exponent=1.0), 12_000))
    counts = [names.count(name) for name in "abcd"]
    assert [round(count / counts[0], 1) for count in counts] == pytest.approx([1.0, 0.5, 0.3, 0.2], abs=0.1)


def test_a_rate_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="rate has to be above 0, got 0"):
        steady(0.0, 10.0)
    with pytest.raises(UsageError, match="low rate 9 is above"):
        diurnal(9.0, 3.0, 10.0, period_s=5.0)
    with pytest.raises(UsageError, match="nothing to choose from"):
        next(zipf((), seed=1))
