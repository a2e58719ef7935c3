"""What stays as long as a run, modules and models and plans: the garbage collector need not walk over it all the time.

There is one collector in a process. The first run that asks has it leave alone what is there, and when the last one has
ended it minds everything again. A program that has frozen something itself is left alone.

A collection stops every thread that runs Python, and beside networks, which fill the caches, takes half a microsecond
for each object that it looks at. So while there are runs it looks at few, often: what has just been made, which is in
the cache as well. It takes no longer in all, and no frame waits for 50,000 of them.
"""

from __future__ import annotations

import gc
import threading

__all__ = ["Frozen", "collect_briefly"]

_lock = threading.Lock()
_holders: set[int] = set()  # runs, by the identity of their `Frozen`
_ours = False  # what is frozen was frozen here
_before = (0, 0, 0)  # thresholds, as they were
_MEANWHILE = (2_000, 10, 500)  # objects, young collections before one of the middle generation, those before a full one


def collect_briefly() -> None:
    """Collect few objects, often, from now on: for processes that are made for one thing."""
    gc.set_threshold(*_MEANWHILE)


class Frozen:
    """A run's part in it."""

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        self._asked = False

    def freeze(self) -> None:
        """Leave alone what is there now. May be called again and again, which costs nothing."""
        global _ours, _before
        if self._asked:
            return
        self._asked = True
        with _lock:
            if not _holders and not gc.get_freeze_count():
                gc.freeze()
                _ours = True
                _before = gc.get_threshold()
                if _before[0]:  # zero is how a program may have switched it off
                    collect_briefly()
            _holders.add(id(self))

    def thaw(self) -> None:
        """Of no concern any more. May be called twice."""
        global _ours
        with _lock:
            _holders.discard(id(self))
            if _ours and not _holders:
                gc.unfreeze()
                _ours = False
                if gc.get_threshold() == _MEANWHILE:
                    gc.set_threshold(*_before)
