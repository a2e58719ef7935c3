"""Clips of known times, and operators that misbehave on purpose."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

OPERATORS = '''
from typing import ClassVar

from llamapipe.data import Event, Events, Image
from llamapipe.errors import OperatorError
from llamapipe.operator import Context, Inputs, Manifest, Operator, Outputs, Port, PortKind, operator


@operator("test/level@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
def level(frames: Image) -> Events:
    """How bright the picture is."""
    return Events([Event("level", value=float(frames.bgr.mean()))])


@operator("test/fussy@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
def fussy(frames: Image, *, bad: int = 3) -> Events:
    """Fails on one frame."""
    if frames.seq == bad:
        raise ValueError("cannot stand this one")
    return Events([])


class Unloadable(Operator):
    """Cannot be made."""

    manifest: ClassVar[Manifest] = Manifest(
        type="test/unloadable@v1",
        doc="Cannot be made.",
        inputs={"frames": Port(PortKind.FRAMES, "any")},
        outputs={"events": Port(PortKind.EVENTS, "none")},
    )

    def __init__(self, context: Context) -> None:
        raise OperatorError("no room for it")

    def process(self, inputs: Inputs) -> Outputs:
        """Never called."""
        return {"events": Events()}
'''


@pytest.fixture(scope="session")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("operators") / "misbehaving.py"
    path.write_text(OPERATORS)
    return path


# Ticks of 1 ms, in no regular rhythm.
TIMES_MS = [0, 40, 50, 130, 170, 171, 300, 420, 430, 600, 601, 700]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of 160x120, variable rate, with B-frames, each a little brighter."""
    path = tmp_path_factory.mktemp("clips") / "uneven.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, at_ms in enumerate(TIMES_MS):
            frame = av.VideoFrame.from_ndarray(np.full((120, 160, 3), 20 + 15 * i, np.uint8), format="bgr24")
            frame.pts, frame.time_base = at_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
