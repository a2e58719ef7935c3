"""Processes that tests start: waiting for something, and what of them is still there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

LONG_S = 60.0  # that anything may take on a machine that has other things to do: nobody waits for it where all is well


def wait_until(
    happened: Callable[[], object],
    what: Callable[[], object] | str = "",
    *,
    alive: Callable[[], bool] = lambda: True,
    timeout_s: float = LONG_S,
) -> None:
    """Look every few milliseconds. Fails with ``what`` after so long, or where who would do it is not ``alive``."""
    until_s = time.monotonic() + timeout_s
    while not happened():
        lives = alive()
        if happened():  # it may have been the last thing that was done
            return
        assert lives, f"it ended before: {what() if callable(what) else what}"
        assert time.monotonic() < until_s, f"not within {timeout_s:g} s: {what() if callable(what) else what}"
        time.sleep(0.005)


def children(pid: int) -> list[int]:
    """Worker processes of a run, by their number."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"worker_process" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return sorted(found)


def running(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def marked(mark: str) -> list[int]:
    """Processes that have this in their environment, and so all that came of one that was started with it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes() and running(int(folder.name)):
                found.append(int(folder.name))
        except OSError:
            continue
    return sorted(found)


def memory_of(pid: int) -> list[str]:
    """What the process holds of the memory that pictures are shared in. It has no name in any file system."""
    held = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if "memfd:llamapipe" in target:
            held.append(target)
    return held
