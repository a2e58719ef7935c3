"""OpenCV keeps to one thread as long as any run or server of this process is there: cores are planned.

The first one has OpenCV stop what it starts behind everybody's back, and the last one gives it its threads again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

__all__ = ["one_thread"]

_lock = threading.Lock()
_held = 0
_before = 0  # threads that it had


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
