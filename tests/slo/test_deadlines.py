"""Deadlines of frames: after capture for a latency, along an even pace for a job."""

from __future__ import annotations

import pytest

from llamapipe.errors import UsageError
from llamapipe.slo import JobPace, LatencyBound


def test_a_latency_counts_from_capture() -> None:
    assert LatencyBound(0.2).due_s(10.0, 99) == pytest.approx(10.2)


def test_a_job_is_paced_evenly_after_the_fill_and_ends_with_its_deadline() -> None:
    pace = JobPace(began_s=100.0, deadline_s=30.0, num_frames=100, fill_s=10.0)
    assert pace.due_s(0.0, 0) == pytest.approx(110.2)
    assert pace.due_s(0.0, 49) == pytest.approx(120.0)
    assert pace.due_s(0.0, 99) == pytest.approx(130.0)
    assert pace.due_s(0.0, 500) == pytest.approx(130.0)  # there were more than estimated


def test_a_fill_longer_than_the_job_leaves_the_deadline() -> None:
    assert JobPace(0.0, 5.0, 10, fill_s=60.0).due_s(0.0, 0) == pytest.approx(5.0)


@pytest.mark.parametrize(("deadline_s", "num_frames"), [(0.0, 10), (5.0, 0)])
def test_nothing_to_pace_is_refused(deadline_s: float, num_frames: int) -> None:
    with pytest.raises(UsageError, match="cannot be paced"):
        JobPace(0.0, deadline_s, num_frames)
