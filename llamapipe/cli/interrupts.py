"""Ctrl-C: once finalises every output, twice gives up, three times leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from llamapipe.cli.terminal import Terminal

__all__ = ["first_finalises"]


@contextmanager
def first_finalises(terminal: Terminal, begun: Callable[[], bool] = lambda: True) -> Iterator[threading.Event]:
    """An event that the first SIGINT, SIGTERM or SIGHUP sets; the second raises KeyboardInterrupt, the third exits.

    As long as nothing has ``begun`` (sources are connecting, models are fetched) there is nothing to finish, and the
    first one raises.

    Handlers are put back afterwards. Off the main thread, where there are no signals, nothing is handled.
    """
    interrupt = threading.Event()
    count = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count = 2 if count == 0 and not begun() else count + 1
        if count == 1:
            interrupt.set()
            # A handler may not take the locks of buffered streams: write the bytes.
            if not terminal.quiet:
                with suppress(OSError):
                    os.write(2, b"\nstopping: finishing every output; Ctrl-C again gives up\n")
        elif count == 2:
            raise KeyboardInterrupt
        else:
            os._exit(130)

    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup: a terminal that is closed is no reason to stop
            before[number] = signal.signal(number, handle)
        yield interrupt
    finally:
        for restored, handler in before.items():
            signal.signal(restored, handler)
