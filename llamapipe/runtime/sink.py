"""Writes one stream's frames to its sinks, in order, and says what it has written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import zmq

from llamapipe.clock import Clock
from llamapipe.control.plan import SinkPlan
from llamapipe.errors import LlamapipeError
from llamapipe.media.contract import Outcome, Sink, SinkItem
from llamapipe.runtime.arena import Arena
from llamapipe.runtime.dealing import dealer
from llamapipe.runtime.host import merge_payloads
from llamapipe.wire import Close, Closed, Deliveries, Delivery, Hello, Marked, Taken, decode, encode

__all__ = ["SinkWriter"]


class SinkWriter:
    """Writes one stream's ``sinks``, which are open: in a thread of its own (`serve`), or for whoever calls `write`."""

    def __init__(
        self, stream: str, plans: Sequence[SinkPlan], sinks: Mapping[str, Sink], *, arena: Arena, clock: Clock
    ) -> None:
        self.name = f"sink:{stream}"
        self._stream = stream
        self._plans = {plan.name: plan for plan in plans}
        self._selectors = {plan.name: tuple(edge.selector for edge in plan.inputs) for plan in plans}
        self._sinks = dict(sinks)
        self._arena = arena
        self._clock = clock
        self._failed: dict[str, str] = {}

    def serve(self, context: zmq.Context[Any], address: str) -> None:
        """Write until Close, answer Closed. Blocks."""
        socket = dealer(context, self.name, address)
        closed = False
        try:
            socket.send(encode(Hello(self.name, "sink")))
            while not isinstance(message := decode(socket.recv()), Close):
                if isinstance(message, Deliveries):
                    for answer in self.write(message.items):
                        socket.send(encode(answer))
            closed = True
            socket.send(encode(self.close(message.abort)))
        finally:
            if not closed:
                self.close(abort=True)
            socket.close()

    def write(self, items: Sequence[Delivery]) -> list[Taken | Marked]:
        """Write them all; what has come of it, a sink each."""
        answers: dict[str, Taken] = {}
        marks: list[Marked] = []
        values: dict[tuple[int, str], Any] = {}  # shared by the sinks of a frame
        for delivery in items:
            sink = delivery.sink
            if sink in self._failed:
                continue
            before = answers.get(sink)
            latencies = before.latencies if before is not None else []
            try:
                self._sinks[sink].write(self._item(delivery, values))
                if delivery.mark:
                    mark = msgspec.msgpack.encode(self._sinks[sink].mark())
                    marks.append(Marked(self._stream, sink, delivery.seq + 1, mark))
            except Exception as error:
                self._fail(sink, error)
                answers[sink] = Taken(self._stream, sink, delivery.seq - 1, latencies, self._failed[sink])
                continue
            if delivery.outcome == Outcome.DELIVERED:
                now_s = self._clock.now_s()
                latencies.append((now_s, now_s - delivery.captured_at_s))
            answers[sink] = Taken(self._stream, sink, delivery.seq, latencies)
        return [*answers.values(), *marks]

    def _fail(self, sink: str, error: Exception) -> None:
        text = str(error) if isinstance(error, LlamapipeError) else f"{type(error).__name__}: {error}"
        self._failed[sink] = text
        self._sinks[sink].abort()

    def _item(self, delivery: Delivery, values: dict[tuple[int, str], Any]) -> SinkItem:
        plan = self._plans[delivery.sink]
        found: dict[str, Any] = {}
        for edge, payloads in zip(plan.inputs, delivery.values, strict=False):
            if payloads is None or (not payloads and edge.kind == "frames"):
                continue
            key = (delivery.seq, edge.selector)
            if key not in values:
                values[key] = merge_payloads(payloads, edge.kind, self._arena)
            found[edge.selector] = values[key]
        return SinkItem(
            self._stream,
            delivery.seq,
            delivery.pts,
            delivery.pts_s,
            Outcome(delivery.outcome),
            found,
            delivery.reason,
            delivery.stage,
            self._selectors[delivery.sink],
        )

    def close(self, abort: bool = False) -> Closed:
        """Give the files their names, or with ``abort`` remove them."""
        files: list[Path] = []
        for name, sink in self._sinks.items():
            if name in self._failed:
                continue
            try:
                if abort:
                    sink.abort()
                else:
                    files += sink.close()
            except Exception as error:
                self._fail(name, error)
        return Closed(self._stream, [str(file) for file in files], dict(self._failed))
