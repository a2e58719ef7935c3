"""How many cores a run with an objective is held on, and when that changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llamapipe.control import events as ev
from llamapipe.errors import UsageError
from llamapipe.runtime.confinement import Confinement, CoreClaims, busy_ticks, idlest_cores
from llamapipe.session.allotment import Allotment, Needed, check_cores
from llamapipe.session.governor import Governor
from llamapipe.testing.clock import FakeClock

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system binds no threads to cores"
)


class Threads(Confinement):
    """What the run's threads were held on, without holding any."""

    def __init__(self) -> None:
        self.on: list[list[int]] = []

    def to(self, count: int, among: Sequence[int]) -> bool:
        self.on.append(list(among[:count]))
        return True


class Costs:
    def __init__(self) -> None:
        self.cores: list[float] = []

    def hold_on(self, cores: float, now_s: float) -> None:
        self.cores.append(cores)


@pytest.fixture
def made() -> Callable[..., tuple[Governor, FakeClock, list[ev.Event]]]:
    def make(cores: int, *, usable: int = 4, needed: Needed | None = None, **more: object) -> object:
        clock, told = FakeClock(), list[ev.Event]()
        governor = Governor(
            Allotment(cores, True, "", needed),
            usable=range(usable),
            confinement=Threads(),
            costs=Costs(),  # type: ignore[arg-type]
            tell=told.append,
            clock=clock,
            started_s=0.0,
            **more,  # type: ignore[arg-type]
        )
        return governor, clock, told

    return make  # type: ignore[return-value]


def play(governor: Governor, clock: FakeClock, seconds: float, core_s: float, latency_s: float = 0.01) -> None:
    """25 frames a second of ``core_s`` each."""
    begun = round(clock.now_s() * 25)
    for done in range(begun + 1, begun + round(25 * seconds) + 1):
        clock.advance(1 / 25, cpu_s=core_s)
        governor.delivered([(clock.now_s(), latency_s)])
        governor.poll(clock.now_s(), done)


def test_a_stream_that_nothing_is_known_of_is_held_on_what_it_turns_out_to_need(made) -> None:
    governor, clock, told = made(4, bound=(0.95, 0.1))
    play(governor, clock, 3.0, core_s=0.04)  # a core, and a queue needs room
    assert governor.cores == 2
    assert told == [ev.Allot(3)]
    assert [held.cores for held in governor.held] == [4, 2]
    assert governor.core_s == pytest.approx(0.04)


def test_a_stream_gets_more_when_frames_are_late_and_has_to_wait_for_fewer(made) -> None:
    governor, clock, told = made(1, bound=(0.95, 0.1))
    play(governor, clock, 1.0, core_s=0.01)
    assert governor.cores == 1
    play(governor, clock, 0.4, core_s=0.01, latency_s=0.2)
    assert governor.cores == 2
    assert "frames were late" in governor.held[-1].why
    play(governor, clock, 10.0, core_s=0.01)
    assert governor.cores == 2
    play(governor, clock, 20.0, core_s=0.01)
    assert governor.cores == 1
    assert [event.workers for event in told] == [3, 2]  # type: ignore[attr-defined]


def test_a_core_that_is_busy_all_of_the_time_is_not_enough(made) -> None:
    governor, clock, _ = made(1, bound=(0.95, 10.0))
    play(governor, clock, 2.0, core_s=0.0395)
    assert governor.cores == 2


def test_a_job_is_held_on_what_its_deadline_asks_for(made) -> None:
    governor, clock, _ = made(4, bound=None, deadline_s=40.0, num_frames=500)
    play(governor, clock, 2.0, core_s=0.1)  # 450 frames are 45 s of a core
    assert governor.cores == 2
    play(governor, clock, 10.0, core_s=0.3)
    assert governor.cores == 3


def test_what_others_took_is_no_reason_for_more_cores_where_there_is_time_to_look_first(made) -> None:
    """By runs like it, 300 frames take 60 s of a core; these take a tenth of that."""
    governor, clock, told = made(1, bound=None, deadline_s=40.0, num_frames=300, needed=Needed(0.2, 0.5))
    play(governor, clock, 3.0, core_s=0.02)
    assert (governor.cores, told) == (1, [])


def test_where_there_is_no_time_for_that_it_is_believed(made) -> None:
    governor, clock, _ = made(1, bound=None, deadline_s=16.0, num_frames=300, needed=Needed(0.2, 0.5))
    play(governor, clock, 0.2, core_s=0.02)
    assert governor.cores == 4
    play(governor, clock, 3.0, core_s=0.02)
    assert governor.cores == 1


def test_all_cores_are_there_for_good_once_a_worker_is_lost(made) -> None:
    governor, clock, _ = made(1, bound=(0.95, 0.1))
    governor.event(ev.WorkerLost("w0", "killed"), 1.0)
    play(governor, clock, 60.0, core_s=0.001)
    assert governor.cores == 4


