"""The command line in this process, a clip, and a pipeline that needs no model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from llamapipe.cli.app import call

PLAIN = """\
version: 1
name: small
params:
  width: 160
ops:
  - {name: resize, type: resize, inputs: $source.frames, width: "${params.width}"}
sinks:
  - {name: video, type: video, input: $ops.resize.frames, path: small.mp4}
"""


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Ended]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs one command line: ``cli("ops", "list")``."""

    def run(*args: object) -> Ended:
        capfd.readouterr()
        code = call([str(arg) for arg in args])
        return Ended(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty frames of 320x240 at 25 fps: a bright square that moves."""
    import av

    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for i in range(20):
            picture = np.full((240, 320, 3), 40, np.uint8)
            picture[80:160, 10 * i : 10 * i + 80] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A pipeline of one resize."""
    path = tmp_path / "small.yaml"
    path.write_text(PLAIN, encoding="utf-8")
    return path
