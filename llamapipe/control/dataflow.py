"""How a frame moves through the graph: joins wait for completion records, never for data.

Every (frame, stage) ends in exactly one record: done with a count, skipped, filtered, dropped, failed or
cancelled. A stage is looked at once all its producers have a record; a sink likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import inf

from llamapipe.control.events import FAILED_ITEM, FILTERED_ITEM
from llamapipe.control.ledger import Ledger
from llamapipe.control.lifecycle import ItemState
from llamapipe.control.plan import RunPlan
from llamapipe.spec.when import When, parse_when

__all__ = ["ENDED_BADLY", "Dataflow", "FrameRecord", "Topology"]

ENDED_BADLY = (ItemState.FAILED, ItemState.DROPPED, ItemState.CANCELLED)
"""Without outputs that were meant to be there, in order of precedence."""
_NO_REASON = ("", "")


class Topology:
    """The plan's graph by index, computed once."""

    def __init__(self, plan: RunPlan) -> None:
        self.stages = plan.stages
        self.sinks = plan.sinks
        self.index = {stage.name: i for i, stage in enumerate(plan.stages)}
        self.whens: list[When | None] = [parse_when(s.when) if s.when else None for s in plan.stages]
        self.holds: list[When | None] = [parse_when(s.hold_unless) if s.hold_unless else None for s in plan.stages]
        self.producers: list[tuple[int, ...]] = []
        for stage, when, hold in zip(plan.stages, self.whens, self.holds, strict=True):
            names = {edge.stage for edge in stage.inputs if edge.stage}
            for condition in (when, hold):
                names |= {atom.stage for atom in condition.atoms} if condition is not None else set()
            if stage.level:
                names.add(stage.level)
            self.producers.append(tuple(sorted(self.index[name] for name in names)))
        self.consumers: list[list[int]] = [[] for _ in plan.stages]
        for i, producers in enumerate(self.producers):
            for producer in producers:
                self.consumers[producer].append(i)
        self.roots = [i for i, producers in enumerate(self.producers) if not producers]
        self.level = [self.index[stage.level] if stage.level else -1 for stage in plan.stages]
        self.sink_producers = [
            tuple(sorted({self.index[edge.stage] for edge in sink.inputs if edge.stage})) for sink in plan.sinks
        ]
        self.sink_consumers: list[list[int]] = [[] for _ in plan.stages]
        for i, producers in enumerate(self.sink_producers):
            for producer in producers:
                self.sink_consumers[producer].append(i)
        # What each stage's workers must measure for the conditions of stages further down.
        self.probes: list[list[tuple[str, str]]] = [[] for _ in plan.stages]  # (combine, key)
        for condition in chain.from_iterable(zip(self.whens, self.holds, strict=True)):
            for atom in condition.atoms if condition is not None else ():
                probe = (atom.combine, atom.key)
                if probe not in self.probes[self.index[atom.stage]]:
                    self.probes[self.index[atom.stage]].append(probe)


