"""The series of what a shadow has seen: counts of all, rows that stay few, and what is said of them."""

from __future__ import annotations

from itertools import pairwise

from llamapipe.accuracy import Agreement
from llamapipe.report import shadowed
from llamapipe.session.shadow_series import ShadowSeries
from llamapipe.tune import Predicted


def seen(f1: float) -> Agreement:
    return Agreement(f1, f1 - 0.02, f1 + 0.02, 100, 100, 96)


def test_a_long_run_keeps_few_quiet_windows_all_that_happened_and_counts_of_all() -> None:
    series = ShadowSeries(0.02, 0.9)
    for i in range(10_000):
        series.window(float(i), 24 * i, seen(0.95 if i != 4321 else 0.91), "a=1", shadowed.FINE)
        if i == 5000:
            series.window(i + 0.5, 24 * i, seen(0.85), "a=1", shadowed.BELOW)
            series.followed(i + 0.5, 24 * i, "the reference", shadowed.REFERENCE, None, 0)
            series.followed(i + 0.6, 24 * i, "a=2", shadowed.RETUNED, Predicted(1, 0.1, 9, 0.93, 0.91, 0.95), 96)
    found = series.summary(left_out=3)
    assert 120 <= len(found.windows) <= 244
    assert (found.judged, found.thin, found.left_out, found.least) == (10_001, 0, 3, 0.85)
    assert [w.verdict for w in found.windows if w.verdict != shadowed.FINE] == [
        shadowed.BELOW,
        shadowed.REFERENCE,
        shadowed.RETUNED,
    ]
    times = [window.at_s for window in found.windows]
    assert times == sorted(times)
    assert times[-1] > 9900
    assert max(b - a for a, b in pairwise(times)) <= 130
    assert found.drifted


def test_windows_with_too_few_boxes_are_counted_apart_and_count_for_no_least() -> None:
    series = ShadowSeries(0.02, 0.9)
    series.window(1.0, 23, None, "a=1", shadowed.THIN)
    assert str(series.summary(0)) == "shadow: no window of frames could be judged: 1 had too few boxes to judge by"
    series.window(2.0, 123, seen(0.4), "a=1", shadowed.THIN)
    series.window(3.0, 223, seen(0.96), "a=1", shadowed.FINE)
    found = series.summary(0)
    assert (found.judged, found.thin, found.least, found.drifted) == (1, 2, 0.96, False)
    assert (
        str(found) == "shadow: 1 window judged, agreement at least 0.960, the floor is 0.9; "
        "2 more had too few boxes to judge by"
    )
    assert [window.agreement for window in found.windows] == [None, 0.4, 0.96]


def test_nothing_seen_is_said_too() -> None:
    assert str(ShadowSeries(0.02, 0.9).summary(0)) == "shadow: no window of frames could be judged"
