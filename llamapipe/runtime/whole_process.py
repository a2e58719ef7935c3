"""What is set for the whole process as long as any run or server of it is there.

OpenCV keeps to one thread: cores are planned. The first one has OpenCV stop what it starts behind everybody's back, and
the last one gives it its threads again.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

__all__ = ["one_thread", "quick_switches"]

_lock = threading.Lock()
_held = 0
_before = 0  # threads that it had
_quick: list[float] = []  # what is asked for, by everybody who does
_usual_s = 0.0  # interval that it was


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """For as long as this lasts."""
    import cv2

    global _held, _before
    with _lock:
        if not _held:
            _before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _held += 1
    try:
        yield
    finally:
        with _lock:
            _held -= 1
            if not _held:
                cv2.setNumThreads(_before)


@contextlib.contextmanager
def quick_switches(interval_s: float) -> Iterator[None]:
    """Python threads take turns at least so often for as long as this lasts, whoever leaves first."""
    global _usual_s
    with _lock:
        if not _quick:
            _usual_s = sys.getswitchinterval()
        _quick.append(interval_s)
        sys.setswitchinterval(min(_usual_s, *_quick))
    try:
        yield
    finally:
        with _lock:
            _quick.remove(interval_s)
            sys.setswitchinterval(min([_usual_s, *_quick]))
