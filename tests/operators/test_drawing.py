"""Annotate: what is drawn, where, and that nothing to draw costs nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamapipe.data import Event, Events, Image
from llamapipe.errors import UsageError
from llamapipe_operators import Annotate
from tests.operators.kit import boxes, decoded, gray, make


def drawn(inputs: dict[str, Any], **params: Any) -> NDArray[np.bool_]:
    """Mask (height, width) of the pixels that were drawn on."""
    image = gray()
    outputs: Any = make(Annotate, **params).process({"frames": image, **inputs})
    assert (image.bgr == 128).all()
    mask: NDArray[np.bool_] = (outputs["frames"].bgr != 128).any(axis=2)
    return mask


def test_nothing_to_draw_passes_the_picture_itself() -> None:
    image = gray()
    outputs: Any = make(Annotate).process({"frames": image, "boxes": boxes(), "events": Events()})
    assert outputs["frames"] is image


def test_a_box_is_drawn_where_it_is() -> None:
    mask = drawn({"boxes": boxes([100, 100, 200, 180])}, labels=False, thickness=1)
    assert mask[100:181, 100].all()
    assert mask[100, 100:201].all()
    assert not mask[110:170, 110:190].any()
    assert not mask[:90].any()


def test_a_caption_stands_inside_where_there_is_no_room_above() -> None:
    mask = drawn({"boxes": boxes([100, 0, 200, 180])}, thickness=1)
    caption = mask[2:12, 101:190]
    assert caption.mean() > 0.3
    above = drawn({"boxes": boxes([100, 100, 200, 180])}, thickness=1)
    assert above[86:99, 101:130].mean() > 0.3


def test_a_tracked_thing_keeps_its_colour_and_another_has_another() -> None:
    def colour(track: int, x: int) -> list[int]:
        item = boxes([x, 100, x + 50, 180], tracks=[track])
        outputs: Any = make(Annotate, labels=False, thickness=1).process({"frames": gray(), "boxes": item})
        return outputs["frames"].bgr[140, x].tolist()  # type: ignore[no-any-return]

    assert colour(1, 50) == colour(1, 150)
    assert colour(1, 50) != colour(2, 50)


def test_events_are_written_into_the_corner() -> None:
    mask = drawn({"events": Events([Event("zone-count", "gate", value=3.0)])})
    assert mask[:40, :120].mean() > 0.2
    assert not mask[80:].any()


def test_zones_and_lines_are_outlined_in_pixels_or_shares() -> None:
    line = [{"name": "middle", "start": [0.0, 0.5], "end": [1.0, 0.5]}]
    assert drawn({}, lines=line)[119:122, 10:300].any(axis=0).all()
    pixels = [{"name": "middle", "start": [0, 120], "end": [320, 120]}]
    assert (drawn({}, lines=pixels) == drawn({}, lines=line)).all()
    zone = [{"name": "gate", "polygon": [[50, 50], [250, 50], [250, 200], [50, 200]]}]
    assert drawn({}, zones=zone)[200, 60:240].all()


def test_shapes_that_are_none_are_refused() -> None:
    with pytest.raises(UsageError, match=r"expected \{name, start, end\}"):
        make(Annotate, lines=[{"from": [0, 0]}])


def planes_of(image: Image) -> list[NDArray[np.uint8]]:
    assert image.native is not None
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width].copy()
        for plane in image.native.frame().planes
    ]


@pytest.mark.parametrize("size", [(320, 240), (321, 239)])
def test_decoded_pictures_keep_their_planes_and_look_as_others_do(size: tuple[int, int]) -> None:
    zone = [{"name": "gate", "polygon": [[0.1, 0.5], [0.9, 0.5], [0.9, 0.9], [0.1, 0.9]]}]
    inputs: dict[str, Any] = {
        "boxes": boxes([101, 51, 181, 99], [280, 200, 400, 300], [-30, -30, 20, 20]),
        "events": Events([Event("zone-count", "gate", value=3.0)]),
    }
    image = decoded(*size)
    before = planes_of(image)
    operator = make(Annotate, zones=zone, thickness=2)
    onto_planes: Any = operator.process({"frames": image, **inputs})["frames"]
    onto_pixels: Any = operator.process({"frames": Image.from_bgr(image.bgr), **inputs})["frames"]
    assert onto_planes.native is not None
    assert onto_planes.native.format == "yuv420p"
    assert all((a == b).all() for a, b in zip(before, planes_of(image), strict=True))
    difference = np.abs(onto_planes.bgr.astype(int) - onto_pixels.bgr).max(axis=2)
    assert (difference > 48).mean() < 0.02  # at the edges of colours only


@pytest.mark.parametrize("matrix", [1, 2, 6, 9])
def test_a_colour_is_the_same_in_the_colours_of_every_source(matrix: int) -> None:
    def drawn_on(image: Image) -> NDArray[np.int64]:
        outputs: Any = make(Annotate, thickness=8).process({"frames": image, "boxes": boxes([100, 100, 200, 180])})
        pixels: NDArray[np.int64] = outputs["frames"].bgr[[140, 88], [100, 102]].astype(int)
        return pixels

    assert np.abs(drawn_on(decoded(matrix=matrix)) - drawn_on(gray())).max() <= 4


def test_what_lies_beside_a_box_stays() -> None:
    image = decoded(textured=True)
    operator = make(Annotate, labels=False, thickness=1)
    outputs: Any = operator.process({"frames": image, "boxes": boxes([101, 101, 201, 181])})
    for plane, (old, new) in enumerate(zip(planes_of(image), planes_of(outputs["frames"]), strict=True)):
        changed = np.argwhere(old != new)
        shrunk = 2 if plane else 1
        assert changed.min(axis=0).tolist() == [101 // shrunk, 101 // shrunk]
        assert changed.max(axis=0).tolist() == [181 // shrunk, 201 // shrunk]
        assert (old == new)[110 // shrunk : 170 // shrunk, 110 // shrunk : 190 // shrunk].all()


def test_a_box_that_is_nowhere_is_not_drawn() -> None:
    assert not drawn({"boxes": boxes([float("nan"), 0, 10, 10])}).any()
