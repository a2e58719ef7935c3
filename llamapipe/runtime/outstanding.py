"""Invocations that workers have, what they were given, and what came of each of their stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from msgspec.structs import replace

from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.control.plan import StagePlan, replica_name
from llamapipe.runtime.arena import Arena
from llamapipe.runtime.journal import references
from llamapipe.runtime.store import PayloadStore
from llamapipe.wire import ChainInputs, Done, ItemInputs, ItemOutputs

__all__ = [
    "Outstanding",
    "give_back",
    "inputs_of",
    "num_pictures",
    "one_by_one",
    "outputs_by_stage",
    "results_of",
    "withdraw",
]


@dataclass(slots=True)
class Outstanding:
    """An invocation that a worker has."""

    dispatch: act.Dispatch
    identity: str
    items: list[ItemInputs]
    lent: list[tuple[int, int]]
    chain: list[ChainInputs]
    wanted: bool = True

    @property
    def given(self) -> set[tuple[int, int]]:
        """Slots (slot, generation) of all pictures that it was given."""
        return references(item for items in (self.items, *(link.items for link in self.chain)) for item in items)


def inputs_of(
    action: act.Dispatch, stages: Mapping[str, StagePlan], store: PayloadStore
) -> tuple[list[ItemInputs], list[ChainInputs]]:
    """What an invocation is given: its items, and for every further stage of a chain what does not come from within."""

    def given(name: str, but_of: str | None = None) -> list[ItemInputs]:
        stage = stages[name]
        return [
            ItemInputs(stream, seq, index, store.inputs(stage, stream, seq, index, but_of=but_of))
            for stream, seq, index in action.items
        ]

    chain = [
        ChainInputs(replica_name(action.worker, name), given(name, before))
        for before, name in pairwise((action.stage, *action.chain))
    ]
    return given(action.stage), chain


def outputs_by_stage(message: Done) -> list[Sequence[ItemOutputs | None]]:
    """Outputs by item of every stage that an invocation has run, in order; None where an item did not come to it."""
    return [message.items, *(link.items for link in message.chain)]


def results_of(items: Sequence[ItemOutputs | None]) -> tuple[list[int], list[list[float]], dict[int, str]]:
    """What control is told of one stage's items: counts, measures, errors."""
    counts = [ev.NOT_RUN if outputs is None else outputs.count for outputs in items]
    measures = [[] if outputs is None else outputs.measures for outputs in items]
    errors = {i: outputs.error for i, outputs in enumerate(items) if outputs is not None and outputs.error is not None}
    return counts, measures if any(measures) else [], errors


def one_by_one(dispatch: act.Dispatch, message: Done) -> Iterator[tuple[act.Dispatch, Done]]:
    """Every stage that was run, as if it had been run by itself."""
    yield dispatch, message
    for stage, link in zip(dispatch.chain, message.chain, strict=True):
        ran = [(item, outputs) for item, outputs in zip(dispatch.items, link.items, strict=True) if outputs is not None]
        if ran:
            replica, items = replica_name(dispatch.worker, stage), [item for item, _ in ran]
            alone = replace(dispatch, stage=stage, replica=replica, items=items, chain=())
            yield alone, Done(message.invocation, [outputs for _, outputs in ran], link.started_s, link.ended_s)


def num_pictures(stage: StagePlan) -> int:
    """New pictures that a stage may make of an item."""
    if stage.cuts:
        return 0
    return sum(kind == "frames" for kind in stage.outputs.values()) * (stage.max_items if stage.fan_out else 1)


def give_back(arena: Arena, out: Outstanding, message: Done | None) -> None:
    """End an invocation's leases; of the slots lent to it, keep those that hold outputs."""
    used = set(_made(message)) if out.lent and message is not None else set()
    arena.take_back(out.lent, used)
    for slot, generation in out.given:
        arena.release(slot, generation)


def withdraw(arena: Arena, out: Outstanding, message: Done) -> None:
    """Take back pictures that a thread made for nobody."""
    if out.lent:
        return
    given = out.given
    for place in _made(message):
        if place not in given:
            given.add(place)
            arena.release(*place)


def _made(message: Done) -> Iterator[tuple[int, int]]:
    """Slots (slot, generation) of the pictures among the outputs."""
    for items in outputs_by_stage(message):
        for outputs in items:
            for port in outputs.outputs if outputs is not None else ():
                for payload in port:
                    if not isinstance(payload, bytes):
                        yield payload.slot, payload.generation
