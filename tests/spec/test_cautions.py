"""What a pipeline says without effect is told, and how to mend it; it is no problem."""

from __future__ import annotations

import pytest

from llamapipe.spec import AccuracyFloor, PipelineSpec, load_yaml
from llamapipe.spec.cautions import cautions


def spec(floor: AccuracyFloor | None, on_overload: str | None = "degrade") -> PipelineSpec:
    return PipelineSpec(name="p", ops=(), accuracy=floor, on_overload=on_overload)


@pytest.mark.parametrize(
    ("floor", "tuned", "why", "hint"),
    [
        (None, False, "without a floor of accuracy", "{min: 0.9, degraded: 0.72}"),
        (AccuracyFloor(min=0.5), False, "no degraded floor below min (0.5)", "{min: 0.5, degraded: 0.4}"),
        (AccuracyFloor(min=0.5, degraded=0.5), False, "(0.5) is not below min (0.5)", "{min: 0.5, degraded: 0.4}"),
        (None, True, "one way to run each stage", "run without --config and --tune"),
        (AccuracyFloor(min=0.9, degraded=0.7), True, "one way to run each stage", "run without --config and --tune"),
    ],
)
def test_degrade_that_can_do_nothing_is_told(floor: AccuracyFloor | None, tuned: bool, why: str, hint: str) -> None:
    (caution,) = cautions(spec(floor), tuned=tuned)
    assert caution.message.startswith("on_overload: degrade does nothing: ")
    assert why in caution.message
    assert hint in (caution.hint or "")
    assert "or say on_overload: drop, or late" in (caution.hint or "")


def test_what_has_an_effect_is_not() -> None:
    assert cautions(spec(AccuracyFloor(min=0.9, degraded=0.7))) == []
    for other in (None, "drop", "late"):
        assert cautions(spec(None, other), tuned=True) == []


def test_it_names_its_line() -> None:
    text = "name: p\non_overload: degrade\nops:\n  - {name: a, type: detect, inputs: $source.frames}\n"
    loaded = load_yaml(text)
    (caution,) = cautions(loaded.spec, locations=loaded.locations)
    assert caution.where == "<text>:2"
