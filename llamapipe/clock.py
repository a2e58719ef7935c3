"""Time and the environment as injected objects: the only module that reads either."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Protocol

__all__ = ["Clock", "Env", "SystemClock", "system_env"]

Env = Mapping[str, str]
"""The process environment, as handed to whoever needs it."""


class Clock(Protocol):
    """What the I/O layers know of time."""

    def now_s(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""
        ...

    def wall_s(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    def cpu_s(self) -> float:
        """Processor seconds used so far by this process, and by its child processes that have ended."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; returns at once for zero or less."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_s(self) -> float:
        """See `Clock.now_s`."""
        return time.monotonic()

    def wall_s(self) -> float:
        """See `Clock.wall_s`."""
        return time.time()

    def cpu_s(self) -> float:
        """See `Clock.cpu_s`."""
        children = os.times()
        return time.process_time() + children.children_user + children.children_system

    def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        if seconds > 0:
            time.sleep(seconds)


def system_env() -> Env:
    """The environment of this process."""
    return os.environ
