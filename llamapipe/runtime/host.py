"""Runs one stage's operator on batches: payloads in, payloads out.

Brings boxes into the picture's pixels before the operator sees them and back into source pixels after, so that
operators never think about crops and resizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from llamapipe.catalog import Configuration
from llamapipe.control.events import FAILED_ITEM, FILTERED_ITEM
from llamapipe.control.plan import EdgePlan, StagePlan
from llamapipe.data import Boxes, Classes, Events, FrameRef, Image, Tracks
from llamapipe.errors import OperatorError
from llamapipe.media import BgrPicture
from llamapipe.operator import Context, Filtered, Operator, PortKind, Predictor
from llamapipe.runtime.arena import PictureSpace, StaleFrame
from llamapipe.spec.when import Atom
from llamapipe.wire import ItemInputs, ItemOutputs, Payload, decode_value, encode_value

__all__ = ["StageHost", "StageSetup", "StreamFacts", "failed_item", "merge_payloads"]

_REASON_LENGTH = 160
_BOX_TYPES: dict[str, type[Boxes]] = {
    PortKind.BOXES: Boxes,
    PortKind.TRACKS: Tracks,
    PortKind.CLASSES: Classes,
}


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What stateful operators are told of their stream."""

    width: int
    height: int
    fps: float


@dataclass(frozen=True, slots=True)
class StageSetup:
    """Everything a worker needs to make a stage ready."""

    plan: StagePlan
    operator: type[Operator]
    params: Mapping[str, Any]
    atoms: Sequence[Atom] = ()  # `when` atoms further down that ask about this stage
    load_predictor: Callable[[Configuration], Predictor] | None = None  # of a stage with a model


def merge_payloads(payloads: Sequence[Payload], kind: str, arena: PictureSpace) -> Any:
    """One Value of several payloads: boxes and events are joined, of pictures there is one."""
    if kind == PortKind.FRAMES:
        ref = payloads[0]
        assert isinstance(ref, FrameRef)
        return arena.image(ref)
    values = [decode_value(payload) for payload in payloads if isinstance(payload, bytes)]
    if kind == PortKind.EVENTS:
        return Events.concat([value for value in values if isinstance(value, Events)])
    return _BOX_TYPES[kind].concat([value for value in values if isinstance(value, Boxes)])


