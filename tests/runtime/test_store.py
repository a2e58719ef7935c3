"""What the engine holds of frames in flight: results that later frames are given again."""

from __future__ import annotations

from typing import cast

import numpy as np

from llamapipe.media.pictures import BgrPicture
from llamapipe.runtime.arena import Arena, LocalArena
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


def test_a_frame_that_was_never_admitted_keeps_its_times_and_no_picture() -> None:
    """A camera's dropped frames wait for those before them, for as long as a sink is stuck."""
    arena = LocalArena()
    store = PayloadStore(plan(stage("detect", frames())), arena)
    picture = BgrPicture(np.zeros((4, 4, 3), np.uint8))
    ref = arena.put(picture, stream="cam0", seq=0, pts=3, time_base=(1, 2), captured_at_s=2.0)
    store.add("cam0", 0, ref)
    assert arena.num_used == 1
    store.discard("cam0", 0)
    assert arena.num_used == 0
    source = store.source("cam0", 0)
    assert source is not None
    assert source.pts_s == ref.pts_s
    store.release("cam0", 0)
