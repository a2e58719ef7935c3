"""What a run reserves over time: who holds how much of which device, from when to when.

Of a device with a capacity no more can be held than there is: where more threads than cores may run, each holder is
charged its share of the cores. With h_p(t) units held by part p of a device of capacity C:

    reserved_p = integral of h_p(t) * min(1, C / sum_q h_q(t)) dt        device-seconds

Live runs and simulated ones count with the same object.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

__all__ = ["Reservations"]


class Reservations:
    """Times are seconds of any one clock, and must not go back."""

    def __init__(self, capacity: Mapping[str, float] | None = None) -> None:
        self._capacity = dict(capacity or {})  # by device; one that is not there has no end
        self._holders: dict[str, tuple[str, str, float]] = {}  # name -> device, part, units
        self._held: dict[str, dict[str, float]] = {}  # device -> part -> units
        self._at_s: dict[str, float] = {}  # device -> up to when it is accounted for
        self._reserved: dict[tuple[str, str], float] = {}  # (device, part) -> device-seconds

    def hold(self, name: str, device: str, part: str, units: float, now_s: float) -> None:
        """``name`` takes so much of a device, in place of what it had."""
        self.release(name, now_s)
        self._advance(device, now_s)
        self._holders[name] = device, part, units
        parts = self._held.setdefault(device, {})
        parts[part] = parts.get(part, 0.0) + units

    def release(self, name: str, now_s: float) -> None:
        """``name`` takes nothing any more. May be told again."""
        held = self._holders.pop(name, None)
        if held is not None:
            device, part, units = held
            self._advance(device, now_s)
            self._held[device][part] -= units

    def limit(self, device: str, capacity: float, now_s: float) -> None:
        """From now on there is so much of the device."""
        self._advance(device, now_s)
        self._capacity[device] = capacity

    def device_s(self, now_s: float) -> dict[tuple[str, str], float]:
        """Device-seconds by (device, part) until now."""
        for device in self._held:
            self._advance(device, now_s)
        return dict(self._reserved)

    def _advance(self, device: str, now_s: float) -> None:
        passed_s = now_s - self._at_s.get(device, now_s)
        self._at_s[device] = now_s
        parts = self._held.get(device, {})
        total = sum(parts.values())
        if passed_s <= 0.0 or total <= 0.0:
            return
        share = min(1.0, self._capacity.get(device, inf) / total)
        for part, units in parts.items():
            self._reserved[device, part] = self._reserved.get((device, part), 0.0) + units * share * passed_s