class StageHost:
    """One replica: an operator (per stream, where it remembers) with its variant loaded."""

    def __init__(
        self, setup: StageSetup, arena: PictureSpace, streams: Mapping[str, StreamFacts], choice: int = 0
    ) -> None:
        self._setup = setup
        self._plan = setup.plan
        self._arena = arena
        self._streams = streams
        self._manifest = setup.operator.manifest
        self._configuration = setup.plan.choice(choice)
        load = setup.load_predictor
        self._predictor = None if load is None or self._configuration.variant is None else load(self._configuration)
        self._operators: dict[str, Operator] = {}
        self._edges: dict[str, list[tuple[int, EdgePlan]]] = {}
        for i, edge in enumerate(setup.plan.inputs):
            self._edges.setdefault(edge.port, []).append((i, edge))
        setup.operator.warm_up()
        # What an operator cannot be made of shows before the first frame, not in each of them.
        if not self._plan.stateful:
            self._operators[""] = self._make("")
        elif (known := next((name for name, facts in streams.items() if facts.width), None)) is not None:
            self._operators[known] = self._make(known)

    @property
    def plan(self) -> StagePlan:
        """Of the stage."""
        return self._plan

    @property
    def variant(self) -> str | None:
        """Name of what is loaded."""
        variant = self._configuration.variant
        return None if variant is None else variant.name

    def _make(self, stream: str) -> Operator:
        facts = self._streams.get(stream) if stream else None
        if facts is None and len(self._streams) == 1:
            facts = next(iter(self._streams.values()))
        return self._setup.operator(
            Context(
                stage=self._plan.name,
                params=self._setup.params,
                predictor=self._predictor,
                stream=stream,
                width=facts.width if facts else 0,
                height=facts.height if facts else 0,
                fps=facts.fps if facts else 0.0,
                feeds_hiding=self._plan.feeds_hiding,
            )
        )

    def _operator(self, stream: str) -> Operator:
        key = stream if self._plan.stateful else ""
        if key not in self._operators:
            self._operators[key] = self._make(key)
        return self._operators[key]

    def run(self, items: Sequence[ItemInputs]) -> list[ItemOutputs]:
        """Results in order. An operator that raises fails its items one by one, never the whole batch."""
        batch: list[Mapping[str, Any]] = []
        broken: dict[int, ItemOutputs] = {}
        for i, item in enumerate(items):
            try:
                batch.append(self._inputs(item))
            except BaseException as error:  # an unreadable input is that item's failure alone
                broken[i] = failed_item(error)
                batch.append({})
        if broken:
            return [
                broken[i] if i in broken else self._run_one(item, inputs)
                for i, (item, inputs) in enumerate(zip(items, batch, strict=True))
            ]
        if len(items) == 1:
            return [self._run_one(items[0], batch[0])]
        try:
            results = self._operator(items[0].stream).process_batch(batch)
            if len(results) != len(items):
                raise OperatorError(f"{self._manifest.type} gave {len(results)} results for {len(items)} items")
        except BaseException:  # also what sys.exit() raises, and a library's panic: it is an item's failure
            if self._plan.stateful:  # a second try would see part of the stream twice
                return [failed_item(OperatorError("failed in a batch of a stage that remembers")) for _ in items]
            return [self._run_one(item, inputs) for item, inputs in zip(items, batch, strict=True)]
        return [self._finish(*of_item) for of_item in zip(items, batch, results, strict=True)]

    def snapshot(self, stream: str) -> bytes | None:
        """What the operator remembers of a stream, as bytes; None where it cannot say.

        Raises OperatorError where the snapshot is not plain data.
        """
        state = self._operator(stream).snapshot()
        if state is None:
            return None
        try:
            return msgspec.msgpack.encode(state)
        except TypeError as error:
            raise OperatorError(
                f"{self._manifest.type}: its snapshot is not plain data: {error}",
                hint="give dict, list, str, bytes, numbers",
            ) from error

    def restore(self, stream: str, state: bytes | None, journal: Sequence[ItemInputs]) -> None:
        """Begin the stream anew from ``state`` and the items seen since. Raises what the operator raises."""
        old = self._operators.pop(stream, None)
        if old is not None:
            old.close()
        operator = self._operator(stream)
        if state is not None:
            operator.restore(msgspec.msgpack.decode(state, strict=False))
        for item in journal:
            operator.process_batch([self._inputs(item)])

    def close(self) -> None:
        """Let go of everything loaded."""
        for operator in self._operators.values():
            operator.close()
        close = getattr(self._predictor, "close", None)
        if close is not None:
            close()

    def _run_one(self, item: ItemInputs, inputs: Mapping[str, Any]) -> ItemOutputs:
        try:
            results = self._operator(item.stream).process_batch([inputs])
            if len(results) != 1:
                raise OperatorError(f"{self._manifest.type} gave {len(results)} results for 1 item")
        except BaseException as error:
            return failed_item(error)
        return self._finish(item, inputs, results[0])

    def _finish(self, item: ItemInputs, inputs: Mapping[str, Any], result: Any) -> ItemOutputs:
        try:
            return self._outputs(item, inputs, result)
        except BaseException as error:
            return failed_item(error)

    def _inputs(self, item: ItemInputs) -> Mapping[str, Any]:
        inputs: dict[str, Any] = {}
        for port, edges in self._edges.items():
            payloads = [payload for i, _ in edges for payload in item.inputs[i]]
            inputs[port] = merge_payloads(payloads, self._manifest.inputs[port].kind, self._arena)
        picture = self._picture(inputs)
        if picture is not None and not picture.placement.is_identity:
            for port, value in inputs.items():
                if isinstance(value, Boxes):
                    inputs[port] = value.from_source(picture.placement)
        return inputs

    def _picture(self, inputs: Mapping[str, Any]) -> Image | None:
        frames = self._manifest.frames_input
        return inputs.get(frames) if frames is not None else None

    def _outputs(self, item: ItemInputs, inputs: Mapping[str, Any], result: Any) -> ItemOutputs:
        if isinstance(result, Filtered):
            return ItemOutputs(FILTERED_ITEM, [], [])
        published: list[FrameRef] = []
        try:
            outputs = self._placed_outputs(item, inputs, result, published)
            for image in inputs.values():  # checked after use as well: the pixels were this frame's all the while
                if isinstance(image, Image) and image.ref is not None and not self._arena.still_whole(image.ref):
                    raise StaleFrame(f"frame {item.seq} of {item.stream} was written over while it was looked at")
        except BaseException:
            for ref in published:
                self._arena.withdraw(ref)
            raise
        return outputs

    def _placed_outputs(
        self, item: ItemInputs, inputs: Mapping[str, Any], result: Any, published: list[FrameRef]
    ) -> ItemOutputs:
        picture = self._picture(inputs)
        outputs: list[list[Payload]] = []
        count = 1
        for port, kind in self._plan.outputs.items():
            if port not in result:
                raise OperatorError(f"{self._manifest.type} gave no {port!r}, it gave {', '.join(result) or 'nothing'}")
            value = result[port]
            if kind != PortKind.FRAMES:
                outputs.append([encode_value(_placed(value, kind, picture))])
            elif self._plan.fan_out:
                pictures = list(value)
                if self._plan.feeds_hiding and len(pictures) > self._plan.max_items:
                    most = self._plan.max_items
                    raise OperatorError(f"more than {most} pictures, and what is in the others would be shown")
                del pictures[self._plan.max_items :]
                count = len(pictures)
                outputs.append([self._publish(crop, item, picture, published) for crop in pictures])
            else:
                outputs.append([self._publish(value, item, picture, published)])
        measures = [atom.measure(result[atom.port]) for atom in self._setup.atoms]
        return ItemOutputs(count, outputs, measures)

    def _publish(self, value: Any, item: ItemInputs, source: Image | None, published: list[FrameRef]) -> FrameRef:
        if isinstance(value, np.ndarray):
            if source is None:
                raise OperatorError(f"{self._manifest.type} gave an array but has no frames input to place it")
            value = source.resized(value)
        if not isinstance(value, Image):
            raise OperatorError(f"{self._manifest.type} gave a {type(value).__name__} for pictures, expected Image")
        if value.ref is not None:  # the same pixels, or a part of them
            ref = value.ref
            return FrameRef(
                ref.arena,
                ref.slot,
                ref.generation,
                value.width,
                value.height,
                ref.format,
                ref.stream,
                ref.seq,
                ref.pts,
                ref.time_base,
                ref.captured_at_s,
                value.region,
                value.placement,
            )
        origin = source.ref if source is not None else None
        ref = self._arena.put(
            value.native if value.native is not None and value.region is None else BgrPicture(value.bgr),
            stream=item.stream,
            seq=item.seq,
            pts=origin.pts if origin is not None else 0,
            time_base=origin.time_base if origin is not None else (1, 1),
            captured_at_s=origin.captured_at_s if origin is not None else 0.0,
            placement=value.placement,
        )
        published.append(ref)
        return ref


def _placed(value: Any, kind: str, picture: Image | None) -> Boxes | Events:
    if isinstance(value, Events):
        return value
    if not isinstance(value, Boxes):
        raise OperatorError(f"an operator gave a {type(value).__name__} on a port of kind {kind}")
    boxes: Boxes = value if picture is None else value.to_source(picture.placement)
    wanted = _BOX_TYPES.get(kind, Boxes)
    if type(boxes) is not wanted:
        boxes = wanted(boxes.xyxy, boxes.score, boxes.label, boxes.names, boxes.track_id)
    return boxes


def failed_item(error: BaseException) -> ItemOutputs:
    """What an item gives that could not be worked on."""
    text = f"{type(error).__name__}: {error}".splitlines()[0][:_REASON_LENGTH]
    return ItemOutputs(FAILED_ITEM, [], [], text)
