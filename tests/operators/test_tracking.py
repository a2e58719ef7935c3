"""Ids: from 1, one a thing, each stream its own, through gaps, at any frame rate, across a restart."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from llamapipe.data import Boxes, Tracks
from llamapipe.operator import Operator
from llamapipe_operators import Track
from tests.operators.kit import boxes, gray, make


def follow(tracker: Operator, *items: Boxes) -> list[list[int]]:
    return [ids(tracker.process({"boxes": item})) for item in items]


def ids(outputs: Any) -> list[int]:
    tracks = outputs["tracks"]
    assert isinstance(tracks, Tracks)
    assert tracks.track_id is not None
    return tracks.track_id.tolist()


def walkers(i: int, *, speed: float = 4.0) -> Boxes:
    """Two people who walk towards each other in different rows."""
    x = speed * i
    return boxes([10 + x, 20, 40 + x, 100], [280 - x, 130, 310 - x, 210])


def test_things_get_ids_from_one_and_keep_them() -> None:
    found = follow(make(Track), *(walkers(i) for i in range(30)))
    assert found[0] == []  # seen once is not yet a thing
    assert all(frame == [1, 2] for frame in found[1:])


def test_a_second_stream_starts_at_one_again() -> None:
    assert (
        follow(make(Track), *map(walkers, range(5)))[-1] == follow(make(Track), *map(walkers, range(5)))[-1] == [1, 2]
    )


def test_place_score_and_label_are_the_detectors() -> None:
    tracker = make(Track)
    for i in range(3):
        item = boxes([10 + 4 * i, 20, 40 + 4 * i, 100], score=0.83, label="dog")
        outputs: Any = tracker.process({"boxes": item})
    assert list(outputs["tracks"]) == [{"box": [18.0, 20.0, 48.0, 100.0], "label": "dog", "score": 0.83, "track_id": 1}]


def test_an_id_survives_a_gap_of_less_than_keep_s() -> None:
    gap = [boxes()] * 10
    found = follow(make(Track, keep_s=1.0), *map(walkers, range(10)), *gap, *map(walkers, range(20, 24)))
    assert found[-1] == [1, 2]
    late = follow(make(Track, keep_s=0.2), *map(walkers, range(10)), *gap, *map(walkers, range(20, 24)))
    assert late[-1] == [3, 4]


@pytest.mark.parametrize("fps", [5.0, 25.0, 60.0])
def test_keep_s_is_in_seconds_at_any_frame_rate(fps: float) -> None:
    standing = boxes([10, 20, 40, 100])
    for missing_s, expected in ((0.6, [1]), (1.6, [2])):
        tracker = make(Track, keep_s=1.0, rate=fps)
        gap = [boxes()] * round(missing_s * fps)
        assert follow(tracker, standing, standing, standing, *gap, standing, standing)[-1] == expected


def test_time_stamps_rule_where_frames_are_given() -> None:
    """A camera that stalls for three seconds between two frames: the track is gone, though no frame was without it."""
    for stall_s, expected in ((0.5, [1]), (3.0, [2])):
        tracker = make(Track, keep_s=1.0)
        for seq in (0, 1, 2, 3):
            image = gray(seq=seq)
            image.pts_s += stall_s if seq >= 3 else 0
            outputs = tracker.process({"boxes": boxes([10, 20, 40, 100]), "frames": image})
        image = gray(seq=4)
        image.pts_s += stall_s
        outputs = tracker.process({"boxes": boxes([10, 20, 40, 100]), "frames": image})
        assert ids(outputs) == expected


def test_weak_boxes_hold_a_track_and_never_start_one() -> None:
    weak = boxes([10, 20, 40, 100], score=0.25)
    assert follow(make(Track), weak, weak, weak, weak)[-1] == []
    sure = boxes([10, 20, 40, 100])
    assert follow(make(Track), sure, sure, weak, weak)[-1] == [1]


def test_boxes_below_the_weak_score_are_not_looked_at() -> None:
    sure, flicker = boxes([10, 20, 40, 100]), boxes([10, 20, 40, 100], score=0.15)
    assert follow(make(Track), sure, sure, flicker)[-1] == []
    assert follow(make(Track, weak_score=0.1), sure, sure, flicker)[-1] == [1]


def test_labels_may_be_kept_apart() -> None:
    car, van = boxes([10, 20, 90, 100], label="car"), boxes([10, 20, 90, 100], label="van")
    assert follow(make(Track), car, car, van, van)[-1] == [1]
    assert follow(make(Track, per_label=True), car, car, van, van)[-1] == [2]


def test_a_restored_tracker_goes_on_as_if_nothing_had_happened() -> None:
    first, second = make(Track), make(Track)
    follow(first, *map(walkers, range(12)))
    second.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(first.snapshot())))
    rest = [walkers(i) for i in range(16, 24)]  # after four lost frames
    assert follow(second, *rest) == follow(first, *rest)
    assert follow(second, boxes([150, 5, 170, 15]), boxes([150, 5, 170, 15]))[-1] == [3]


@pytest.mark.parametrize(("operator", "needed"), [("Track", "trackers"), ("Annotate", "cv2")])
def test_heavy_imports_happen_when_an_operator_is_warmed_up(operator: str, needed: str) -> None:
    """The first frame of a live source does not wait a second for them; nor does whoever only lists operators."""
    code = (
        f"import sys; from llamapipe_operators import {operator}; "
        f"assert {needed!r} not in sys.modules; {operator}.warm_up(); assert {needed!r} in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
