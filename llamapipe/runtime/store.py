"""What the engine holds of every frame in flight: payloads by stage, and the slots to give back."""

from __future__ import annotations

from collections.abc import Sequence

from llamapipe.control.plan import EdgePlan, RunPlan, StagePlan
from llamapipe.data import FrameRef
from llamapipe.operator import PortKind
from llamapipe.runtime.arena import Arena
from llamapipe.wire import ItemOutputs, Payload

__all__ = ["FrameStore", "PayloadStore"]

_KEPT_SAMPLES = 256  # results of a stage that a stream's held frames may still ask for


class FrameStore:
    """One frame's payloads. ``outputs[stage][item]`` holds payloads per output port."""

    __slots__ = ("outputs", "slots", "source")

    def __init__(self, source: FrameRef | None) -> None:
        self.source = source
        self.outputs: dict[str, dict[int, list[list[Payload]]]] = {}
        self.slots: set[tuple[int, int]] = set()
        if source is not None:
            self.slots.add((source.slot, source.generation))


class PayloadStore:
    """All frames in flight."""

    def __init__(self, plan: RunPlan, arena: Arena) -> None:
        self._stages = {stage.name: stage for stage in plan.stages}
        self._ports = {stage.name: {port: i for i, port in enumerate(stage.outputs)} for stage in plan.stages}
        self._arena = arena
        self._frames: dict[tuple[str, int], FrameStore] = {}
        # By stream: a still one holds a result for as long as it takes others to give any number of them.
        self._samples: dict[tuple[str, str], dict[int, dict[int, list[list[Payload]]]]] = {
            (stage.name, stream.stream): {}
            for stage in plan.stages
            if stage.sample_fps is not None or stage.hold_unless is not None or stage.changeable
            for stream in plan.streams
        }

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, stream: str, seq: int, source: FrameRef | None) -> None:
        """A frame has arrived (None: without a picture)."""
        self._frames[stream, seq] = FrameStore(source)

    def source(self, stream: str, seq: int) -> FrameRef | None:
        """The decoded picture's reference."""
        return self._frames[stream, seq].source

    def put(self, stage: str, stream: str, seq: int, index: int, outputs: ItemOutputs) -> None:
        """Keep one item's outputs."""
        frame = self._frames[stream, seq]
        frame.outputs.setdefault(stage, {})[index] = outputs.outputs
        for payloads in outputs.outputs:
            for payload in payloads:
                if isinstance(payload, FrameRef):
                    frame.slots.add((payload.slot, payload.generation))
        samples = self._samples.get((stage, stream))
        if samples is not None:
            samples[seq] = frame.outputs[stage]
            if len(samples) > _KEPT_SAMPLES:
                del samples[next(iter(samples))]

    def hold(self, stage: str, stream: str, seq: int, from_seq: int) -> None:
        """Give a frame the stage's outputs of an earlier one."""
        held = self._samples[stage, stream].get(from_seq)
        if held is not None:
            self._frames[stream, seq].outputs[stage] = held

    def inputs(
        self, stage: StagePlan, stream: str, seq: int, index: int, *, but_of: str | None = None
    ) -> list[list[Payload]]:
        """Payloads per edge of the stage, for one of its items; none on edges from the stage ``but_of``."""
        frame = self._frames[stream, seq]
        return [
            [] if edge.stage == but_of else self._edge(frame, edge, stage.level, index) or [] for edge in stage.inputs
        ]

    def values(self, edges: Sequence[EdgePlan], stream: str, seq: int) -> list[list[Payload] | None]:
        """Payloads per edge of a sink; None where the producer was skipped."""
        frame = self._frames[stream, seq]
        return [self._edge(frame, edge, "", 0) for edge in edges]

    def discard(self, stream: str, seq: int) -> None:
        """Free a frame's slots; what is known of it stays until it is released."""
        slots = self._frames[stream, seq].slots
        for slot, generation in slots:
            self._arena.release(slot, generation)
        slots.clear()

    def release(self, stream: str, seq: int) -> None:
        """Forget a frame and free its slots."""
        for slot, generation in self._frames.pop((stream, seq)).slots:
            self._arena.release(slot, generation)

    def _edge(self, frame: FrameStore, edge: EdgePlan, level: str, index: int) -> list[Payload] | None:
        if not edge.stage:
            return [frame.source] if frame.source is not None else None
        producer = self._stages[edge.stage]
        items = frame.outputs.get(edge.stage)
        if items is None:
            return self._of_skipped(frame, producer, edge, level, index)
        port = self._ports[edge.stage][edge.output]
        if level and not producer.fan_out and producer.level == level:  # item by item
            outputs = items.get(index)
            return outputs[port] if outputs else []
        merged = [payload for i in sorted(items) if items[i] for payload in items[i][port]]
        if level and producer.fan_out and edge.stage == level:
            return merged[index : index + 1]
        return merged

    def _of_skipped(
        self, frame: FrameStore, producer: StagePlan, edge: EdgePlan, level: str, index: int
    ) -> list[Payload] | None:
        """A skipped stage lets pictures through as they came, and gives no boxes."""
        if edge.kind == PortKind.FRAMES and not producer.fan_out:
            through = next((e for e in producer.inputs if e.kind == PortKind.FRAMES), None)
            if through is not None:
                return self._edge(frame, through, level, index)
        if producer.level and producer.level in frame.outputs:
            crops = [item for item in frame.outputs[producer.level].values() if any(item)]
            if not crops:  # not skipped: there was nothing to look at
                return []
        return None
