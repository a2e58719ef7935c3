"""Holds the threads of a run on some of the process's cores."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Collection, Sequence
from pathlib import Path

__all__ = ["Confinement", "CoreClaims", "binds_threads", "busy_ticks", "idlest_cores"]

_TASKS = Path("/proc/self/task")
_TICKS = Path("/proc/stat")
_active: list[Confinement] = []
_lock = threading.Lock()


def binds_threads() -> bool:
    """Whether this system binds threads to cores, and says which there are."""
    return hasattr(os, "sched_setaffinity") and _TASKS.is_dir()


class CoreClaims:
    """Cores that runs of one user are held on, a locked file each, so that two do not choose the same one.

    A lock ends with its process, whatever ends that. Where all are taken, or nothing can be locked, cores are shared.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, int] = {}  # core -> descriptor

    def choose(self, count: int, among: Sequence[int]) -> list[int]:
        """So many cores, the first ones that nobody else has claimed before others; all others are given back."""
        mine = [core for core in among if core in self._files]
        for core in among:
            if len(mine) < count < len(among) and core not in self._files and self._claim(core):
                mine.append(core)
        chosen = [*mine, *(core for core in among if core not in mine)][:count]
        for core in self._files.keys() - (set(chosen) if count < len(among) else set()):
            os.close(self._files.pop(core))
        return chosen

    def close(self) -> None:
        """Give back all."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def _claim(self, core: int) -> bool:
        import fcntl

        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._folder / f"{core}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._files[core] = descriptor
        return True


class Confinement:
    """Of the run that the calling thread begins: it, and all threads that come to be in this process from now on.

    A thread inherits the cores of the one that starts it, so that those to come need not be looked for. Threads of two
    runs cannot be told apart: `possible` is False of all for as long as there are several in this process, and where
    the system has no affinity.
    """

    def __init__(self, claims: CoreClaims | None = None) -> None:
        self._claims = claims
        self._cores: frozenset[int] = frozenset(os.sched_getaffinity(0)) if binds_threads() else frozenset()
        me = threading.get_native_id()
        self._others = {task for task in _threads() if task != me}
        self._confined = False
        with _lock:
            _active.append(self)

    @property
    def possible(self) -> bool:
        """Whether the run's threads can be told from others."""
        return bool(self._cores) and len(_active) == 1

    def to(self, count: int, among: Sequence[int]) -> bool:
        """Hold them on so many of these cores, those first that nobody has claimed. Whether that could be done."""
        among = [core for core in among if core in self._cores]
        if not 0 < count <= len(among) or not self.possible:
            return False
        chosen = among[:count] if self._claims is None else self._claims.choose(count, among)
        wanted = frozenset(chosen)
        self._move(wanted)
        self._confined = wanted != self._cores
        return True

    def end(self) -> None:
        """Let the threads that are left have all cores again. To be called by the thread that has begun it."""
        with _lock, contextlib.suppress(ValueError):
            _active.remove(self)
        if self._claims is not None:
            self._claims.close()
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
