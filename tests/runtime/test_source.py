"""What a source's reader tells the engine: frames of a file together, and none of them late or lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import count
from typing import Any

import numpy as np
import pytest
import zmq

from llamapipe.errors import SourceError
from llamapipe.media import BgrPicture
from llamapipe.media.contract import Decoded, SourceInfo, Undecodable
from llamapipe.runtime import LocalArena
from llamapipe.runtime.source import SourceReader
from llamapipe.testing import FakeClock
from llamapipe.wire import Ended, Granted, Hello, NewFrames, Stop, Undecoded, decode, encode

ADDRESSES = (f"inproc://test-source-{number}" for number in count())  # one is free again only a while after its socket
INFO = SourceInfo("cam", "cam.mp4", 4, 4, Fraction(25), 10, 0.4, Fraction(1, 25), live=False, has_audio=False)


class Source:
    """Ten frames, each of which takes ``decode_s``; ``bad`` cannot be decoded, and ``breaks`` ends it."""

    def __init__(self, clock: FakeClock, info: SourceInfo, decode_s: float, bad: int, breaks: int) -> None:
        self.info, self._clock, self._decode_s, self._bad, self._breaks = info, clock, decode_s, bad, breaks

    def __iter__(self) -> Iterator[Any]:
        for seq in range(10):
            if seq == self._breaks:
                raise SourceError("cam.mp4 broke off")
            self._clock.advance(self._decode_s)
            if seq == self._bad:
                yield Undecodable(seq, "damaged")
            else:
                yield Decoded(seq, seq, BgrPicture(np.zeros((4, 4, 3), np.uint8)))

    def close(self) -> None:
        pass


def told(
    *, info: SourceInfo = INFO, decode_s: float = 0.0, bad: int = -1, breaks: int = -1, window: int = 6, **how: bool
) -> list[list[int] | str]:
    """Frames of each message, and what else came. Credit is given back for all that came once nothing more does."""
    clock, context = FakeClock(), zmq.Context.instance()
    router = context.socket(zmq.ROUTER)
    address = next(ADDRESSES)
    router.bind(address)
    source: Any = Source(clock, info, decode_s, bad, breaks)
    reader = SourceReader("cam", source, arena=LocalArena(), clock=clock, **({"waits": True} | how))
    thread = threading.Thread(target=reader.serve, args=(context, address))
    thread.start()
    found: list[list[int] | str] = []
    due = 0
    try:
        while not found or not str(found[-1]).startswith("ended"):
            if not router.poll(200):
                assert due, f"nothing more comes after {found}"
                router.send_multipart([b"source:cam", encode(Granted(due))])
                due = 0
                continue
            message = decode(router.recv_multipart()[1])
            if isinstance(message, Hello):
                due = window
            elif isinstance(message, NewFrames):
                found.append([ref.seq for ref in message.frames])
                due += len(message.frames)
            elif isinstance(message, Undecoded):
                found.append(f"undecoded {message.seq}")
                due += 1
            elif isinstance(message, Ended):
                found.append(f"ended after {message.num_frames}")
    finally:
        router.send_multipart([b"source:cam", encode(Stop())])
        thread.join(10)
        router.close(0)
    return found


def test_frames_of_a_file_are_told_together_as_far_as_there_is_credit() -> None:
    """Four at a time, and at once where the next one has to wait for credit."""
    assert told() == [[0, 1, 2, 3], [4, 5], [6, 7, 8, 9], "ended after 10"]


@pytest.mark.parametrize(
    "how",
    [
        {"paced": True},
        {"waits": False},
        {"decode_s": 0.01},  # workers would wait for the one that comes last
        {"info": replace(INFO, num_frames=None)},  # a pipe: nobody knows when the next one comes
    ],
    ids=["paced", "live", "slow", "pipe"],
)
def test_others_are_told_one_by_one(how: dict[str, Any]) -> None:
    assert told(**how) == [*([seq] for seq in range(10)), "ended after 10"]


def test_what_was_decoded_before_a_fault_is_told_before_it() -> None:
    assert told(bad=2) == [[0, 1], "undecoded 2", [3, 4, 5], [6, 7, 8, 9], "ended after 10"]
    assert told(breaks=2) == [[0, 1], "ended after 2"]
