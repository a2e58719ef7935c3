"""A steady rate is averaged, a jump is believed at once, chance is not."""

from __future__ import annotations

import numpy as np

from llamapipe.control.serving.forecast import Forecast


def fed(times) -> Forecast:
    forecast = Forecast()
    for at_s in times:
        forecast.arrived(1, at_s)
    return forecast


def poisson(rate, first_s, last_s, seed=0):
    gaps = np.random.default_rng(seed).exponential(1 / rate, int((last_s - first_s) * rate * 3))
    return [at_s for at_s in first_s + np.cumsum(gaps) if at_s < last_s]


def test_a_steady_rate_is_known_within_chance() -> None:
    levels = [fed(poisson(20, 0, 10, seed)).level(10.0) for seed in range(30)]
    assert abs(np.mean(levels) - 20) < 3


def test_a_jump_is_believed_within_a_quarter_of_a_second() -> None:
    levels = [fed([*poisson(10, 0, 10, seed), *poisson(50, 10, 10.25, seed + 99)]).level(10.25) for seed in range(30)]
    assert np.mean([level > 25 for level in levels]) > 0.8


def test_nothing_for_seconds_is_no_rate() -> None:
    assert fed(poisson(20, 0, 5)).level(15.0) == 0.0


def test_a_rising_rate_is_expected_to_go_on_rising_and_a_falling_one_is_not_trusted() -> None:
    rising = fed(np.sqrt(np.arange(1, 400) / 10))  # 20 t a second
    assert rising.expected(6.3, 1.0) > rising.level(6.3) + 5
    falling = fed([*poisson(60, 0, 2), *poisson(10, 2, 4)])
    assert falling.expected(4.0, 1.0) == falling.level(4.0)
