"""Operators that misbehave when told to: for benchmarks/faults.py and its tests."""

from __future__ import annotations

import time
from pathlib import Path

from llamapipe.data import Boxes, Image
from llamapipe.operator import operator

_SHARE = 0.03


@operator("trouble/boxes@v1", inputs={"frames": "frames", "boxes": "boxes"}, outputs={"boxes": "boxes"})
def trouble(
    frames: Image, boxes: Boxes, *, how: str = "", every: int = 20, usual_s: float = 0.0, marks: str = ""
) -> Boxes:
    """Hand boxes on, but for chosen frames.

    ``how``: ``raise`` on every ``every``-th frame, each time; ``hang`` on them, the first time, for ever; ``mixed``: of
    all frames, 3 % raise and 3 % take ten times ``usual_s``, the first time; ``steady``: all take ``usual_s``.
    ``marks`` is the folder that remembers what was done, since a process that is killed cannot.
    """
    chosen = frames.seq % every == every // 2
    if how == "raise" and chosen:
        _first(marks, frames)
        raise ValueError("cannot stand this one")
    if how == "hang" and chosen and _first(marks, frames):
        while True:
            time.sleep(1)
    if how == "mixed":
        lot = frames.seq * 2654435761 % 2**32 / 2**32  # Knuth's multiplicative hash: the same lot in every run
        if lot < 2 * _SHARE and _first(marks, frames, "raise" if lot < _SHARE else "slow"):
            if lot < _SHARE:
                raise ValueError("not this time")
            time.sleep(9 * usual_s)
    if how in ("mixed", "steady"):
        time.sleep(usual_s)
    return boxes


def _first(marks: str, frame: Image, what: str = "") -> bool:
    """Leave a mark that says when; False where there was one."""
    try:
        with (Path(marks) / f"{frame.seq}-{what}").open("x") as file:
            file.write(repr(time.monotonic()))
    except FileExistsError:
        return False
    return True
