"""What stays as long as a run, modules and models and plans: the garbage collector need not walk over it all the time.

There is one collector in a process. The first run that asks has it leave alone what is there, and when the last one has
ended it minds everything again. A program that has frozen something itself is left alone.
"""

from __future__ import annotations

import gc
import threading

__all__ = ["Frozen"]

_lock = threading.Lock()
_holders: set[int] = set()  # runs, by the identity of their `Frozen`
_ours = False  # what is frozen was frozen here


class Frozen:
    """A run's part in it."""

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        self._asked = False

    def freeze(self) -> None:
        """Leave alone what is there now. May be called again and again, which costs nothing."""
        global _ours
        if self._asked:
            return
        self._asked = True
        with _lock:
            if not _holders and not gc.get_freeze_count():
                gc.freeze()
                _ours = True
            _holders.add(id(self))

    def thaw(self) -> None:
        """Of no concern any more. May be called twice."""
        global _ours
        with _lock:
            _holders.discard(id(self))
            if _ours and not _holders:
                gc.unfreeze()
                _ours = False
