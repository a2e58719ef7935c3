"""How a run is told to stop, without a word to others who share what tells it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Linked", "first_ctrl_c"]


class Linked(threading.Event):
    """Set by itself, or by another one, which stays as it is: that may be for several runs."""

    def __init__(self, other: threading.Event | None) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        """See `threading.Event`."""
        return super().is_set() or (self._other is not None and self._other.is_set())


@contextlib.contextmanager
def first_ctrl_c(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C stops the run, which finishes its files, and then the program; a second one does at once.

    In the main thread, where nobody else minds it.
    """
    usual = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return
    pressed: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if pressed:
            usual(number, frame)
        pressed.append(number)
        stop.set()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if pressed:
        raise KeyboardInterrupt
