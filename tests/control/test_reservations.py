"""What is reserved: units times time, never more of a device than there is."""

from __future__ import annotations

import pytest

from llamapipe.control import Reservations


def test_what_is_held_counts_for_as_long_as_it_is() -> None:
    reservations = Reservations()
    reservations.hold("w", "cpu", "workers", 2.0, 10.0)
    reservations.release("w", 13.0)
    reservations.release("w", 20.0)
    assert reservations.device_s(30.0) == {("cpu", "workers"): 6.0}


def test_of_two_cores_three_threads_hold_two_thirds_each() -> None:
    reservations = Reservations({"cpu": 2.0})
    reservations.hold("w", "cpu", "workers", 1.0, 0.0)
    reservations.hold("d", "cpu", "decode", 2.0, 1.0)
    reservations.release("d", 4.0)
    held = reservations.device_s(5.0)
    assert held["cpu", "workers"] == pytest.approx(1 + 2 + 1)
    assert held["cpu", "decode"] == pytest.approx(4)
    assert sum(held.values()) <= 2.0 * 5.0


def test_devices_do_not_share() -> None:
    reservations = Reservations({"cpu": 1.0, "cuda:0": 1.0})
    for name in ("a", "b"):
        reservations.hold(name, "cuda:0", "workers", 1.0, 0.0)
    reservations.hold("c", "cpu", "workers", 1.0, 0.0)
    assert reservations.device_s(2.0) == {("cuda:0", "workers"): 2.0, ("cpu", "workers"): 2.0}


def test_holding_again_takes_the_place_of_what_was_held() -> None:
    reservations = Reservations()
    reservations.hold("w", "cpu", "workers", 1.0, 0.0)
    reservations.hold("w", "cpu", "workers", 3.0, 1.0)
    assert reservations.device_s(2.0) == {("cpu", "workers"): 4.0}
