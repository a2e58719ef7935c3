"""When requests come: open-loop arrival processes, each a function of its seed.

Notation: lambda(t) is the rate (requests a second) at t seconds after the start, Lambda its least upper bound. Random
ones are Poisson processes of that rate, drawn by thinning (Lewis & Shedler, "Simulation of nonhomogeneous Poisson
processes by thinning", 1979): candidates come at rate Lambda, and one at t is kept with probability lambda(t) / Lambda.
Nothing here waits for an answer: what the served side cannot keep up with queues, and the queue counts as latency.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, count
from math import cos, inf, pi

import numpy as np

from llamapipe.errors import UsageError

__all__ = ["Rate", "constant", "diurnal", "poisson", "ramp", "recorded", "spike", "steady", "zipf"]


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate over time: ``at(t)`` requests a second at t seconds, never above ``peak``; over after ``duration_s``."""

    at: Callable[[float], float]
    peak: float
    duration_s: float


def steady(rate: float, duration_s: float) -> Rate:
    """The same rate throughout. Raises UsageError, as all below, for a rate or a time that is not positive."""
    _positive(rate=rate, duration_s=duration_s)
    return Rate(lambda _: rate, rate, duration_s)


def ramp(first: float, last: float, duration_s: float) -> Rate:
    """From one rate to another in a straight line."""
    _positive(peak=max(first, last), duration_s=duration_s)
    _not_negative(first=first, last=last)
    return Rate(lambda t_s: first + (last - first) * t_s / duration_s, max(first, last), duration_s)


def spike(base: float, peak: float, duration_s: float, *, start_s: float, length_s: float) -> Rate:
    """``base``, but ``peak`` for ``length_s`` from ``start_s`` on; up and down at once, which is the hard case."""
    _positive(peak=max(base, peak), duration_s=duration_s, length_s=length_s)
    _not_negative(base=base, peak=peak, start_s=start_s)
    end_s = start_s + length_s
    return Rate(lambda t_s: peak if start_s <= t_s < end_s else base, max(base, peak), duration_s)


def diurnal(low: float, high: float, duration_s: float, *, period_s: float) -> Rate:
    """A day's course: a cosine that begins at its ``low``, is at its ``high`` half a period later, and repeats."""
    _positive(high=high, duration_s=duration_s, period_s=period_s)
    _not_negative(low=low)
    if low > high:
        raise UsageError(f"arrivals: the low rate {low:g} is above the high one {high:g}")
    middle, swing = (low + high) / 2, (high - low) / 2
    return Rate(lambda t_s: middle - swing * cos(2 * pi * t_s / period_s), high, duration_s)


def constant(rate: Rate) -> Iterator[float]:
    """Seconds of arrivals without chance: the k-th comes when lambda, integrated, reaches k (k = 1, 2, ...).

    Of a steady rate they are 1 / rate apart. The integral is taken in steps of a tenth of the least gap.
    """
    step_s = 0.1 / rate.peak
    due = 0.0
    for i in range(int(rate.duration_s / step_s + 1e-9)):
        due += rate.at((i + 0.5) * step_s) * step_s
        if due >= 1 - 1e-9:
            due -= 1
            yield (i + 1) * step_s


def poisson(rate: Rate, seed: int) -> Iterator[float]:
    """Seconds of arrivals of a Poisson process with that rate, rising; the same seed gives the same ones."""
    generator = np.random.default_rng(seed)
    at_s = 0.0
    while True:
        at_s += generator.exponential() / rate.peak
        if at_s >= rate.duration_s:
            return
        if generator.random() * rate.peak < rate.at(at_s):
            yield at_s


def recorded(times_s: Iterable[float], *, speed: float = 1.0, duration_s: float = inf) -> Iterator[float]:
    """A trace played back from its first arrival on, ``speed`` times as fast.

    Raises UsageError for one that goes back in time.
    """
    _positive(speed=speed)
    first_s = last_s = None
    for k, time_s in zip(count(1), times_s, strict=False):
        if last_s is not None and time_s < last_s:
            raise UsageError(f"arrivals: time {k} of the trace is {time_s:g} s, after {last_s:g} s")
        first_s = time_s if first_s is None else first_s
        last_s = time_s
        at_s = (time_s - first_s) / speed
        if at_s >= duration_s:
            return
        yield at_s


def zipf(names: Sequence[str], seed: int, *, exponent: float = 1.0) -> Iterator[str]:
    """What each arrival asks for, for ever: the k-th name with a weight of k ** -exponent.

    Raises UsageError where there is no name.
    """
    if not names:
        raise UsageError("arrivals: nothing to choose from")
    _not_negative(exponent=exponent)
    bounds = list(accumulate((k + 1) ** -exponent for k in range(len(names))))
    generator = np.random.default_rng(seed)
    while True:
        yield names[min(bisect_right(bounds, generator.random() * bounds[-1]), len(names) - 1)]


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < inf:
            raise UsageError(f"arrivals: {name} has to be above 0, got {value:g}")


def _not_negative(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < inf:
            raise UsageError(f"arrivals: {name} has to be 0 or more, got {value:g}")
