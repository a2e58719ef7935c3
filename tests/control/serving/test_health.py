"""INTERFERED by what the profile's own spread makes unlikely, and back again."""

from __future__ import annotations

import numpy as np

from llamapipe.control.serving.health import Health, Normal


def test_what_the_profile_explains_is_no_interference() -> None:
    generator = np.random.default_rng(0)
    health = Health(noise=0.1, spread=0.03)
    for number in range(5000):
        health.observe(0.02 * float(np.exp(generator.normal() * 0.1)), 0.02, number * 0.02)
    assert not health.interfered


def test_one_outlier_decides_nothing_and_a_lasting_slowdown_is_told_after_two_or_three() -> None:
    health = Health(noise=0.05, spread=0.02)
    health.observe(2.0, 0.02, 0.0)
    assert not health.interfered
    for number in range(1, 3):
        health.observe(0.05, 0.02, number * 0.1)
    assert health.interfered
    assert health.slowdown > 1.5


def test_a_noisier_profile_takes_more_to_convince() -> None:
    def needed(noise: float) -> int:
        health = Health(noise=noise, spread=0.0)
        for number in range(1, 200):
            health.observe(0.03, 0.02, number * 0.1)
            if health.interfered:
                return number
        return 200

    assert needed(0.05) < needed(0.2)


def test_it_ends_when_it_is_as_fast_as_profiled_again() -> None:
    health = Health(noise=0.05, spread=0.02)
    for number in range(5):
        health.observe(0.06, 0.02, number * 0.1)
    assert health.interfered
    for number in range(8):
        health.observe(0.02, 0.02, 1 + number * 0.1)
    assert not health.interfered
    assert health.slowdown < 1.1


def test_an_invocation_that_does_not_end_tells_by_itself() -> None:
    health = Health(noise=0.05, spread=0.02)
    assert not health.overdue(0.03, 0.02, 0.0)
    assert health.overdue(0.02 + health.overdue_after_s(0.02), 0.02, 0.0)
    assert health.interfered


def test_a_machine_that_is_busy_all_over_makes_nobody_stand_out() -> None:
    generator = np.random.default_rng(0)
    normal = Normal()
    both = [Health(noise=0.05, spread=0.02, normal=normal) for _ in range(2)]
    for number in range(400):
        both[number % 2].observe(0.026 * float(np.exp(generator.normal() * 0.08)), 0.02, number * 0.02)
    assert not any(health.interfered for health in both)
    assert 1.2 < both[0].slowdown < 1.4
    for number in range(3):  # and yet one that is in trouble is told
        both[0].observe(0.06, 0.02, 10 + number * 0.1)
    assert both[0].interfered
