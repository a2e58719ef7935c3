"""A camera that goes away and comes back, over a real network connection."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamapipe.clock import SystemClock
from llamapipe.errors import InterruptedRun, SourceError, SourceLostError
from llamapipe.media import Decoded, ReconnectPolicy, SourceSpec, VideoSource, open_source, open_sources
from tests.media.sinks.clips import make_clip
from tests.media.sources.servers import Camera, RtspServer, Silent, TsServer
from tests.processes import LONG_S, wait_until

QUICK = ReconnectPolicy(give_up_s=10, stall_timeout_s=0.6, first_delay_s=0.05, max_delay_s=0.2)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 s at 50 pictures a second, a keyframe each 10: little time until so many have come as a test waits for."""
    path = tmp_path_factory.mktemp("filmed") / "cam.ts"
    return make_clip(path, times=range(3000), time_base=Fraction(1, 50), rate=50, size=(64, 48), keyframe_each=10)


@pytest.fixture
def served(filmed: Path) -> Iterator[Callable[..., Camera]]:
    with contextlib.ExitStack() as stack:

        def serve(protocol: type[Camera] = TsServer, **options: Any) -> Camera:
            server = protocol(filmed, **options)
            stack.callback(server.stop)
            return server

        yield serve


@pytest.fixture
def silent() -> Iterator[Silent]:
    server = Silent()
    yield server
    server.stop()


def live(address: str, policy: ReconnectPolicy = QUICK, **options: Any) -> VideoSource:
    spec = SourceSpec("cam", address, "url")
    return open_source(spec, clock=SystemClock(), reconnect=policy, rng=np.random.default_rng(1), **options)


class Reader:
    """Reads a source in a thread, like a run does."""

    def __init__(self, source: VideoSource) -> None:
        self.source = source
        self.items: list[Decoded] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for item in self.source:
                assert isinstance(item, Decoded)
                self.items.append(item)
        except SourceError as error:
            self.error = error

    def wait_for(self, count: int) -> None:
        wait_until(
            lambda: len(self.items) >= count,
            lambda: f"{len(self.items)} of {count} pictures, {self.error}",
            alive=self._thread.is_alive,
        )

    def join(self, timeout_s: float = LONG_S) -> float:
        """Seconds until the reader was done."""
        began_s = time.monotonic()
        self._thread.join(timeout_s)
        assert not self._thread.is_alive()
        return time.monotonic() - began_s

    def leads_s(self, begin: int, end: int | None = None) -> float:
        """Median of time of capture minus presentation time."""
        time_base = self.source.info.time_base
        part = self.items[begin:end]
        return float(np.median([(item.captured_at_s or 0) - float(item.pts * time_base) for item in part]))

    def check_order(self) -> None:
        assert [item.seq for item in self.items] == list(range(len(self.items)))
        times = [item.pts for item in self.items]
        assert all(a < b for a, b in itertools.pairwise(times))


@pytest.mark.parametrize(
    ("protocol", "options"),
    [(TsServer, {}), (TsServer, {"keeps_clock": True}), (RtspServer, {})],
    ids=["http", "http, same clock", "rtsp"],
)
def test_after_a_gap_times_go_on_as_the_clock_did(
    served: Callable[..., Camera], protocol: type[Camera], options: dict[str, Any]
) -> None:
    """What is seen t seconds later says so, whether the sender counts from zero again or not."""
    server = served(protocol, **options)
    reader = Reader(live(server.address))
    reader.wait_for(30)
    server.stop()
    gone_s = time.monotonic()
    time.sleep(1.0)
    before = len(reader.items)
    server.start()
    reader.wait_for(before + 25)
    back_s = time.monotonic()
    reader.source.close()
    reader.join()
    reader.check_order()
    time_base = reader.source.info.time_base
    gap_s = float((reader.items[before].pts - reader.items[before - 1].pts) * time_base)
    assert 0.9 < gap_s < back_s - gone_s + 0.5
    assert abs(reader.leads_s(-15) - reader.leads_s(before - 15, before)) < 0.4  # not the 1 s that it was away
    assert reader.source.stats.reconnects == 1
    assert 1 <= reader.source.stats.offline_s < back_s - gone_s + 0.5


@pytest.mark.parametrize("protocol", [TsServer, RtspServer])
def test_a_stall_ends_the_connection(served: Callable[..., Camera], protocol: type[Camera]) -> None:
    """A server that stays connected and sends nothing more is called back."""
    server = served(protocol)
    reader = Reader(live(server.address))
    reader.wait_for(30)
    server.sends.clear()
    wait_until(lambda: server.num_connections >= 2)
    before = len(reader.items)
    server.sends.set()
    reader.wait_for(before + 20)
    reader.source.close()
    reader.join()
    reader.check_order()
    assert reader.source.stats.reconnects == 1
    assert reader.source.stats.offline_s >= QUICK.stall_timeout_s


