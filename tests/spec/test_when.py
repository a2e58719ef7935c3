"""Conditions are parsed, measured per item, combined per frame, and never evaluated as code."""

import numpy as np
import pytest

from llamapipe.data import Boxes, Event, Events
from llamapipe.errors import SpecError
from llamapipe.spec import parse_when

BOXES = Boxes(
    np.array([[0, 0, 10, 10], [5, 5, 9, 9], [1, 1, 4, 4]]),
    np.array([0.9, 0.4, 0.7]),
    np.array([0, 0, 1]),
    ("person", "car"),
)


def holds(text: str, value: Boxes | Events) -> bool:
    when = parse_when(text)
    return when.decide({atom.key: atom.test(atom.measure(value)) for atom in when.atoms})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("count($ops.a.boxes) == 3", True),
        ('count($ops.a.boxes, label == "person") >= 2', True),
        ('count($ops.a.boxes, label == "person" and score >= 0.5) >= 2', False),
        ('any($ops.a.boxes, label == "dog")', False),
        ('not any($ops.a.boxes, label == "dog")', True),
        ("max_score($ops.a.boxes, label in ['car', 'dog']) > 0.6", True),
        ("max_score($ops.a.boxes) < 0.5 or count($ops.a.boxes, not (score < 0.8)) == 1", True),
        ("count($ops.a.boxes) >= 1 and count($ops.a.boxes) <= 2", False),
    ],
)
def test_condition_over_boxes(text: str, expected: bool) -> None:
    assert holds(text, BOXES) is expected


def test_condition_over_events() -> None:
    events = Events([Event("motion", value=0.2), Event("line-crossed", name="gate", label="car")])
    assert holds('any($ops.m.events, kind == "line-crossed" and name == "gate")', events)
    assert not holds('max_score($ops.m.events, kind == "motion") > 0.5', events)


def test_counts_add_up_over_items_and_scores_do_not() -> None:
    atoms = parse_when("count($ops.a.boxes) > 1 and max_score($ops.a.boxes) > 0.5").atoms
    assert [atom.combine for atom in atoms] == ["sum", "max"]
    assert (atoms[0].stage, atoms[0].port) == ("a", "boxes")


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("", 1, "one of count"),
        ("count($ops.a.boxes)", 20, "one of >="),
        ("count(boxes) > 1", 7, "a selector"),
        ("count($source) > 1", 7, "a selector such as"),
        ('count($ops.a.boxes, colour == "red") > 1', 21, "one of label"),
        ("count($ops.a.boxes, label == person) > 1", 30, "a text in quotes"),
        ('count($ops.a.boxes, label > "a") > 1', 27, "== or !="),
        ("count($ops.a.boxes) > 1 count", 25, "and, or, or the end"),
        ("__import__('os')", 1, "one of count"),
        ("count($ops.a.boxes) > 1; x", 24, "a condition"),
    ],
)
def test_mistakes_name_the_column(text: str, column: int, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_when(text)
    assert f"column {column} of" in str(caught.value)
    assert expected in str(caught.value)
