"""What comes out of a source: every picture, at its own time, as often and as fast as asked for."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from llamapipe.errors import SourceError, UsageError
from llamapipe.media import Decoded, SourceSpec, open_source
from tests.media.sinks.clips import make_clip
from tests.media.sources.reading import opened, read, remuxed, times

STEP = 512  # ticks of the shared clip between two pictures


class StepClock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.time_s = 100.0

    def now_s(self) -> float:
        return self.time_s

    def wall_s(self) -> float:
        return self.time_s

    def cpu_s(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.time_s += max(0.0, seconds)


def test_facts_are_the_containers(clip: Path) -> None:
    source = opened(clip)
    info = source.info
    source.close()
    assert (info.width, info.height, info.fps, info.num_frames) == (320, 240, Fraction(20), 40)
    assert (info.codec, info.live, info.has_audio, info.rotation) == ("h264", False, False, 0)
    assert info.duration_s == pytest.approx(2.0)


def test_pictures_come_in_order_at_their_exact_times(clip: Path) -> None:
    assert times(read(clip)) == [STEP * i for i in range(40)]


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    uneven = [0, 3, 4, 11, 12, 30, 31, 32, 60]
    path = make_clip(tmp_path / "vfr.mkv", times=uneven, time_base=Fraction(1, 100))
    assert times(read(path)) == [10 * pts for pts in uneven]


def test_a_late_beginning_is_kept_and_start_counts_from_the_first_picture(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "late.mkv", times=range(100, 120))
    assert times(read(path))[0] == 5000
    assert times(read(path, start_s=0.5))[0] == 5500


@pytest.mark.parametrize(("start", "end"), [(0.5, 1.0), (0.0, 0.3), (1.3, None), (0.52, 0.98), (1.9, 9.0)])
def test_start_is_inclusive_end_exclusive_and_the_count_known(clip: Path, start: float, end: float | None) -> None:
    until = 2.0 if end is None else end
    expected = [STEP * i for i in range(40) if start <= i / 20 < until]
    source = opened(clip, start_s=start, end_s=end)
    assert source.info.num_frames == len(expected)
    assert times(list(source)) == expected


def test_a_start_after_the_end_says_how_long_the_file_is(clip: Path) -> None:
    with pytest.raises(SourceError, match="lasts 2 s: nothing is left from --start 100"):
        opened(clip, start_s=100)


def test_a_format_without_an_index_still_starts_where_asked(clip: Path, tmp_path: Path) -> None:
    raw = remuxed(clip, tmp_path / "clip.h264", lambda _, packet: packet, format="h264", options={})
    assert 0 < len(read(raw)) <= 40


@pytest.mark.parametrize("options", [{"start_s": 1.0, "end_s": 0.5}, {"start_s": -1.0}, {"end_s": -1.0}])
def test_impossible_times_are_usage_errors(clip: Path, options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        opened(clip, **options)


@pytest.mark.parametrize("most", [0, 1, 7, 100])
def test_max_frames_ends_the_stream_and_shows_in_the_count(clip: Path, most: int) -> None:
    source = opened(clip, max_frames=most)
    assert source.info.num_frames == len(list(source)) == min(most, 40)


def test_loops_go_on_in_time(clip: Path) -> None:
    source = opened(clip, loop=3)
    assert source.info.num_frames == 120
    assert times(list(source)) == [STEP * i for i in range(120)]


def test_loops_of_a_part_go_on_in_time(clip: Path) -> None:
    items = read(clip, loop=2, start_s=0.5, end_s=1.0)
    assert times(items) == [STEP * i for i in range(10, 30)]


def test_real_time_hands_pictures_out_when_they_are_due(clip: Path) -> None:
    clock = StepClock()
    for item in opened(clip, realtime=True, clock=clock):
        assert isinstance(item, Decoded)
        assert item.captured_at_s == pytest.approx(100 + item.seq / 20)
        assert clock.now_s() >= item.captured_at_s - 1e-9


def test_real_time_keeps_the_due_time_of_pictures_taken_late(clip: Path) -> None:
    clock = StepClock()
    for item in opened(clip, realtime=True, clock=clock):
        assert isinstance(item, Decoded)
        assert item.captured_at_s == pytest.approx(100 + item.seq / 20)
        clock.sleep(0.2)


def test_a_clip_of_one_picture(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "one.mp4", times=[0])
    source = opened(path)
    assert source.info.num_frames == len(list(source)) == 1


def test_pictures_that_an_edit_list_hides_are_not_missed(clip: Path, tmp_path: Path) -> None:
    def earlier(_: int, packet: av.Packet) -> av.Packet:
        packet.pts, packet.dts = packet.pts - 8 * STEP, packet.dts - 8 * STEP
        return packet

    source = opened(remuxed(clip, tmp_path / "cut.mp4", earlier))
    items = list(source)
    assert source.info.num_frames == len(items) == len(times(items)) == 32


def test_a_playlist_is_one_clip(clip: Path, tmp_path: Path) -> None:
    playlist = remuxed(clip, tmp_path / "list.m3u8", lambda _, p: p, options={"hls_time": "1", "hls_list_size": "0"})
    source = opened(playlist)
    assert not source.info.live
    pts = times(list(source))
    assert len(pts) == 40
    assert pts == sorted(set(pts))


def test_closing_frees_a_source_that_nobody_read(clip: Path) -> None:
    source = opened(clip)
    source.close()
    source.close()
    assert list(source) == []


def test_closing_from_another_thread_ends_a_paced_source(clip: Path) -> None:
    source = opened(clip, realtime=True, loop=100)
    begun, count = threading.Event(), 0

    def close() -> None:
        begun.wait()
        source.close()

    closing = threading.Thread(target=close)
    closing.start()
    began = time.monotonic()
    for count, _ in enumerate(source, 1):
        if count == 3:
            begun.set()
    closing.join()
    assert 3 <= count < 40 * 100
    assert time.monotonic() - began < 30  # it would last for 200 s


def test_reading_can_be_given_up_half_way(clip: Path) -> None:
    source = opened(clip)
    reading = iter(source)
    kept = next(reading)
    reading.close()  # type: ignore[attr-defined]
    source.close()
    assert isinstance(kept, Decoded)
    assert kept.picture.bgr().shape == (240, 320, 3)  # a picture outlives its source


def test_defaults_are_enough(clip: Path) -> None:
    assert open_source(SourceSpec("a", str(clip), "file"), clock=StepClock()).info.name == "a"


@pytest.mark.parametrize("start_s", [4.0, 5.0, 6.0, 9.5])
def test_a_start_in_a_stream_without_an_index_loses_nothing(start_s: float, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "c.ts", times=range(200), keyframe_each=100)  # keyframes at 0 and 5 s
    found = times(read(path, start_s=start_s))
    assert len(found) == round((10 - start_s) * 20)


def test_times_of_joined_files_go_on(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "c.ts", times=range(40))
    twice = tmp_path / "twice.ts"
    twice.write_bytes(path.read_bytes() * 2)
    once, found = times(read(path)), times(read(twice))
    assert len(found) == 2 * len(once)
    steps = {b - a for a, b in pairwise(found)}
    assert steps == {b - a for a, b in pairwise(once)}


def test_pictures_of_another_size_come_in_the_first_ones(tmp_path: Path) -> None:
    small = make_clip(tmp_path / "a.ts", times=range(20), size=(320, 240))
    large = make_clip(tmp_path / "b.ts", times=range(20), size=(640, 480))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    found = [item for item in read(joined) if isinstance(item, Decoded)]
    assert len(found) > 30
    assert {(item.picture.width, item.picture.height) for item in found} == {(320, 240)}
