"""OpenCV has one thread as long as any of several runs is there."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import pytest

from llamapipe.runtime.one_thread import one_thread


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