class FrameRecord:
    """One frame on its way. Lists are by stage index, ``sinks_missing`` by sink index."""

    __slots__ = (
        "captured_at_s",
        "count",
        "left_s",
        "lost_items",
        "measures",
        "missing",
        "open_stages",
        "order",
        "pts_s",
        "reasons",
        "remaining",
        "seq",
        "sinks_missing",
        "state",
        "stream",
    )

    def __init__(
        self, topology: Topology, stream: str, seq: int, order: int, captured_at_s: float, pts_s: float
    ) -> None:
        n = len(topology.stages)
        self.stream = stream
        self.seq = seq
        self.order = order  # among the stream's admitted frames, without gaps
        self.captured_at_s = captured_at_s
        self.pts_s = pts_s
        self.state = [ItemState.WAITING] * n
        self.count = [0] * n  # items out, valid once the state is final
        self.remaining = [0] * n  # items whose result is awaited
        self.missing = [len(p) for p in topology.producers]  # producers without a record
        self.sinks_missing = [len(p) for p in topology.sink_producers]
        self.left_s = -inf  # when the last sink so far took it
        self.open_stages = n
        # Most frames have none of these, and thousands are on their way: an empty container each would be memory to
        # walk over.
        self.lost_items: dict[int, int] | None = None  # items that were filtered, by stage
        self.reasons: dict[int, tuple[str, str]] | None = None  # see `why`, by stage
        self.measures: dict[str, float] | None = None  # `when` figures by key

    def why(self, stage: int) -> tuple[str, str]:
        """(stage, reason) of anything but done."""
        return _NO_REASON if self.reasons is None else self.reasons.get(stage, _NO_REASON)

    def blame(self, stage: int, origin: str, reason: str) -> None:
        """Why the stage is, or will be, anything but done."""
        if self.reasons is None:
            self.reasons = {}
        self.reasons[stage] = (origin, reason)

    def measure(self, key: str) -> float:
        """A figure for `when`; 0 where nothing was measured."""
        return 0.0 if self.measures is None else self.measures.get(key, 0.0)

    def set_measure(self, key: str, value: float) -> None:
        """A figure for `when`."""
        if self.measures is None:
            self.measures = {}
        self.measures[key] = value

    def passes(self, condition: When) -> bool:
        """Whether what was measured of the frame meets it."""
        return condition.decide({a.key: a.test(self.measure(a.key)) for a in condition.atoms})


