"""How sources are told what they may send: seldom, and never so late that they stand still."""

from __future__ import annotations

from llamapipe.runtime.granting import Granting


def test_the_window_is_given_at_once_and_given_back_a_quarter_at_a_time() -> None:
    granting = Granting({"cam": True})
    granting.add("cam", 8)
    assert granting.due() == [("cam", 8)]
    granting.add("cam", 1)
    assert granting.due() == []
    granting.add("cam", 1)
    assert granting.due() == [("cam", 2)]
    assert granting.due() == []


def test_of_a_small_window_every_frame_is_given_back() -> None:
    granting = Granting({"cam": True})
    granting.add("cam", 2)
    assert granting.due() == [("cam", 2)]
    granting.add("cam", 1)
    assert granting.due() == [("cam", 1)]


def test_a_source_that_does_not_wait_is_told_only_that_it_may_begin() -> None:
    granting = Granting({"cam": False, "file": True})
    granting.add("cam", 4)
    granting.add("file", 4)
    assert granting.due() == [("cam", 4), ("file", 4)]
    granting.add("cam", 4)
    granting.add("file", 4)
    assert granting.due() == [("file", 4)]
