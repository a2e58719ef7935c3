"""Stretches of a video: contiguous, spread over what happens, and read as often as one likes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llamapipe.clock import SystemClock
from llamapipe.errors import SourceError
from llamapipe.media import SourceSpec, activity, open_source
from llamapipe.session.stretches import HeldVideo, Stretches, decode_stretches, part_s
from llamapipe.testing.clock import FakeClock


@pytest.fixture(scope="module")
def street(assets: Path) -> SourceSpec:
    return SourceSpec("street", str(assets / "car-detection.mp4"), "file")


def held(spec: SourceSpec, count: int, stretches: int) -> Stretches:
    source = open_source(spec, clock=SystemClock())
    source.close()
    return decode_stretches(spec, source.info, count, stretches, clock=SystemClock())


def test_frames_of_a_stretch_follow_each_other_and_are_those_of_the_video(street: SourceSpec) -> None:
    found = held(street, 24, 3)
    assert found.stretch == (0,) * 8 + (1,) * 8 + (2,) * 8
    steps = np.diff(found.indices)
    assert set(np.delete(steps, [7, 15]).tolist()) == {1}
    assert all(steps[[7, 15]] > 1)
    source = open_source(street, clock=SystemClock())
    pts = [item.pts for item in source]
    assert [frame.pts for frame in found.frames] == [pts[index] for index in found.indices]


def test_stretches_lie_where_something_happens(street: SourceSpec) -> None:
    times_s, happens = activity(Path(street.uri))
    assert len(times_s) == len(happens) == 377
    assert times_s[-1] == pytest.approx(376 / 12.5)
    found = held(street, 40, 4)
    assert happens[list(found.indices)].mean() > happens.mean()


def test_of_a_part_only_its_frames_are_taken_and_counted(street: SourceSpec) -> None:
    source = open_source(street, clock=SystemClock())
    source.close()
    part = (8.0, 16.0)
    few = decode_stretches(street, source.info, 24, 3, clock=SystemClock(), part=part)
    assert all(100 <= index < 200 for index in few.indices)
    assert few.info.num_frames == 100
    assert few.media_s == pytest.approx(8)
    assert part_s(source.info, *part) == pytest.approx(8)
    whole = decode_stretches(street, source.info, 500, 3, clock=SystemClock(), part=part)
    assert whole.indices == tuple(range(100, 200))
    with pytest.raises(SourceError, match="no frame in the part"):
        decode_stretches(street, source.info, 24, 3, clock=SystemClock(), part=(90.0, None))


def test_a_short_video_is_taken_whole(clip: Path) -> None:
    found = held(SourceSpec("uneven", str(clip), "file"), 100, 4)
    assert found.indices == tuple(range(12))
    assert len(found.first(6).frames) == 6


def test_what_one_reader_converts_the_next_pays_for_again(clip: Path) -> None:
    found = held(SourceSpec("uneven", str(clip), "file"), 100, 1)
    first, second = (list(HeldVideo(found, clock=FakeClock())) for _ in range(2))
    assert [item.seq for item in first] == list(range(12))
    assert first[0].picture is not second[0].picture  # type: ignore[union-attr]


def test_a_paced_video_comes_at_its_own_rate_without_the_gaps(street: SourceSpec) -> None:
    clock = FakeClock()
    times = [item.captured_at_s for item in HeldVideo(held(street, 8, 2), clock=clock, paced=True)]  # type: ignore[union-attr]
    assert np.allclose(np.diff(times), 1 / 12.5)
    assert clock.now_s() == pytest.approx(7 / 12.5)
