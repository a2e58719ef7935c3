"""Event logs: everything that control was told and what it answered, one JSON object a line.

The first line is the plan; every other holds the time, the event and the actions. Replaying the events through a
fresh `Controller` must give the same actions: that is the proof that decisions depend on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from llamapipe.control.actions import Action
from llamapipe.control.controller import Controller
from llamapipe.control.events import Event
from llamapipe.control.plan import RunPlan
from llamapipe.errors import WireError

__all__ = ["LogEntry", "encode_entry", "encode_plan", "read_log", "replay"]

_encoder = msgspec.json.Encoder()


class LogEntry(msgspec.Struct, frozen=True):
    """One step of control."""

    t: float  # seconds, on the run's clock
    event: Event
    actions: list[Action]


def encode_plan(plan: RunPlan) -> bytes:
    """The first line of a log. Without what sinks were given, which control never asks for: it may hold passwords."""
    sinks = tuple(msgspec.structs.replace(sink, params={}) for sink in plan.sinks)
    return _encoder.encode(msgspec.structs.replace(plan, sinks=sinks))


def encode_entry(now_s: float, event: Event, actions: Sequence[Action]) -> bytes:
    """Any other line."""
    return _encoder.encode(LogEntry(now_s, event, list(actions)))


def read_log(lines: Iterable[bytes]) -> tuple[RunPlan, Iterator[LogEntry]]:
    """The plan and the steps of a log. Raises WireError for a line that is none of llamapipe's."""
    iterator = iter(lines)
    first = next(iterator, None)
    if first is None:
        raise WireError("the event log is empty", hint="record one with: llamapipe run ... --events")
    try:
        plan = msgspec.json.decode(first, type=RunPlan)
    except msgspec.MsgspecError as error:
        raise WireError(f"line 1 of the event log is no plan: {error}") from error
    return plan, _entries(iterator)


def _entries(lines: Iterator[bytes]) -> Iterator[LogEntry]:
    decoder = msgspec.json.Decoder(LogEntry)
    for number, line in enumerate(lines, 2):
        try:
            yield decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise WireError(f"line {number} of the event log cannot be read: {error}") from error


def replay(lines: Iterable[bytes]) -> Controller:
    """Run a log through a fresh controller. Raises WireError at the first step that decides differently."""
    plan, entries = read_log(lines)
    controller = Controller(plan)
    for number, entry in enumerate(entries, 2):
        actions = controller.step(entry.event, entry.t)
        if actions != entry.actions:
            raise WireError(
                f"line {number}: replay decided {actions}, the run had decided {entry.actions}",
                hint="replay with the version of llamapipe that recorded the log",
            )
    return controller
