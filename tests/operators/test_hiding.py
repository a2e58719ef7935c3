"""Blur and pixelate: what is in a box is gone, whole box and chroma, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from llamapipe.data import Image
from llamapipe.errors import OperatorError
from llamapipe.operator import Operator
from llamapipe_operators import Blur, Pixelate
from tests.operators.kit import boxes, decoded, make, textured

HIDING = [Blur, Pixelate]


def hidden(cls: type[Operator], image: Image, found: Any, **params: Any) -> NDArray[np.uint8]:
    outputs: Any = make(cls, **params).process({"frames": image, "boxes": found})
    pixels: NDArray[np.uint8] = outputs["frames"].bgr
    return pixels


def detail(pixels: NDArray[np.uint8]) -> float:
    """Strength of fine detail: what a 5 x 5 average takes away."""
    gray = pixels.mean(axis=2)
    return float(np.abs(gray - cv2.blur(gray, (5, 5))).mean())


@pytest.mark.parametrize("cls", HIDING)
@pytest.mark.parametrize("pad", [0.0, 0.1])
def test_every_pixel_of_the_box_is_replaced(cls: type[Operator], pad: float) -> None:
    image = textured()
    part = hidden(cls, image, boxes([101.5, 61.5, 180.4, 160.2]), pad=pad)[61:161, 101:181]
    same = (part == image.bgr[61:161, 101:181]).all(axis=2)
    assert same.mean() < 0.01  # by chance alone
    assert detail(part) < 0.1 * detail(image.bgr[61:161, 101:181])


@pytest.mark.parametrize("cls", HIDING)
def test_pixels_away_from_the_box_stay(cls: type[Operator]) -> None:
    image = textured()
    pixels = hidden(cls, image, boxes([100, 60, 140, 100]), pad=0.1)
    changed = np.argwhere((pixels != image.bgr).any(axis=2))
    assert changed.min(axis=0).tolist() >= [44, 84]
    assert changed.max(axis=0).tolist() <= [116, 156]


@pytest.mark.parametrize("cls", HIDING)
def test_a_face_cannot_be_told_from_its_mirror_image(cls: type[Operator]) -> None:
    """Two faces of the same average colours look alike once hidden, apart from a few large patches."""
    one, other = textured(seed=1), textured(seed=2)
    box = boxes([80, 60, 200, 180])
    first, second = (hidden(cls, image, box)[60:180, 80:200].astype(int) for image in (one, other))
    assert np.abs(first - second).mean() < 8


@pytest.mark.parametrize("cls", HIDING)
def test_regions_end_on_even_pixels_so_that_no_chroma_sample_is_half_hidden(cls: type[Operator]) -> None:
    image = textured()
    pixels = hidden(cls, image, boxes([101, 61, 139, 99]), pad=0.0, shape="box")
    changed = np.argwhere((pixels != image.bgr).any(axis=2))
    top, left = changed.min(axis=0)
    bottom, right = changed.max(axis=0) + 1
    assert [int(v) % 2 for v in (top, left, bottom, right)] == [0, 0, 0, 0]


@pytest.mark.parametrize("cls", HIDING)
def test_boxes_over_the_edge_are_hidden_as_far_as_they_go(cls: type[Operator]) -> None:
    image = textured(97, 61)
    pixels = hidden(cls, image, boxes([-20, -20, 30, 30], [90, 50, 200, 200], [300, 300, 400, 400]))
    assert detail(pixels[:25, :25]) < 0.2 * detail(image.bgr[:25, :25])
    assert (pixels[52:, 92:] != image.bgr[52:, 92:]).any(axis=2).mean() > 0.9


@pytest.mark.parametrize("cls", HIDING)
def test_nothing_to_hide_leaves_the_picture_as_it_is(cls: type[Operator]) -> None:
    image = textured()
    outputs: Any = make(cls).process({"frames": image, "boxes": boxes()})
    assert outputs["frames"] is image


@pytest.mark.parametrize("cls", HIDING)
def test_a_box_that_is_nowhere_fails_the_frame(cls: type[Operator]) -> None:
    with pytest.raises(OperatorError, match="not finite"):
        hidden(cls, textured(), boxes([float("nan"), 0, 10, 10]))


@pytest.mark.parametrize("cls", HIDING)
@pytest.mark.parametrize("shape", ["box", "ellipse"])
@pytest.mark.parametrize("size", [(320, 240), (321, 239)])
def test_decoded_pictures_are_hidden_in_every_plane(cls: type[Operator], shape: str, size: tuple[int, int]) -> None:
    image = decoded(*size, textured=True)
    found = boxes([101.5, 61.5, 180.4, 160.2], [290, 200, 400, 300], [50, 50, 51, 51])
    outputs: Any = make(cls, pad=0.0, shape=shape).process({"frames": image, "boxes": found})
    frame, original = outputs["frames"].native.frame(), image.native.frame() if image.native is not None else None
    assert frame.format.name == "yuv420p"
    width, height = size
    for plane, (new, old) in enumerate(zip(frame.planes, original.planes, strict=True)):
        after, before = (np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[:, : p.width] for p in (new, old))
        shrunk = 2 if plane else 1
        for x1, y1, x2, y2 in ((101, 61, 181, 161), (290, 200, width, height)):
            part = np.s_[y1 // shrunk : -(-y2 // shrunk), x1 // shrunk : -(-x2 // shrunk)]
            assert (after[part] == before[part]).mean() < 0.05  # by chance alone
            assert detail(after[part][:, :, None]) < 0.2 * detail(before[part][:, :, None])
        assert (after[: 40 // shrunk] == before[: 40 // shrunk]).all()


@pytest.mark.parametrize("cls", HIDING)
def test_hiding_is_declared(cls: type[Operator]) -> None:
    assert cls.manifest.hides
