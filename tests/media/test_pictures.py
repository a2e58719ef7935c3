"""Decoded pictures: what a copy to draw on takes over."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from llamapipe.media import AvPicture


def test_a_copy_to_draw_on_has_the_colours_and_no_times() -> None:
    """A sink that is encoding the original has its own times in there for a moment: they must not be caught."""
    frame = av.VideoFrame(31, 17, "yuv420p")
    frame.pts, frame.time_base, frame.duration = 7, Fraction(1, 25), 3
    frame.colorspace, frame.color_range = 1, 2
    for plane in frame.planes:
        np.frombuffer(plane, np.uint8)[:] = 90
    picture = AvPicture(frame)
    drawing = picture.to_draw_on()
    assert drawing is not None
    copy, planes = drawing
    planes.fill(0, 0, 31, 17, (255, 255, 255))
    assert (planes.matrix, planes.full_range, planes.y.max()) == (1, True, 255)
    stored = copy.stored
    assert (int(stored.colorspace), int(stored.color_range)) == (1, 2)
    assert (stored.pts, stored.duration) == (None, 0)
    assert (copy.bgr() > 250).all()
    assert (np.frombuffer(frame.planes[0], np.uint8) == 90).all()


@pytest.mark.parametrize(("name", "rotation"), [("yuv444p", 0), ("yuv420p10le", 0), ("yuv420p", 90)])
def test_other_formats_and_turned_pictures_have_no_planes_to_draw_on(name: str, rotation: int) -> None:
    assert AvPicture(av.VideoFrame(32, 16, name), rotation).to_draw_on() is None
