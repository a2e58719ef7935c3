"""What the simulator knows of the world: how long things take and what comes out of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol

from llamapipe.control import LogEntry, RunPlan
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.control.plan import choice_name, replica_parts

__all__ = ["ItemOutcome", "Moments", "SourceTrace", "World", "WorldProfile", "profile_of_log"]


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """What comes of one item: as in `llamapipe.control.events.InvocationDone`."""

    count: int = 1
    measures: tuple[float, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class SourceTrace:
    """What one source gives: presentation times (s), and which of them cannot be decoded."""

    pts_s: tuple[float, ...]
    decode_s: float = 0.0  # between two frames of a source that waits for credit
    paced: bool = False  # frame k arrives at pts_s[k], credit or not
    begins_when_granted: bool = False  # of a paced one: its times count from the first grant, and decoding takes time
    undecodable: Mapping[int, str] = field(default_factory=dict)  # seq -> reason


Moment = tuple[float, int]  # seconds on the run's clock, and the place in the log, which orders equal times


@dataclass(frozen=True, slots=True)
class Moments:
    """When things happened in a recorded run. What is not here never happened, so they fit the plan of that run alone.

    Which frames a live stream drops hangs on single moments, where means of durations say only how many.
    """

    outside: list[tuple[Moment, ev.Event]] = field(default_factory=list)  # start, sources, workers, ticks, the user
    done: dict[int, tuple[Moment, ev.InvocationDone]] = field(default_factory=dict)  # by invocation
    loaded: dict[str, Moment] = field(default_factory=dict)  # by replica
    committed: dict[tuple[str, str, int], Moment] = field(default_factory=dict)  # by stream, sink, seq
    closed: dict[str, Moment] = field(default_factory=dict)  # by stream

    def note(self, moment: Moment, event: ev.Event) -> None:
        """Take down one event of the log."""
        match event:
            case ev.InvocationDone():
                self.done[event.invocation] = moment, event
            case ev.ReplicaLoaded():
                self.loaded[event.replica] = moment
            case ev.Committed():
                self.committed[event.stream, event.sink, event.seq] = moment
            case ev.StreamClosed():
                self.closed[event.stream] = moment
            case _:
                self.outside.append((moment, event))


class World(Protocol):
    """All that a simulation is told of what is outside control. Times in seconds.

    ``cores`` are shared by workers, sources and sinks; None: everybody has one of their own.
    """

    @property
    def moments(self) -> Moments | None:
        """When things happened, where a recorded run is to be repeated as it was."""
        ...

    @property
    def cores(self) -> float | None:
        """See the class."""
        ...

    def trace(self, stream: str) -> SourceTrace:
        """What the source gives."""
        ...

    def work_s(self, dispatch: act.Dispatch, now_s: float) -> float:
        """What an invocation takes on cores of its own."""
        ...

    def weight(self, dispatch: act.Dispatch) -> float:
        """How many cores it keeps busy."""
        ...

    def outcome(self, stage: str, stream: str, seq: int, index: int) -> ItemOutcome:
        """What comes of an item."""
        ...

    def outcomes_of(self, dispatch: act.Dispatch) -> list[ItemOutcome]:
        """What comes of all items of an invocation, this time."""
        ...

    def loading_s(self, worker: str, stage: str, choice: int) -> float:
        """To load a stage's candidate."""
        ...

    def starting_s(self, worker: str) -> float:
        """To bring a worker up."""
        ...

    def sinking_s(self, stream: str, sink: str, seq: int) -> float:
        """To write one frame."""
        ...

    def dies_after_s(self, worker: str, incarnation: int) -> float | None:
        """How long a worker lives once it is started; None: for ever."""
        ...


