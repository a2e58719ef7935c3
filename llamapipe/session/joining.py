"""Streams whose source was not there when the run began: what is made ready once it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from llamapipe.clock import Clock
from llamapipe.media import VideoSource
from llamapipe.media.contract import Sink
from llamapipe.runtime import Arena, SinkWriter, SourceReader
from llamapipe.session.prepare import Prepared
from llamapipe.wire import Opened

__all__ = ["Joining"]

_LOG = logging.getLogger(__name__)


class Joining:
    """Of one run. ``make_sinks`` opens a stream's sinks; it is called in the thread of the stream's reader."""

    def __init__(
        self,
        prepared: Prepared,
        make_sinks: Callable[[str], Mapping[str, Sink]],
        *,
        arena: Arena,
        clock: Clock,
    ) -> None:
        self._prepared = prepared
        self._make_sinks = make_sinks
        self._arena = arena
        self._clock = clock
        self._writers: dict[str, SinkWriter] = {}  # that the engine has not taken yet

    def readers(self) -> list[SourceReader]:
        """One for each such stream: it waits for its source first."""
        return [
            SourceReader(name, partial(self._open, name), arena=self._arena, clock=self._clock)
            for name in self._prepared.awaited
        ]

    def writer(self, stream: str) -> SinkWriter:
        """That of a stream whose reader has said that it is there."""
        return self._writers.pop(stream)

    def close(self) -> None:
        """Leave nothing of streams that came when the run had failed already."""
        for writer in self._writers.values():
            writer.close(abort=True)

    def _open(self, name: str) -> tuple[VideoSource, Opened]:
        source = self._prepared.awaited[name].open()
        plan = self._prepared.take_in(name, source)
        sinks = self._make_sinks(name)
        self._writers[name] = SinkWriter(name, self._prepared.plan.sinks, sinks, arena=self._arena, clock=self._clock)
        facts = self._prepared.facts[name]
        _LOG.warning("source %s is there and joins the run", self._prepared.specs[name].shown)
        said = Opened(name, facts.width, facts.height, facts.fps, plan.drop_policy, plan.max_pending, plan.paced)
        return source, said