def test_a_gap_before_anybody_reads_is_as_long_as_it_was(served: Callable[..., Camera]) -> None:
    """Models are loaded between opening and reading: what came meanwhile is not taken for new."""
    server = served()
    source = live(server.address)
    time.sleep(0.5)
    server.stop()
    away_s = time.monotonic()
    time.sleep(1.5)
    reader = Reader(source)
    reader.wait_for(5)
    server.start()
    gone_s, away_s = away_s, time.monotonic() - away_s
    reader.wait_for(50)
    came_s = time.monotonic() - gone_s  # at the latest
    source.close()
    reader.join()
    times_s = [float(item.pts * source.info.time_base) for item in reader.items]
    gap_s = max(after - before for before, after in itertools.pairwise(times_s))
    assert away_s - 0.2 < gap_s < came_s + 0.5


def test_a_sender_whose_times_jump_back_is_placed_anew(tmp_path: Path) -> None:
    """Frozen at the last time that was higher, they would say nothing for as long as the jump was."""
    clip = make_clip(tmp_path / "short.ts", times=range(50), size=(64, 48), keyframe_each=10)
    server = TsServer(clip, repeats=True)
    reader = Reader(live(server.address))
    reader.wait_for(80)
    reader.source.close()
    reader.join()
    server.stop()
    reader.check_order()
    assert reader.source.stats.reconnects >= 1
    assert abs(reader.leads_s(-15) - reader.leads_s(25, 45)) < 0.4  # not the length of the clip


def test_a_source_that_never_comes_back_is_lost(served: Callable[..., Camera]) -> None:
    server = served()
    reader = Reader(live(server.address, ReconnectPolicy(give_up_s=0.6, first_delay_s=0.05)))
    reader.wait_for(30)
    server.stop()
    assert 0.5 < reader.join() < 30
    assert isinstance(reader.error, SourceLostError)
    assert reader.error.exit_code == 4
    assert "did not come back within 0.6 s" in str(reader.error)
    assert reader.source.stats.reconnects == 0
    assert reader.source.stats.offline_s >= 0.6


def test_zero_seconds_is_never_calling_back(served: Callable[..., Camera]) -> None:
    server = served()
    reader = Reader(live(server.address, ReconnectPolicy(give_up_s=0)))
    reader.wait_for(30)
    server.stop()
    reader.join()
    assert isinstance(reader.error, SourceLostError)
    assert server.num_connections == 1


def test_closing_ends_the_wait_for_a_source_that_is_away(served: Callable[..., Camera], silent: Silent) -> None:
    """Between two attempts, and in the middle of one."""
    server = served()
    reader = Reader(live(server.address, ReconnectPolicy(give_up_s=60, first_delay_s=30, max_delay_s=30)))
    reader.wait_for(30)
    server.stop()
    time.sleep(0.3)
    reader.source.close()
    assert reader.join() < 10  # the next attempt would be after 30
    assert reader.error is None

    server.start()
    other = live(server.address)
    reader = Reader(other)
    reader.wait_for(30)
    server.sends.clear()  # from now on, attempts connect and hear nothing
    wait_until(lambda: server.num_connections >= 3)
    time.sleep(0.1)
    other.close()
    reader.join()
    assert reader.error is None


def test_connecting_stops_when_it_is_not_wanted(silent: Silent) -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began_s = time.monotonic()
    with pytest.raises(InterruptedRun, match="while connecting"):
        live(silent.address, unwanted=stop.is_set)
    assert time.monotonic() - began_s < 8  # it would be given up after 10


def test_the_first_connection_fails_fast_unless_it_is_to_be_waited_for(served: Callable[..., Camera]) -> None:
    server = served()
    server.stop()
    with pytest.raises(SourceError, match="refused"):
        live(server.address)
    threading.Timer(0.4, server.start).start()
    source = live(server.address, ReconnectPolicy(give_up_s=10, first_s=10, first_delay_s=0.1))
    source.close()
    assert source.info.width == 64


def test_waiting_for_the_first_connection_has_an_end(served: Callable[..., Camera]) -> None:
    server = served()
    server.stop()
    began_s = time.monotonic()
    with pytest.raises(SourceError, match="refused"):
        live(server.address, ReconnectPolicy(give_up_s=0.5, first_s=0.5, first_delay_s=0.1))
    assert 0.4 < time.monotonic() - began_s < 30


