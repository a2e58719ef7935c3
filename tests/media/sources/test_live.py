"""A live source over its connections, in virtual time: when it is called back, and what its pictures say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from llamapipe.errors import SourceError, SourceLostError
from llamapipe.media import AvPicture, Decoded, ReconnectPolicy, SourceInfo, SourceStats, Undecodable
from llamapipe.media.connecting import Backoff
from llamapipe.media.live import LiveSource
from llamapipe.testing import FakeClock

MILLISECONDS = Fraction(1, 1000)
A_MINUTE = ReconnectPolicy(give_up_s=60)
REFUSED = SourceError("source cam cannot be opened: connection refused")


def picture(width: int = 64, height: int = 48) -> AvPicture:
    return AvPicture(av.VideoFrame(width, height, "yuv420p"))


@dataclass
class Camera:
    """One connection: pictures at ``times_ms`` of its clock, seen as they are made. It is lost after the last."""

    clock: FakeClock
    times_ms: Sequence[int]
    time_base: Fraction = MILLISECONDS
    size: tuple[int, int] = (64, 48)
    error: SourceError | None = field(default_factory=lambda: SourceLostError("source cam has ended"))
    stats: SourceStats = field(default_factory=SourceStats)
    lead_s: float | None = None
    closed: bool = False

    @property
    def info(self) -> SourceInfo:
        return SourceInfo("cam", "cam", 64, 48, Fraction(10), None, None, self.time_base, True, False)

    def __iter__(self) -> Iterator[Decoded | Undecodable]:
        last = self.times_ms[0] if self.times_ms else 0
        for seq, time_ms in enumerate(self.times_ms):
            self.clock.advance((time_ms - last) / 1000)
            last = time_ms
            self.lead_s = self.clock.now_s() - time_ms / 1000
            yield Decoded(seq, round(time_ms * MILLISECONDS / self.time_base), picture(*self.size), self.clock.now_s())
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed = True


def live(
    clock: FakeClock, *connections: Camera | SourceError, policy: ReconnectPolicy = A_MINUTE, **limits: Any
) -> LiveSource:
    """A source that gives these connections one after the other; the last one for ever, where it is an error."""
    left = list(connections)

    def connect() -> Camera:
        made = left.pop(0) if len(left) > 1 or isinstance(left[0], Camera) else left[0]
        if isinstance(made, SourceError):
            raise made
        return made

    backoff = Backoff(policy, np.random.default_rng(7))
    return LiveSource(connect(), connect, shown="cam", policy=policy, backoff=backoff, clock=clock, **limits)


def read(source: LiveSource) -> tuple[list[Decoded], SourceError | None]:
    items: list[Decoded] = []
    try:
        for item in source:
            assert isinstance(item, Decoded)
            items.append(item)
    except SourceError as error:
        return items, error
    return items, None


def lead_of(item: Decoded) -> float:
    assert item.captured_at_s is not None
    return round(item.captured_at_s - item.pts / 1000, 3)


def test_a_camera_that_counts_anew_is_placed_by_our_clock() -> None:
    """Capture minus presentation time is the same before and after; seq has no gap."""
    clock = FakeClock(100)
    first, second = Camera(clock, [5000, 5100, 5200]), Camera(clock, [0, 100, 200])
    items, error = read(live(clock, first, second, REFUSED))
    assert [item.seq for item in items] == [0, 1, 2, 3, 4, 5]
    assert {lead_of(item) for item in items} == {95.0}
    assert items[3].pts > 5200
    assert isinstance(error, SourceLostError)
    assert first.closed
    assert second.closed


def test_a_camera_that_kept_its_clock_is_believed() -> None:
    """Its times go on within jitter of ours: they are exact, ours are not."""
    clock = FakeClock(100)
    first = Camera(clock, [5000, 5100])
    second = Camera(clock, [])
    source = live(clock, first, second, max_frames=4)
    given = iter(source)
    next(given), next(given)
    second.times_ms = [5100 + 137, 5300]
    clock.advance(0.1)
    assert [item.pts for item in given if isinstance(item, Decoded)] == [5237, 5300]


def test_time_never_goes_back() -> None:
    """Not even where the lead says so: the later picture is a tick later."""
    clock = FakeClock(100)
    second = Camera(clock, [5000, 5050])
    source = live(clock, Camera(clock, [5000, 5100]), second, max_frames=4, policy=ReconnectPolicy(first_delay_s=0.0))
    items, _ = read(source)
    assert [item.pts for item in items] == [5000, 5100, 5101, 5150]


def test_times_are_told_in_the_units_of_the_first_connection() -> None:
    clock = FakeClock(0)
    second = Camera(clock, [90, 190], time_base=Fraction(1, 90_000))
    items, _ = read(live(clock, Camera(clock, [0, 100]), second, max_frames=4))
    assert items[3].pts - items[2].pts == 100
    assert {lead_of(item) for item in items} == {0.0}


def test_waits_double_up_to_a_limit_and_are_spread_by_chance() -> None:
    """Full jitter: each wait is anything from nothing to the limit."""
    policy = ReconnectPolicy()
    rng, same = np.random.default_rng(3), np.random.default_rng(3)
    backoff = Backoff(policy, rng)
    limits = [0.25, 0.5, 1, 2, 4, 8, 10, 10]
    assert [backoff.next_s() for _ in limits] == [same.uniform(0, limit) for limit in limits]
    backoff.reset()
    assert backoff.next_s() < 0.25


def test_given_up_after_so_many_seconds_without_a_picture() -> None:
    """Connections that give no picture do not count as coming back."""
    clock = FakeClock(0)
    mute = [Camera(clock, []) for _ in range(3)]
    source = live(clock, Camera(clock, [0, 100]), *mute, REFUSED)
    items, error = read(source)
    assert len(items) == 2
    assert isinstance(error, SourceLostError)
    assert str(error) == "source cam has ended, and did not come back within 60 s"
    assert clock.now_s() == pytest.approx(60.1)
    assert source.stats == SourceStats(0, pytest.approx(60.0))
    assert all(camera.closed for camera in mute)


def test_zero_seconds_is_never() -> None:
    clock = FakeClock(0)
    items, error = read(live(clock, Camera(clock, [0, 100]), Camera(clock, [0]), policy=ReconnectPolicy(give_up_s=0)))
    assert (len(items), str(error), clock.now_s()) == (2, "source cam has ended", 0.1)


def test_what_is_counted() -> None:
    """Times that it came back, and seconds from the last picture before to the first after."""
    clock = FakeClock(0)
    source = live(clock, *(Camera(clock, [0, 100]) for _ in range(3)), REFUSED, max_frames=6)
    items, _ = read(source)
    gaps = [b.captured_at_s - a.captured_at_s for a, b in zip(items[1:4:2], items[2:5:2], strict=True)]  # type: ignore[operator]
    assert source.stats == SourceStats(2, pytest.approx(sum(gaps), abs=0.002))  # times are whole milliseconds


def test_start_and_end_count_from_the_first_picture_across_gaps() -> None:
    clock = FakeClock(0)
    first, second = Camera(clock, [0, 100, 200]), Camera(clock, range(0, 30_000, 100))
    items, error = read(live(clock, first, second, REFUSED, start_s=0.1, end_s=20.0))
    assert error is None
    assert items[0].pts == 100
    assert 19_900 <= items[-1].pts < 20_000
    assert [item.seq for item in items] == list(range(len(items)))


def test_a_camera_that_comes_back_in_another_size_is_scaled() -> None:
    clock = FakeClock(0)
    items, _ = read(live(clock, Camera(clock, [0]), Camera(clock, [0], size=(128, 96)), max_frames=2))
    assert [(item.picture.width, item.picture.height) for item in items] == [(64, 48)] * 2


def test_a_camera_that_comes_back_in_another_shape_is_refused() -> None:
    """Scaled pictures would be distorted, and zones drawn for the first would lie elsewhere."""
    clock = FakeClock(0)
    items, error = read(live(clock, Camera(clock, [0]), Camera(clock, [0], size=(48, 64))))
    assert len(items) == 1
    assert error is not None
    assert not isinstance(error, SourceLostError)
    assert error.message == "source cam now sends pictures of 48x64, the run began with 64x48"


@pytest.mark.parametrize("when", ["reading", "waiting"])
def test_closing_ends_it_without_an_error(when: str) -> None:
    clock = FakeClock(0)
    source = live(clock, Camera(clock, [0, 100]), REFUSED)
    closing: dict[str, Callable[[], object]] = {"reading": lambda: next(given), "waiting": lambda: None}
    given = iter(source)
    next(given), closing[when]()
    source.close()
    assert list(given) == []
