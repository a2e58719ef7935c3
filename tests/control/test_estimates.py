"""Latencies follow what is observed, and say of sizes that were not tried what follows from those that were."""

from __future__ import annotations

import pytest

from llamapipe.catalog import BatchPoint
from llamapipe.control.estimates import LatencyEstimate

POINTS = tuple(BatchPoint(n, 0.002 + 0.001 * n, 1.1 * (0.002 + 0.001 * n), 0.0) for n in (1, 2, 4, 8, 16))


def test_a_delay_of_every_call_is_not_taken_for_slower_items() -> None:
    """Else large batches, which it hardly touches, would be thought many times slower, and never be tried."""
    estimate = LatencyEstimate(POINTS)
    for _ in range(40):
        estimate.saw(1, 0.003 + 0.020)
    assert estimate.median_s(1) == pytest.approx(0.023, rel=0.05)
    assert estimate.median_s(16) == pytest.approx(0.018 + 0.020, rel=0.2)


def test_where_all_is_twice_as_slow_all_sizes_are_expected_to_be() -> None:
    estimate = LatencyEstimate(POINTS)
    for number in range(60):
        batch = (1, 4, 16)[number % 3]
        estimate.saw(batch, 2 * (0.002 + 0.001 * batch))
    for batch in (1, 2, 8, 16):
        assert estimate.median_s(batch) == pytest.approx(2 * (0.002 + 0.001 * batch), rel=0.05)
    assert estimate.p95_s(8) < 1.2 * estimate.median_s(8)


def test_a_straggler_moves_little_and_three_in_a_row_are_believed() -> None:
    estimate = LatencyEstimate(POINTS)
    for _ in range(20):
        estimate.saw(4, 0.006)
    estimate.saw(4, 0.060)
    assert estimate.median_s(4) < 0.0085
    for _ in range(30):
        estimate.saw(4, 0.060)
    assert estimate.median_s(4) == pytest.approx(0.060, rel=0.1)


def test_without_feedback_the_profile_stays() -> None:
    estimate = LatencyEstimate(POINTS, feedback=False)
    for _ in range(20):
        estimate.saw(4, 0.060)
    assert estimate.median_s(4) == 0.006
