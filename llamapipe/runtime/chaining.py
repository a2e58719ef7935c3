"""Runs the stages of a chain one after the other on the same items.

What one stage gives goes to the next as it would by way of the engine, but for the pictures, which nobody else sees:
they are passed on where they are, and take no slot of an arena.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from llamapipe.clock import Clock
from llamapipe.control.plan import StagePlan
from llamapipe.data import FrameRef, Image, Native, Placement
from llamapipe.runtime.arena import PictureSpace, image_of, reference_to
from llamapipe.runtime.host import StageHost, failed_item
from llamapipe.wire import ChainOutputs, Done, Invoke, ItemInputs, ItemOutputs

__all__ = ["PassingSpace", "run_chain"]

_PASSED = -1  # number of the arena of pictures that are passed on


class PassingSpace:
    """See `llamapipe.runtime.arena.PictureSpace`: a worker's, which publishes pictures unless ``passing`` is set."""

    def __init__(self, arena: PictureSpace) -> None:
        self.passing = False
        self._arena = arena
        self._passed: list[Native] = []

    def put(
        self,
        picture: Native,
        *,
        stream: str,
        seq: int,
        pts: int,
        time_base: tuple[int, int],
        captured_at_s: float,
        placement: Placement | None = None,
    ) -> FrameRef:
        """See `PictureSpace.put`. What is passed on can be looked at until `forget`."""
        if not self.passing:
            return self._arena.put(
                picture,
                stream=stream,
                seq=seq,
                pts=pts,
                time_base=time_base,
                captured_at_s=captured_at_s,
                placement=placement,
            )
        self._passed.append(picture)
        place = (_PASSED, len(self._passed) - 1, 0)
        return reference_to(picture, place, stream, seq, pts, time_base, captured_at_s, placement)

    def image(self, ref: FrameRef) -> Image:
        """See `PictureSpace.image`."""
        return image_of(ref, self._passed[ref.slot]) if ref.arena == _PASSED else self._arena.image(ref)

    def withdraw(self, ref: FrameRef) -> None:
        """See `PictureSpace.withdraw`."""
        if ref.arena != _PASSED:
            self._arena.withdraw(ref)

    def still_whole(self, ref: FrameRef) -> bool:
        """See `PictureSpace.still_whole`."""
        return ref.arena == _PASSED or self._arena.still_whole(ref)

    def published(self, outputs: ItemOutputs) -> ItemOutputs:
        """The same outputs, for others to see. Raises what `put` raises; nothing is published then."""
        done: list[FrameRef] = []
        try:
            ports = [[self._published(p, done) if _is_passed(p) else p for p in port] for port in outputs.outputs]
        except BaseException:
            for ref in done:
                self._arena.withdraw(ref)
            raise
        return replace(outputs, outputs=ports) if done else outputs

    def _published(self, payload: object, done: list[FrameRef]) -> FrameRef:
        assert isinstance(payload, FrameRef)
        ref = self._arena.put(
            self._passed[payload.slot],
            stream=payload.stream,
            seq=payload.seq,
            pts=payload.pts,
            time_base=payload.time_base,
            captured_at_s=payload.captured_at_s,
        )
        done.append(ref)
        return replace(payload, arena=ref.arena, slot=ref.slot, generation=ref.generation)

    def forget(self) -> None:
        """Let go of what was passed on."""
        self._passed.clear()


def _is_passed(payload: object) -> bool:
    return isinstance(payload, FrameRef) and payload.arena == _PASSED


def run_chain(message: Invoke, stages: Sequence[StageHost], space: PassingSpace, clock: Clock) -> Done:
    """Answer an invocation with a chain. ``stages`` are its own and those of the chain, in order.

    An item that a stage fails on, or filters, does not come to the ones after it.
    """
    times_s = [clock.now_s()]
    results: list[list[ItemOutputs | None]] = []
    given = [message.items, *(link.items for link in message.chain)]
    alive = list(range(len(message.items)))
    try:
        for place, (stage, items) in enumerate(zip(stages, given, strict=True)):
            space.passing = place < len(stages) - 1
            if place:
                times_s.append(clock.now_s())
                items = _handed_on(items, stage.plan, stages[place - 1].plan, results[-1])
            outputs: list[ItemOutputs | None] = [None] * len(items)
            ran = stage.run([items[i] for i in alive]) if alive else []
            for i, of_item in zip(alive, ran, strict=True):
                outputs[i] = of_item
            alive = [i for i, of_item in zip(alive, ran, strict=True) if of_item.count >= 0]
            results.append(outputs)
        space.passing = False
        for i in range(len(message.items)):
            _keep_last(results, i, space)
    finally:
        space.passing = False
        space.forget()
    times_s.append(clock.now_s())
    chain = [ChainOutputs(results[k], times_s[k], times_s[k + 1]) for k in range(1, len(stages))]
    first = [outputs for outputs in results[0] if outputs is not None]
    return Done(message.invocation, first, times_s[0], times_s[1], None, chain)


def _handed_on(
    items: Sequence[ItemInputs], stage: StagePlan, before: StagePlan, results: Sequence[ItemOutputs | None]
) -> list[ItemInputs]:
    """The items with what the stage before has given."""
    ports = {port: number for number, port in enumerate(before.outputs)}
    whole = []
    for item, outputs in zip(items, results, strict=True):
        if outputs is not None and outputs.count >= 0:
            inputs = [
                outputs.outputs[ports[edge.output]] if edge.stage == before.name else payloads
                for edge, payloads in zip(stage.inputs, item.inputs, strict=True)
            ]
            item = replace(item, inputs=inputs)
        whole.append(item)
    return whole


def _keep_last(results: list[list[ItemOutputs | None]], i: int, space: PassingSpace) -> None:
    """Publish what the last stage that did not fail has made of an item, and keep what is not pictures of those before.

    Their pictures have been used up; boxes and events may have a sink that reads them, too.
    """
    for place in reversed(range(len(results))):
        outputs = results[place][i]
        if outputs is None or outputs.count < 0:
            continue
        try:
            results[place][i] = space.published(outputs)
        except BaseException as error:  # then it is this stage that has failed, and what the one before gave is needed
            results[place][i] = failed_item(error)
            for later in results[place + 1 :]:
                later[i] = None
            continue
        for earlier in results[:place]:
            used = earlier[i]
            assert used is not None
            if any(isinstance(payload, FrameRef) for port in used.outputs for payload in port):
                earlier[i] = replace(used, outputs=[])
        return
