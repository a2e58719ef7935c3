"""Picture files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from llamapipe.data import Image
from llamapipe.media.contract import Outcome
from tests.media.sinks.clips import item, left, open_sink, picture

FRAMES = "$source.frames"


def test_every_so_manieth_frame_goes_to_its_own_file(tmp_path: Path) -> None:
    sink = open_sink("frames", tmp_path, [FRAMES], params={"every": 2})
    for seq in range(5):
        sink.write(item(seq, {FRAMES: Image.from_bgr(picture(seq))}))
    assert sink.close() == [tmp_path / "frames"]
    assert left(tmp_path / "frames") == ["000000.jpg", "000002.jpg", "000004.jpg"]


def test_png_holds_the_pixels(tmp_path: Path) -> None:
    sink = open_sink("frames", tmp_path, [FRAMES], path="stills", params={"format": "png"})
    sink.write(item(3, {FRAMES: Image.from_bgr(picture(3)).crop(10, 20, 50, 60)}))
    sink.write(item(4, outcome=Outcome.FAILED))
    sink.close()
    assert left(tmp_path / "stills") == ["000003.png"]
    read = cv2.imread(str(tmp_path / "stills" / "000003.png"))
    assert np.array_equal(read, picture(3)[20:60, 10:50])
