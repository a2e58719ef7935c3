"""Sources that keep one waiting: connected to in a thread each, so that a run may begin before they are there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

from llamapipe.errors import InterruptedRun, SourceError
from llamapipe.media.connecting import Attempt
from llamapipe.media.contract import VideoSource
from llamapipe.media.expand import SourceSpec

__all__ = ["AwaitedSource", "Opener"]

Opener: TypeAlias = Callable[[SourceSpec, Callable[[], bool]], VideoSource]
"""Opens a source; its second argument says when it is not wanted any more, and then it raises InterruptedRun."""


class AwaitedSource:
    """A source that is being connected to. ``first`` is called at once, in a thread of its own.

    ``insist`` is called by `open` where ``first`` was in vain, and tries until it is told to stop; None: nobody does.
    """

    def __init__(self, spec: SourceSpec, first: Opener, insist: Opener | None) -> None:
        self._spec = spec
        self._insist = insist
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._source: VideoSource | None = None  # once `open` has given it
        self._attempt = Attempt(lambda: first(spec, self._stopped.is_set))

    @property
    def is_there(self) -> bool:
        """Whether ``first`` has got it."""
        return self._attempt.made

    def first(self, unwanted: Callable[[], bool]) -> VideoSource | None:
        """What ``first`` gives; None once ``unwanted`` says so, and it goes on. Raises SourceError."""
        return self._attempt.wait(unwanted) if self._attempt.ends(unwanted) else None

    def open(self) -> VideoSource:
        """The source, however long it takes. Raises SourceError where it is given up, or `close` came before it."""
        try:
            source = self._try()
        except InterruptedRun as error:
            raise self._never(error.__cause__) from error
        with self._lock:
            if not self._stopped.is_set():
                self._source = source
                return source
        source.close()
        raise self._never(None)

    def close(self) -> None:
        """Stop connecting, or close what was opened. Returns at once; may be called from any thread, and twice."""
        with self._lock:
            self._stopped.set()
            if self._source is not None:
                self._source.close()
        self._attempt.abandon()

    def _try(self) -> VideoSource:
        try:
            source = self._attempt.wait(lambda: False)
        except SourceError:
            if self._insist is None or self._stopped.is_set():
                raise
            return self._insist(self._spec, self._stopped.is_set)
        assert source is not None
        return source

    def _never(self, reason: BaseException | None) -> SourceError:
        if isinstance(reason, SourceError):
            return SourceError(f"{reason.message}; it was called until the run ended", hint=reason.hint)
        return SourceError(f"source {self._spec.shown} was not there before the run ended")
