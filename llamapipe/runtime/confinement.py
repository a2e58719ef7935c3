"""Holds the threads of a run on some of the process's cores."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Collection
from pathlib import Path

__all__ = ["Confinement", "busy_ticks", "idlest_cores"]

_TASKS = Path("/proc/self/task")
_TICKS = Path("/proc/stat")
_active: list[Confinement] = []
_lock = threading.Lock()


class Confinement:
    """Of the run that the calling thread begins: it, and all threads that come to be in this process from now on.

    A thread inherits the cores of the one that starts it, so that those to come need not be looked for. Threads of two
    runs cannot be told apart: `possible` is False of all for as long as there are several in this process, and where
    the system has no affinity.
    """

    def __init__(self) -> None:
        self._cores: frozenset[int] = frozenset(os.sched_getaffinity(0)) if _TASKS.is_dir() else frozenset()
        me = threading.get_native_id()
        self._others = {task for task in _threads() if task != me}
        self._confined = False
        with _lock:
            _active.append(self)

    @property
    def possible(self) -> bool:
        """Whether the run's threads can be told from others."""
        return bool(self._cores) and len(_active) == 1

    def to(self, cores: Collection[int]) -> bool:
        """Hold them on these cores; whether that could be done."""
        wanted = self._cores & frozenset(cores)
        if not wanted or not self.possible:
            return False
        self._move(wanted)
        self._confined = wanted != self._cores
        return True

    def end(self) -> None:
        """Let the threads that are left have all cores again. To be called by the thread that has begun it."""
        with _lock, contextlib.suppress(ValueError):
            _active.remove(self)
        if self._confined:
            self._confined = False
            self._move(self._cores)

    def _move(self, cores: frozenset[int]) -> None:
        seen: set[int] = set()
        while new := _threads() - self._others - seen:  # one that was just started may have been missed
            for thread in new:
                with contextlib.suppress(OSError):  # it has ended
                    os.sched_setaffinity(thread, cores)
            seen |= new


def _threads() -> set[int]:
    try:
        return {int(task.name) for task in _TASKS.iterdir()}
    except OSError:
        return set()


def idlest_cores(cores: Collection[int], before: dict[int, float]) -> list[int]:
    """The cores, the one first that did least since ``before``; see `busy_ticks`."""
    now = busy_ticks()
    return sorted(cores, key=lambda core: (now.get(core, 0.0) - before.get(core, 0.0), core))


def busy_ticks() -> dict[int, float]:
    """What each core has done since the machine was started, in its own unit; empty where the system does not say."""
    found: dict[int, float] = {}
    with contextlib.suppress(OSError):
        for line in _TICKS.read_text().splitlines():
            name, *ticks = line.split()
            if name.startswith("cpu") and name[3:].isdigit():
                numbers = [float(tick) for tick in ticks]
                found[int(name[3:])] = sum(numbers) - sum(numbers[3:5])  # idle, and waiting for a disk
    return found
