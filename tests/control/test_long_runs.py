"""What control holds, and how often it wants to be woken, does not grow with how long a run has lasted."""

from __future__ import annotations

from llamapipe.control import WorkerPlan
from llamapipe.control.lifecycle import LINK, REPLICA, LinkState, Machine, ReplicaState
from llamapipe.control.pools import Pool
from llamapipe.control.timers import Timers
from llamapipe.control.watching import Watch
from llamapipe.control.workforce import Seat


def seat(index: int) -> Seat:
    found = Seat(WorkerPlan(f"w{index}"), index, (0,), Machine(f"w{index}", LINK, LinkState.UNKNOWN))
    found.link.to(LinkState.ALIVE)
    replica = found.replicas[0, 0] = Machine(f"w{index}/detect", REPLICA, ReplicaState.STARTING)
    replica.to(ReplicaState.LOADING)
    replica.to(ReplicaState.READY)
    return found


def test_a_pool_keeps_no_more_places_than_a_few_a_seat_however_long_some_are_idle() -> None:
    pool = Pool(2)
    seats = [seat(i) for i in range(4)]
    pool.num_seats = len(seats)
    for each in seats:
        pool.place(each)
    for turn in range(1000):
        taken = pool.freest(0, 0)
        assert taken is seats[0]  # the first of the idle ones, the others are spared
        taken.held.append(turn)
        taken.free_at_s = float(turn)
        pool.place(taken)
        assert pool.freest(0, 0) is seats[1]
        taken.held.remove(turn)
        pool.place(taken)
    assert sum(map(len, pool._heaps)) <= 3 * (2 * len(seats) + 1)


def test_a_seat_has_one_timer_whatever_it_has_worked_off_meanwhile() -> None:
    timers, one = Timers(), seat(0)
    watch = Watch(timers)
    for turn in range(100):  # each over long before it would be late
        watch.begin(one, 0.01 * turn + 0.25, 0.01 * turn + 30.0)
        watch.end(one)
    assert timers.next_s() == 0.25
    assert len(timers.due(1e9)) == 1


def test_what_a_seat_runs_is_late_once_and_then_hangs() -> None:
    timers, one = Timers(), seat(0)
    watch = Watch(timers)
    watch.begin(one, 0.25, 30.0)
    watch.end(one)
    watch.begin(one, 1.25, 31.0)  # another, before the first one's timer has rung
    assert timers.due(0.3)
    assert watch.rang(one, 0.3) == (False, False)
    assert timers.next_s() == 1.25
    assert timers.due(1.25)
    assert watch.rang(one, 1.25) == (True, False)
    assert timers.next_s() == 31.0
    assert timers.due(31.0)
    assert watch.rang(one, 31.0) == (False, True)
    assert timers.next_s() is None


def test_a_watch_that_is_set_earlier_rings_earlier() -> None:
    timers, one = Timers(), seat(0)
    watch = Watch(timers)
    watch.begin(one, 5.0, 30.0)
    watch.begin(one, 1.0, 30.0)
    assert timers.due(1.0)
    assert watch.rang(one, 1.0) == (True, False)
    assert timers.due(5.0)
    assert watch.rang(one, 5.0) == (False, False)
    assert timers.next_s() == 30.0
    assert len(timers.due(1e9)) == 1