def test_sources_connect_side_by_side(served: Callable[..., Camera], silent: Silent, clip: Path) -> None:
    """One that keeps all waiting costs its own time only, and stops none of the others."""
    stop = threading.Event()
    specs = {
        "silent": SourceSpec("silent", silent.address, "url"),
        "cam": SourceSpec("cam", served().address, "url"),
        "clip": SourceSpec("clip", str(clip), "file"),
        "gone": SourceSpec("gone", "http://127.0.0.1:9/cam.ts", "url"),
    }

    def open_one(spec: SourceSpec, unwanted: Callable[[], bool]) -> VideoSource:
        policy = ReconnectPolicy(give_up_s=3, first_s=3)
        return open_source(spec, clock=SystemClock(), reconnect=policy, unwanted=unwanted)

    sources, failures, awaited = open_sources(specs, open_one, clock=SystemClock(), patience_s=30, unwanted=stop.is_set)
    for source in sources.values():
        source.close()
    assert (sorted(sources), sorted(failures), awaited) == (["cam", "clip"], ["gone", "silent"], {})
    assert "did not answer in time" in str(failures["silent"])


def test_a_source_that_is_late_is_handed_over_and_goes_on_being_connected_to(
    served: Callable[..., Camera], silent: Silent
) -> None:
    specs = {name: SourceSpec(name, uri, "url") for name, uri in (("late", silent.address), ("cam", served().address))}
    ended = threading.Event()

    def open_one(spec: SourceSpec, unwanted: Callable[[], bool]) -> VideoSource:
        try:
            return live(spec.uri, ReconnectPolicy(give_up_s=60, first_s=60), unwanted=unwanted)
        finally:
            if spec.name == "late":
                ended.set()

    began_s = time.monotonic()
    sources, failures, awaited = open_sources(specs, open_one, clock=SystemClock(), patience_s=0.5)
    assert time.monotonic() - began_s < 10
    assert (list(sources), failures, list(awaited)) == (["cam"], {}, ["late"])
    assert not ended.is_set()
    threading.Timer(0.2, awaited["late"].close).start()
    with pytest.raises(SourceError, match=f"{silent.address} was not there before the run ended"):
        awaited["late"].open()
    assert ended.wait(LONG_S)  # nobody goes on calling it
    sources["cam"].close()


def insisting(spec: SourceSpec, unwanted: Callable[[], bool]) -> VideoSource:
    return live(spec.uri, dataclasses.replace(QUICK, first_s=math.inf), unwanted=unwanted)


def once(spec: SourceSpec, unwanted: Callable[[], bool]) -> VideoSource:
    return live(spec.uri, unwanted=unwanted)


@pytest.fixture
def two(served: Callable[..., Camera]) -> tuple[Camera, dict[str, SourceSpec]]:
    """The first of two cameras, which is switched off, and both as sources."""
    late = served()
    late.stop()
    cameras = {"late": late, "cam": served()}
    return late, {name: SourceSpec(name, camera.address, "url") for name, camera in cameras.items()}


def test_a_source_that_was_refused_is_called_until_it_is_there(
    two: tuple[Camera, dict[str, SourceSpec]],
) -> None:
    late, specs = two
    sources, failures, awaited = open_sources(specs, once, clock=SystemClock(), insist=insisting)
    assert (list(sources), failures, list(awaited)) == (["cam"], {}, ["late"])
    threading.Timer(0.5, late.start).start()
    came = awaited["late"].open()
    assert came.info.width == 64
    awaited["late"].close()
    assert list(came) == []  # it closes what it has opened
    sources["cam"].close()


def test_one_that_never_comes_says_what_happened_last(two: tuple[Camera, dict[str, SourceSpec]]) -> None:
    _, specs = two
    sources, _, awaited = open_sources(specs, once, clock=SystemClock(), insist=insisting)
    threading.Timer(0.5, awaited["late"].close).start()
    with pytest.raises(SourceError, match="connection refused; it was called until the run ended"):
        awaited["late"].open()
    sources["cam"].close()


def test_nobody_insists_on_it_where_it_is_not_wanted_or_no_other_is_there(
    two: tuple[Camera, dict[str, SourceSpec]],
) -> None:
    _, specs = two
    sources, failures, awaited = open_sources(specs, once, clock=SystemClock())
    assert (list(sources), list(failures), awaited) == (["cam"], ["late"], {})
    sources["cam"].close()
    alone = {"late": specs["late"]}
    sources, failures, awaited = open_sources(alone, once, clock=SystemClock(), insist=insisting)
    assert (sources, list(failures), awaited) == ({}, ["late"], {})


def test_connecting_to_several_stops_at_once(silent: Silent) -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    specs = {"a": SourceSpec("a", silent.address, "url"), "b": SourceSpec("b", silent.address, "url")}
    began_s = time.monotonic()
    with pytest.raises(InterruptedRun):
        open_sources(
            specs,
            lambda spec, unwanted: live(spec.uri, unwanted=unwanted),
            clock=SystemClock(),
            unwanted=stop.is_set,
        )
    assert time.monotonic() - began_s < 8  # it would be given up after 10
