"""What the engine holds of frames in flight: results that later frames are given again."""

from __future__ import annotations

from typing import cast

from llamapipe.runtime.arena import Arena
from llamapipe.runtime.store import PayloadStore
from llamapipe.wire import ItemOutputs
from tests.control.plans import boxes, frames, plan, stage


class NoArena:
    def release(self, slot: int, generation: int) -> None:
        raise AssertionError("nothing here has a slot")


def test_what_a_still_stream_holds_outlives_any_number_of_results_of_others() -> None:
    motion = stage("motion", frames(), outputs={"events": "events"}, stateful=True)
    held = plan(motion, stage("detect", frames(), depth=2, hold_unless="any($ops.motion.events)"), streams=2)
    store = PayloadStore(held, cast(Arena, NoArena()))
    for seq in range(1000):
        for stream in ("cam0", "cam1"):
            store.add(stream, seq, None)
        if seq == 0:
            store.put("detect", "cam0", 0, 0, ItemOutputs(1, [[b"somebody"]], []))
        else:
            store.hold("detect", "cam0", seq, 0)
        store.put("detect", "cam1", seq, 0, ItemOutputs(1, [[b"somebody else"]], []))
        edge = boxes("detect")
        assert store.values([edge], "cam0", seq) == [[b"somebody"]]
        for stream in ("cam0", "cam1"):
            store.release(stream, seq)