@dataclass(frozen=True, slots=True)
class WorldProfile:
    """Durations in seconds. ``service_s`` is (per invocation, per item), by stage for its first candidate and by

    ``stage#2`` for the third; ``load_s`` likewise.
    """

    service_s: Mapping[str, tuple[float, float]]
    sources: Mapping[str, SourceTrace]
    load_s: Mapping[str, float] = field(default_factory=dict)
    sink_s: float = 0.0  # to write one frame
    start_s: float = 0.0  # to bring a worker up
    outcomes: Mapping[tuple[str, str, int, int], ItemOutcome] = field(default_factory=dict)
    moments: Moments | None = None  # overrule the durations
    cores: float | None = None
    samples_s: Mapping[str, Sequence[float]] = field(default_factory=dict)  # times an item, in place of `service_s`
    sink_samples_s: Mapping[str, Sequence[float]] = field(default_factory=dict)  # by sink, in place of `sink_s`

    def trace(self, stream: str) -> SourceTrace:
        """See `World`."""
        return self.sources[stream]

    def work_s(self, dispatch: act.Dispatch, now_s: float) -> float:
        """See `World`. Of samples, a frame's items take the ones of its place in the stream."""
        samples = self.samples_s.get(choice_name(dispatch.stage, dispatch.choice))
        if samples:
            return sum(samples[(seq + index) % len(samples)] for _, seq, index in dispatch.items)
        fixed_s, item_s = self.service_s.get(choice_name(dispatch.stage, dispatch.choice), (0.0, 0.0))
        return fixed_s + item_s * len(dispatch.items)

    def weight(self, dispatch: act.Dispatch) -> float:
        """See `World`."""
        return 1.0

    def outcomes_of(self, dispatch: act.Dispatch) -> list[ItemOutcome]:
        """See `World`."""
        return [self.outcome(dispatch.stage, *item) for item in dispatch.items]

    def loading_s(self, worker: str, stage: str, choice: int) -> float:
        """See `World`."""
        return self.load_s.get(choice_name(stage, choice), 0.0)

    def starting_s(self, worker: str) -> float:
        """See `World`."""
        return self.start_s

    def sinking_s(self, stream: str, sink: str, seq: int) -> float:
        """See `World`."""
        samples = self.sink_samples_s.get(sink)
        return samples[seq % len(samples)] if samples else self.sink_s

    def dies_after_s(self, worker: str, incarnation: int) -> float | None:
        """See `World`."""
        return None

    def outcome(self, stage: str, stream: str, seq: int, index: int) -> ItemOutcome:
        """What comes of an item; one item out where nothing was recorded."""
        return self.outcomes.get((stage, stream, seq, index), ItemOutcome())


def profile_of_log(plan: RunPlan, entries: Iterable[LogEntry], *, moments: bool = False) -> WorldProfile:
    """The profile that a run's own event log shows: its content, its mean service times.

    ``moments`` keeps also when each thing happened. Then the same plan drops the same frames; leave it out to ask what
    another plan would have done.
    """
    kept = Moments() if moments else None
    dispatched: dict[int, act.Dispatch] = {}
    outcomes: dict[tuple[str, str, int, int], ItemOutcome] = {}
    busy: dict[str, list[tuple[float, int]]] = {stage.name: [] for stage in plan.stages}  # by stage and candidate
    load: dict[str, float] = {}
    pts: dict[str, list[float]] = {stream.stream: [] for stream in plan.streams}
    undecodable: dict[str, dict[int, str]] = {stream.stream: {} for stream in plan.streams}
    for place, entry in enumerate(entries):
        event = entry.event
        if kept is not None:
            kept.note((entry.t, place), event)
        if isinstance(event, ev.InvocationDone) and event.invocation in dispatched:
            dispatch = dispatched.pop(event.invocation)
            busy.setdefault(choice_name(dispatch.stage, dispatch.choice), []).append(
                (event.busy_s, len(dispatch.items))
            )
            for stage, part in zip(dispatch.chain, event.chain, strict=True):
                if num_run := len(part.counts) - part.counts.count(ev.NOT_RUN):
                    busy.setdefault(stage, []).append((part.busy_s, num_run))
            # An answer that came second to another worker's has no counts: that one's are the items' outcomes.
            answers: list[ev.InvocationDone | ev.Chained] = [event, *event.chain]
            for stage, answer in zip((dispatch.stage, *dispatch.chain), answers, strict=True):
                for i, (item, count) in enumerate(zip(dispatch.items, answer.counts, strict=False)):
                    if event.counts and count != ev.NOT_RUN:
                        measures = tuple(answer.measures[i]) if answer.measures else ()
                        outcomes[stage, *item] = ItemOutcome(count, measures, answer.errors.get(i, ""))
        elif isinstance(event, ev.ReplicaLoaded):
            load[choice_name(*replica_parts(event.replica)[1:])] = event.load_s
        elif isinstance(event, ev.FramesArrived):
            pts[event.stream] += event.pts_s
        elif isinstance(event, ev.FrameUndecodable):
            undecodable[event.stream][event.seq] = event.reason
            pts[event.stream].append(event.pts_s)
        for action in entry.actions:
            if isinstance(action, act.Dispatch):
                dispatched[action.invocation] = action
    return WorldProfile(
        service_s={stage: (0.0, fmean(s / n for s, n in times) if times else 0.0) for stage, times in busy.items()},
        sources={
            stream.stream: SourceTrace(
                tuple(pts[stream.stream]),
                paced=stream.drop_policy != "block",
                undecodable=undecodable[stream.stream],
            )
            for stream in plan.streams
        },
        load_s=load,
        outcomes=outcomes,
        moments=kept,
    )