@pytest.mark.parametrize("asked", [0, 3, "few", -1])
def test_a_number_of_cores_that_there_is_not_is_refused(asked: object) -> None:
    with pytest.raises(UsageError, match="a number from 1 to 2, or all"):
        check_cores(asked, 2)  # type: ignore[arg-type]


@needs_affinity
def test_threads_that_come_later_are_held_too_and_others_are_not() -> None:
    import threading

    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("needs two cores")
    seen: dict[str, set[int]] = {}
    go, stop, noted = threading.Event(), threading.Event(), threading.Semaphore(0)

    def wait(name: str) -> None:
        go.wait()
        seen[name] = os.sched_getaffinity(0)
        noted.release()
        stop.wait()

    other = threading.Thread(target=wait, args=("other",))
    other.start()
    confinement = Confinement()
    try:
        assert confinement.to(1, sorted(before))
        mine = threading.Thread(target=wait, args=("mine",))
        mine.start()
        go.set()
        assert noted.acquire(timeout=10)
        assert noted.acquire(timeout=10)
    finally:
        confinement.end()
        stop.set()
        other.join()
        mine.join()
    assert seen == {"other": before, "mine": {min(before)}}
    assert os.sched_getaffinity(0) == before


@needs_affinity
def test_of_two_runs_in_one_process_none_is_held() -> None:
    first, second = Confinement(), Confinement()
    try:
        assert not first.to(1, sorted(os.sched_getaffinity(0)))
    finally:
        second.end()
        first.end()


def test_the_idlest_core_comes_first() -> None:
    ticks = busy_ticks()
    if len(ticks) < 2:
        pytest.skip("the system does not say")
    busiest = min(ticks)
    assert idlest_cores(ticks, {**ticks, busiest: ticks[busiest] - 1000})[-1] == busiest


@needs_affinity
def test_two_runs_claim_different_cores_and_share_where_there_are_none_left(tmp_path: Path) -> None:
    first, second, third = CoreClaims(tmp_path), CoreClaims(tmp_path), CoreClaims(tmp_path)
    assert first.choose(1, [0, 1, 2]) == [0]
    assert second.choose(2, [0, 1, 2]) == [1, 2]
    assert third.choose(1, [0, 1, 2]) == [0]
    assert second.choose(1, [0, 1, 2]) == [1]
    assert third.choose(1, [0, 1, 2]) == [2]
    assert first.choose(3, [0, 1, 2]) == [0, 1, 2]  # whoever has all has claimed none
    assert second.choose(2, [0, 1, 2]) == [1, 0]
    for claims in (first, second, third):
        claims.close()


def test_what_cannot_be_held_is_asked_for_again(made, monkeypatch: pytest.MonkeyPatch) -> None:
    governor, clock, told = made(1, bound=(0.95, 0.1))
    play(governor, clock, 1.0, core_s=0.01)
    monkeypatch.setattr(Threads, "to", lambda *_: False)  # another run has begun in this process
    governor.event(ev.WorkerLost("w1", "killed"), clock.now_s())
    play(governor, clock, 1.0, core_s=0.01)
    assert (governor.cores, told) == (1, [])
    monkeypatch.undo()
    play(governor, clock, 1.0, core_s=0.01)
    assert (governor.cores, told) == (4, [ev.Allot(0)])
    play(governor, clock, 60.0, core_s=0.01)
    assert governor.cores == 4


def test_frames_that_are_given_up_are_late(made) -> None:
    governor, clock, told = made(1, bound=(0.95, 0.1))
    for done in range(1, 251):
        clock.advance(1 / 25, cpu_s=0.03)
        governor.delivered([(clock.now_s(), 0.01)])
        governor.poll(clock.now_s(), done, max(0, done - 100) // 3)
    assert governor.cores > 1
    assert told


def test_drops_that_are_allowed_are_none(made) -> None:
    governor, clock, told = made(1, bound=(0.95, 0.1), drop_share=0.5)
    for done in range(1, 251):
        clock.advance(1 / 25, cpu_s=0.03)
        governor.delivered([(clock.now_s(), 0.01)])
        governor.poll(clock.now_s(), done, done // 3)
    assert (governor.cores, told) == (1, [])


def test_a_job_with_more_frames_than_were_expected_gets_all_cores(made) -> None:
    governor, clock, _ = made(4, bound=None, deadline_s=60.0, num_frames=100)
    for done in range(1, 300):
        clock.advance(1 / 25, cpu_s=0.04)
        governor.poll(clock.now_s(), done)
        if done in (90, 99, 100):
            held = governor.cores
        if done > 110:
            assert governor.cores == 4
    assert held < 4
