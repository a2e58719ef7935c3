"""What is set for the whole process lasts as long as any of several runs or servers is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import cv2
import pytest

from llamapipe.runtime.whole_process import one_thread, quick_switches


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


def test_the_last_of_overlapping_runs_gives_back_what_the_first_took() -> None:
    cv2.setNumThreads(2)
    one, other = one_thread(), one_thread()
    one.__enter__()
    other.__enter__()
    assert cv2.getNumThreads() == 1
    one.__exit__(None, None, None)
    assert cv2.getNumThreads() == 1
    other.__exit__(None, None, None)
    assert cv2.getNumThreads() == 2


def test_threads_take_turns_as_before_whoever_leaves_first() -> None:
    usual_s = sys.getswitchinterval()
    one, other = quick_switches(2e-4), quick_switches(1e-3)
    one.__enter__()
    other.__enter__()
    assert sys.getswitchinterval() == pytest.approx(2e-4)
    one.__exit__(None, None, None)
    assert sys.getswitchinterval() == pytest.approx(1e-3)
    other.__exit__(None, None, None)
    assert sys.getswitchinterval() == pytest.approx(usual_s)
