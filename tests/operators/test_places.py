"""Zones and lines: who is inside, who came, who went, who crossed which way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llamapipe.data import Event, Image
from llamapipe.errors import UsageError
from llamapipe.operator import Operator
from llamapipe_operators import LineCrossing, Zones
from tests.operators.kit import boxes, make

RIGHT_HALF = [{"name": "right", "polygon": [[160, 0], [320, 0], [320, 240], [160, 240]]}]
MIDDLE = [{"name": "middle", "start": [160, 0], "end": [160, 240]}]  # downwards: its right is the picture's left


def at(x: float, track: int = 1, y: float = 100) -> Any:
    return boxes([x - 10, y - 40, x + 10, y], tracks=[track])


def seen(operator: Operator, *items: Any) -> list[list[Event]]:
    port = next(iter(operator.manifest.inputs))
    found: list[list[Event]] = []
    for item in items:
        outputs: Any = operator.process({port: item})
        found.append(list(outputs["events"].items))
    return found


def kinds(events: list[list[Event]]) -> list[str]:
    return [event.kind for frame in events for event in frame if event.kind != "zone-count"]


def test_a_zone_counts_what_stands_in_it_tracked_or_not() -> None:
    zone = make(Zones, zones=RIGHT_HALF)
    untracked = boxes([200, 10, 220, 50], [10, 10, 30, 50], [240, 10, 260, 50])
    assert seen(zone, untracked) == [[Event("zone-count", "right", value=2.0)]]


def test_a_thing_enters_and_leaves_once_with_the_seconds_it_stayed() -> None:
    events = seen(make(Zones, zones=RIGHT_HALF, counts=False), *(at(x) for x in (100, 150, 200, 250, 200, 150, 100)))
    entered, left = (event for frame in events for event in frame)
    assert (entered.kind, entered.track_id, entered.label, entered.x, entered.y) == (
        "zone-entered",
        1,
        "person",
        200,
        100,
    )
    assert (left.kind, left.value) == ("zone-left", 3 / 25)


def test_a_thing_that_shakes_on_the_border_does_not_come_and_go() -> None:
    events = seen(make(Zones, zones=RIGHT_HALF), *(at(x) for x in (161, 159, 161, 159, 161)))
    assert kinds(events) == ["zone-entered"]


def test_a_thing_that_vanishes_has_left() -> None:
    events = seen(make(Zones, zones=RIGHT_HALF, keep_s=0.2), at(200), *[boxes(tracks=[])] * 8)
    assert kinds(events) == ["zone-entered", "zone-left"]
    assert events[6][-1].value == 1 / 25  # it was seen in one frame


def test_points_may_be_shares_of_the_picture() -> None:
    shares = [{"name": "right", "polygon": [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]}]
    walk = [at(x) for x in (100, 150, 200, 250)]
    assert seen(make(Zones, zones=shares), *walk) == seen(make(Zones, zones=RIGHT_HALF), *walk)


@pytest.mark.parametrize(("xs", "way"), [((100, 140, 180, 220), -1.0), ((220, 180, 140, 100), 1.0)])
def test_a_crossing_is_said_once_with_its_way(xs: tuple[int, ...], way: float) -> None:
    events = seen(make(LineCrossing, lines=MIDDLE), *(at(x) for x in xs))
    assert [(event.kind, event.name, event.value) for frame in events for event in frame] == [
        ("line-crossed", "middle", way)
    ]


def test_a_thing_that_shakes_on_the_line_crosses_at_most_once() -> None:
    events = seen(make(LineCrossing, lines=MIDDLE), *(at(x) for x in (140, 158, 162, 159, 163, 158, 180, 159, 162)))
    assert kinds(events) == ["line-crossed"]


def test_passing_beside_a_line_is_no_crossing() -> None:
    short = [{"name": "gate", "start": [160, 0], "end": [160, 50]}]
    assert kinds(seen(make(LineCrossing, lines=short), *(at(x, y=200) for x in (100, 140, 180, 220)))) == []


def test_totals_count_both_ways() -> None:
    line = make(LineCrossing, lines=MIDDLE, counts=True)
    events = seen(line, at(100), at(220), at(100), at(300, track=2), at(20, track=2))
    assert [(event.kind, event.value) for event in events[-1][-2:]] == [("line-right", 2.0), ("line-left", 1.0)]


@pytest.mark.parametrize(
    ("cls", "params"),
    [
        (Zones, {"zones": []}),
        (Zones, {"zones": [{"polygon": [[0, 0], [9, 9]]}]}),
        (Zones, {"zones": RIGHT_HALF * 2}),
        (LineCrossing, {"lines": [{"start": [0, 0]}]}),
        (LineCrossing, {"lines": [{"start": [0, 0], "end": "there"}]}),
    ],
)
def test_shapes_that_are_none_are_refused(cls: type[Operator], params: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"expected|same name"):
        make(cls, **params)


@pytest.mark.parametrize(
    ("operator", "param", "value", "told"),
    [
        (Zones, "zones", [{"name": "g", "polygon": [[0, 0], [1, 0]]}], "zone g: expected at least 3 points"),
        (Zones, "zones", [], "zones: expected a list of mappings"),
        (LineCrossing, "lines", [{"name": "g", "start": [0, 0]}], "line g: expected at least 2 points"),
    ],
)
def test_places_that_cannot_be_are_told_before_a_run(
    operator: type[Operator], param: str, value: object, told: str
) -> None:
    problem = operator.manifest.params[param].problem(value)
    assert problem is not None
    assert told in problem


def test_seconds_inside_are_those_of_the_frames_where_these_are_connected() -> None:
    zone = make(Zones, zones=RIGHT_HALF, counts=False, keep_s=0.5)
    events: list[Event] = []
    for i, x in enumerate((100, 200, 250, 200, 100)):  # a frame of five
        picture = Image(width=320, height=240, bgr=np.zeros((240, 320, 3), np.uint8), pts_s=i / 5)
        outputs: Any = zone.process({"boxes": at(x), "frames": picture})
        events += outputs["events"].items
    assert [(event.kind, event.value) for event in events][-1] == ("zone-left", 0.6)


def test_a_place_may_be_named_by_a_number() -> None:
    named = [{"name": 1, "polygon": RIGHT_HALF[0]["polygon"]}]
    assert seen(make(Zones, zones=named), at(200))[0][0].name == "1"
