"""Connecting to somebody else: in a thread that is left behind where it blocks, again after a growing wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from llamapipe.clock import Clock
from llamapipe.errors import SourceError

__all__ = ["Attempt", "Backoff", "Closable", "ReconnectPolicy", "connect_until", "nap"]

_LOOK_S = 0.05  # how soon a wait notices that it is not wanted any more


@dataclass(frozen=True, slots=True)
class ReconnectPolicy:
    """When a live source counts as gone, and how long it is called back."""

    give_up_s: float = 60.0  # without a picture since it was lost; 0: it is never called back
    first_s: float = 0.0  # that the first connection is tried again for; 0: it is tried once
    stall_timeout_s: float = 5.0  # without a packet: the connection is given up
    first_delay_s: float = 0.25
    max_delay_s: float = 10.0


class Backoff:
    """Waits between attempts: any time up to a limit that doubles, so that many clients do not come at once.

    That is the "full jitter" of Brooker, Exponential Backoff And Jitter (2015).
    """

    def __init__(self, policy: ReconnectPolicy, rng: np.random.Generator) -> None:
        self._policy = policy
        self._rng = rng
        self._limit_s = policy.first_delay_s

    def next_s(self) -> float:
        """Seconds to wait before the next attempt."""
        delay_s = float(self._rng.uniform(0.0, self._limit_s))
        self._limit_s = min(2 * self._limit_s, self._policy.max_delay_s)
        return delay_s

    def reset(self) -> None:
        """The other side has proved to be well."""
        self._limit_s = self._policy.first_delay_s


class Closable(Protocol):
    """What an attempt makes."""

    def close(self) -> None:
        """Let go of it."""
        ...


T = TypeVar("T", bound=Closable)


class Attempt(Generic[T]):
    """One call of ``connect``, in a thread of its own: in C, and in the resolver, nothing can stop it.

    An attempt that is abandoned closes what it made, whenever that is.
    """

    def __init__(self, connect: Callable[[], T]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._abandoned = False
        self._made: T | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="connecting", daemon=True).start()

    def wait(self, unwanted: Callable[[], bool]) -> T | None:
        """What ``connect`` returned, or None once ``unwanted`` says so. Raises what it raised."""
        if not self.ends(unwanted):
            self.abandon()
            return None
        if self._error is not None:
            raise self._error
        return self._made

    def ends(self, unwanted: Callable[[], bool]) -> bool:
        """Wait until it has ended; False once ``unwanted`` says so, and it goes on."""
        try:
            while not self._ended.wait(_LOOK_S):
                if unwanted():
                    return False
        except BaseException:  # Ctrl-C
            self.abandon()
            raise
        return True

    @property
    def made(self) -> bool:
        """Whether ``connect`` has returned something."""
        return self._made is not None

    def abandon(self) -> None:
        """Want it no more. Returns at once; may be called after `wait` gave something, which is then closed."""
        with self._lock:
            self._abandoned = True
            if self._made is not None:
                self._made.close()

    def _run(self) -> None:
        try:
            made = self._connect()
        except BaseException as error:  # raised again where it is waited for
            self._error = error
        else:
            with self._lock:
                self._made = made
                if self._abandoned:
                    made.close()
        self._ended.set()


def nap(until_s: float, clock: Clock, unwanted: Callable[[], bool]) -> bool:
    """Sleep until ``until_s`` on ``clock``; False as soon as ``unwanted`` says so."""
    while not unwanted() and (left_s := until_s - clock.now_s()) > 0:
        clock.sleep(min(left_s, _LOOK_S))
    return not unwanted()


def connect_until(
    connect: Callable[[], T],
    until_s: float | None,
    *,
    backoff: Backoff,
    clock: Clock,
    unwanted: Callable[[], bool],
    shown: str,
) -> T | None:
    """What ``connect`` returns, tried again until ``until_s``; None: only once. Returns None once ``unwanted`` says so.

    Raises the SourceError of the last attempt.
    """

    def late() -> bool:
        return until_s is not None and clock.now_s() >= until_s

    failure: SourceError | None = None
    while not unwanted():
        try:
            made = Attempt(connect).wait(lambda: unwanted() or late())
        except SourceError as error:
            failure = error
        else:
            if made is not None or unwanted():
                return made
        if until_s is None or late():
            raise failure if failure is not None else SourceError(f"source {shown} did not answer in time")
        nap(min(clock.now_s() + backoff.next_s(), until_s), clock, unwanted)
    return None
