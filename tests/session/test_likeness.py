"""Videos of a run that look unlike the one that it is tuned for are named; of one alone nothing is decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from llamapipe.session import RunRequest
from llamapipe.session.likeness import unlike_the_first
from llamapipe.spec import parse_slo
from llamapipe.testing.clock import FakeClock
from llamapipe.tune import VideoSignature, signature_of


def video(path: Path, level: int) -> Path:
    """Sixty frames of 160x120 at 25 fps, of one brightness, in which a little moves."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for i in range(60):
            picture = np.full((120, 160, 3), level, np.uint8)
            picture[40:60, 2 * i : 2 * i + 20] = 128
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, level in (("a-day", 200), ("b-day", 205), ("c-night", 20), ("d-dusk", 90)):
        video(folder / f"{name}.mp4", level)
    return folder


def told(sources: list[Path], slo: str | None = None, clock: FakeClock | None = None, **more: object) -> str:
    request = RunRequest("people", [str(source) for source in sources], **more)
    asked = None if slo is None else parse_slo(slo)
    return unlike_the_first(request, asked, clock=clock or FakeClock(), env={})


def test_those_that_differ_are_named_with_what_to_do(videos: Path) -> None:
    found = told([videos])
    assert "c-night.mp4 (distance " in found
    assert "d-dusk.mp4 (distance " in found
    assert "b-day.mp4" not in found
    assert " look unlike a-day.mp4, by which alone " in found
    assert found.endswith("run them apart, so that each has its own")


def test_alike_ones_and_one_alone_are_nothing_to_tell(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = videos / "a-day.mp4"
    assert told([day, videos / "b-day.mp4"]) == ""
    monkeypatch.setattr("llamapipe.session.likeness.open_source", lambda *_, **__: pytest.fail("one alone was read"))
    assert told([day]) == ""
    assert told([day, day]) == ""


def test_what_cannot_be_read_is_left_to_the_run(videos: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    assert told([videos / "a-day.mp4", broken]) == ""
    assert told([broken, videos / "a-day.mp4"]) == ""
    assert told([videos / "a-day.mp4", videos / "c-night.mp4"], start_s=10.0) == ""


def test_looking_takes_three_seconds_at_most_and_says_what_was_left_out(
    videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a look takes a second: at the first, and at two of the others; of a short deadline a fiftieth at most."""
    clock = FakeClock()

    def look(*args: Any, **more: Any) -> VideoSignature:
        clock.sleep(1.0)
        return signature_of(*args, **more)

    monkeypatch.setattr("llamapipe.session.likeness.signature_of", look)
    files = [videos / f"{name}.mp4" for name in ("a-day", "c-night", "b-day", "d-dusk")]
    found = told(files, clock=clock)
    assert "c-night.mp4" in found
    assert "; 1 not looked at)" in found
    assert told(files, "deadline=10s", clock=clock) == ""
