"""Items a frame: an upper quantile that follows the content."""

from __future__ import annotations

import random

import pytest

from llamapipe.slo import ItemsPerFrame


def test_before_anything_is_seen_the_prior_holds() -> None:
    items = ItemsPerFrame(prior=3.0)
    assert items.upper == 3.0
    assert items.mean == 3.0


def test_the_estimate_is_the_upper_quantile_not_the_mean() -> None:
    items = ItemsPerFrame(quantile=0.9, memory=1000)
    for i in range(100):
        items.saw(8 if i % 5 == 0 else 0)
    assert items.upper == 8.0
    assert items.mean == pytest.approx(1.6, abs=0.1)


def test_old_content_is_forgotten() -> None:
    items = ItemsPerFrame(memory=50)
    for _ in range(1000):
        items.saw(20)
    for _ in range(300):
        items.saw(1)
    assert items.upper == 1.0
    assert items.mean == pytest.approx(1.0, abs=0.2)


def test_a_long_run_keeps_the_figures_finite() -> None:
    items = ItemsPerFrame(memory=10)
    rng = random.Random(1)
    for _ in range(20_000):
        items.saw(rng.randint(0, 9))
    assert 7.0 <= items.upper <= 9.0
    assert 2.0 < items.mean < 7.0