class Dataflow:
    """Applies records to frames. Leaves what follows in ``ready``, ``settled`` and ``ended`` for the caller."""

    def __init__(self, topology: Topology, ledger: Ledger) -> None:
        self.topology = topology
        self.ledger = ledger
        self.ready: list[tuple[FrameRecord, int]] = []  # stages whose inputs are complete
        self.settled: list[tuple[FrameRecord, int]] = []  # stages that got their record
        self.ended: list[tuple[FrameRecord, int, str, str, str]] = []  # sink, outcome, stage, reason

    @property
    def unsettled(self) -> bool:
        """Whether something is left for the caller."""
        return bool(self.ready or self.settled or self.ended)

    def admit(self, frame: FrameRecord) -> None:
        """The frame's pixels are there: every stage that needs nothing else is ready."""
        for stage in self.topology.roots:
            self._consider(frame, stage)
        for sink, producers in enumerate(self.topology.sink_producers):
            if not producers:  # the source straight into a sink
                self._end(frame, sink)

    def num_items(self, frame: FrameRecord, stage: int) -> int:
        """How many items the stage has for this frame."""
        level = self.topology.level[stage]
        return 1 if level < 0 else frame.count[level]

    def start(self, frame: FrameRecord, stage: int) -> int:
        """Items to work on now; with none, the stage is done at once."""
        n = self.num_items(frame, stage)
        self.ledger.items_in[self.topology.stages[stage].name] += n
        if n == 0:
            self.settle(frame, stage, ItemState.DONE, 0)
            return 0
        frame.state[stage] = ItemState.QUEUED
        frame.remaining[stage] = n
        return n

    def item_done(self, frame: FrameRecord, stage: int, count: int, measures: Sequence[float], error: str) -> None:
        """One item's result."""
        plan = self.topology.stages[stage]
        self.ledger.items_done[plan.name] += 1
        frame.remaining[stage] -= 1
        if count == FAILED_ITEM:
            frame.blame(stage, plan.name, f"{plan.name}: {error}")
        elif count == FILTERED_ITEM:
            if frame.lost_items is None:
                frame.lost_items = {}
            frame.lost_items[stage] = frame.lost_items.get(stage, 0) + 1
        else:
            frame.count[stage] += count
        for (combine, key), value in zip(self.topology.probes[stage], measures, strict=False):
            known = frame.measure(key)
            frame.set_measure(key, known + value if combine == "sum" else max(known, value))
        self._item_over(frame, stage)

    def item_cancelled(self, frame: FrameRecord, stage: int, reason: str) -> None:
        """One item is not worked on any more. A frame that has such an item is cancelled there, unless one failed."""
        plan = self.topology.stages[stage]
        self.ledger.items_done[plan.name] += 1
        frame.remaining[stage] -= 1
        if not frame.why(stage)[1]:
            frame.blame(stage, "", reason)
        self._item_over(frame, stage)

    def _item_over(self, frame: FrameRecord, stage: int) -> None:
        plan = self.topology.stages[stage]
        if frame.remaining[stage]:
            return
        origin, reason = frame.why(stage)
        if reason:  # only what failed has somebody whose fault it was
            self.settle(frame, stage, ItemState.FAILED if origin else ItemState.CANCELLED, 0, origin, reason)
        elif frame.lost_items is not None and stage in frame.lost_items and self.topology.level[stage] < 0:
            self.settle(frame, stage, ItemState.FILTERED, 0, plan.name, "filtered")
        else:
            self.settle(frame, stage, ItemState.DONE, frame.count[stage])

    def drop(self, frame: FrameRecord, stage: int, reason: str) -> None:
        """Give up all items that the stage has of the frame, none of which anybody works on."""
        plan = self.topology.stages[stage]
        self.ledger.items_done[plan.name] += frame.remaining[stage]
        frame.remaining[stage] = 0
        self.settle(frame, stage, ItemState.DROPPED, 0, plan.name, reason)

    def settle(
        self, frame: FrameRecord, stage: int, state: ItemState, count: int, origin: str = "", reason: str = ""
    ) -> None:
        """Write the stage's one record, and look at whoever waited for it."""
        frame.state[stage] = state
        frame.count[stage] = count
        if origin or reason or frame.reasons is not None:
            frame.blame(stage, origin, reason)
        frame.open_stages -= 1
        self.settled.append((frame, stage))
        for consumer in self.topology.consumers[stage]:
            frame.missing[consumer] -= 1
            if frame.missing[consumer] == 0 and frame.state[consumer] is ItemState.WAITING:
                self._consider(frame, consumer)
        for sink in self.topology.sink_consumers[stage]:
            frame.sinks_missing[sink] -= 1
            if frame.sinks_missing[sink] == 0:
                self._end(frame, sink)

    def end_all(self, frame: FrameRecord, state: ItemState, origin: str, reason: str) -> None:
        """The frame goes no further: every stage that waits or is queued gets this record."""
        for stage in range(len(self.topology.stages)):
            if frame.state[stage] is ItemState.WAITING:
                self.settle(frame, stage, state, 0, origin, reason)
        for sink, producers in enumerate(self.topology.sink_producers):
            if not producers:
                self.ended.append((frame, sink, state.value, origin, reason))

    def _consider(self, frame: FrameRecord, stage: int) -> None:
        plan = self.topology.stages[stage]
        states = [frame.state[producer] for producer in self.topology.producers[stage]]
        for bad in (*ENDED_BADLY, ItemState.FILTERED):
            if bad in states:
                producer = self.topology.producers[stage][states.index(bad)]
                self.settle(frame, stage, bad, 0, *frame.why(producer))
                return
        when = self.topology.whens[stage]
        if when is not None and not frame.passes(when):
            if plan.hides:  # fail closed: what should have been hidden was not looked at
                self.settle(frame, stage, ItemState.FAILED, 0, plan.name, f"{plan.name}: skipped a hiding stage")
            else:
                self.settle(frame, stage, ItemState.SKIPPED, 0, plan.name, "when")
            return
        self.ready.append((frame, stage))

    def _end(self, frame: FrameRecord, sink: int) -> None:
        producers = self.topology.sink_producers[sink]
        states = [frame.state[producer] for producer in producers]
        for bad in ENDED_BADLY:
            if bad in states:
                self.ended.append((frame, sink, bad.value, *frame.why(producers[states.index(bad)])))
                return
        if states and all(state is ItemState.FILTERED for state in states):
            self.ended.append((frame, sink, ItemState.FILTERED.value, *frame.why(producers[0])))
        else:
            self.ended.append((frame, sink, "delivered", "", ""))
