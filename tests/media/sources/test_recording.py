"""A piece of a live source as a file."""

from __future__ import annotations

import threading
from pathlib import Path

import av
import pytest

from llamapipe.clock import SystemClock
from llamapipe.errors import InterruptedRun, SourceError
from llamapipe.media import SourceSpec
from llamapipe.media.recording import record
from tests.media.sinks.clips import make_clip
from tests.media.sources.servers import TsServer


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 s at 20 pictures a second, a keyframe each 10."""
    path = tmp_path_factory.mktemp("filmed") / "cam.ts"
    return make_clip(path, times=range(600), size=(64, 48), keyframe_each=10)


def recorded(address: str, path: Path, length_s: float, interrupt: threading.Event | None = None) -> float:
    spec = SourceSpec("cam", address, "url")
    return record(spec, path, length_s, clock=SystemClock(), interrupt=interrupt or threading.Event())


def test_as_much_as_was_asked_for_is_written_as_it_came(filmed: Path, tmp_path: Path) -> None:
    camera = TsServer(filmed)
    try:
        assert recorded(camera.address, tmp_path / "some.mkv", 2.0) == pytest.approx(1.95, abs=0.06)
    finally:
        camera.stop()
    with av.open(str(tmp_path / "some.mkv")) as file:
        pictures = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    with av.open(str(filmed)) as file:
        sent = [frame.to_ndarray(format="rgb24") for _, frame in zip(pictures, file.decode(video=0), strict=False)]
    assert len(pictures) == 40
    assert all((a == b).all() for a, b in zip(pictures, sent, strict=True))


def test_a_source_that_ends_gives_what_there_was(filmed: Path, tmp_path: Path) -> None:
    camera = TsServer(filmed)
    camera.sends_at_first = 30
    threading.Timer(2.5, camera.stop).start()
    assert 1.3 < recorded(camera.address, tmp_path / "some.mkv", 20.0) < 1.6


def test_what_cannot_be_reached_or_sends_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"127.0.0.1:9/none cannot be opened"):
        recorded("http://127.0.0.1:9/none", tmp_path / "some.mkv", 1.0)


def test_an_interruption_is_noticed_at_once(filmed: Path, tmp_path: Path) -> None:
    camera, interrupt = TsServer(filmed), threading.Event()
    try:
        threading.Timer(0.7, interrupt.set).start()
        with pytest.raises(InterruptedRun):
            recorded(camera.address, tmp_path / "some.mkv", 20.0, interrupt)
    finally:
        camera.stop()
