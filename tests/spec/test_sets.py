"""--set: values read like YAML, unknown stages and knobs refused with the nearest name."""

from __future__ import annotations

import pytest

from llamapipe.errors import UsageError
from llamapipe.operator import Param
from llamapipe.spec import SloSpec, apply_sets, load_yaml
from llamapipe.spec.yaml_tree import parse_scalar
from tests.spec.kit import BLUR_FACES, MANIFESTS

SPEC = load_yaml(BLUR_FACES).spec


def set_(**sets):
    return apply_sets(SPEC, {key.replace("__", "."): value for key, value in sets.items()}, MANIFESTS)


def params(spec, stage):
    return next(op.params for op in spec.ops if op.name == stage)


def test_values_are_read_like_yaml():
    spec = set_(people__min_score="0.3", people__input_size="[320, 640]", faces__precision="int8", crops__margin="0.1")
    assert params(spec, "people") == {"task": "person-detection", "min_score": 0.3, "input_size": [320, 640]}
    assert params(spec, "faces")["precision"] == "int8"
    assert params(spec, "crops") == {"margin": 0.1}
    assert params(SPEC, "people") == {"task": "person-detection"}


def test_a_list_may_be_written_with_commas():
    for text in ("person,car", "[person, car]", "person, car"):
        assert params(set_(people__labels=text), "people")["labels"] == ["person", "car"]
    assert params(set_(people__labels="person"), "people")["labels"] == ["person"]


def test_null_leaves_the_choice_to_llamapipe():
    assert params(set_(people__task="null"), "people") == {}


def test_objective_and_accuracy_can_be_set():
    assert set_(accuracy__min="0.5").accuracy.min == 0.5
    assert set_(slo__latency_p95_ms="50").slo == SloSpec(latency_p95_ms=50)
    assert set_(slo__deadline_s="60").slo == SloSpec(deadline_s=60)
    assert set_(slo__max_drop_share="0.5").slo == SloSpec(latency_p95_ms=200, max_drop_share=0.5)


@pytest.mark.parametrize(
    ("key", "value", "words", "hint"),
    [
        ("peple.batch", "2", "pipeline blur-faces has no stage 'peple'", "did you mean people?"),
        ("people.bach", "2", "llamapipe/detect@v1 has no 'bach'", "did you mean batch?"),
        ("min_score", "0.3", "expected STAGE.KNOB=VALUE, got 'min_score'", "for example --set people.min_score=..."),
        ("people.batch", "many", "expected a whole number from 1 up, got 'many'", None),
        ("crops.margin", "3", "expected at most 1, got 3", None),
        ("blurred.shape", "round", "expected one of box, ellipse, got 'round'", None),
        ("slo.p95", "3", "unknown key 'p95'", None),
        ("slo.latency_p95_ms", "fast", "valid number", None),
        ("accuracy.min", "2", "less than or equal to 1", None),
    ],
)
def test_what_does_not_fit_is_refused(key, value, words, hint):
    with pytest.raises(UsageError) as caught:
        apply_sets(SPEC, {key: value}, MANIFESTS)
    assert words in caught.value.message
    assert f"--set {key}={value}" in caught.value.message
    assert hint is None or caught.value.hint == hint


def test_values_that_are_no_texts_are_what_they_are() -> None:
    assert parse_scalar(0.3) == 0.3  # type: ignore[arg-type]
    assert parse_scalar([320, 320]) == [320, 320]  # type: ignore[arg-type]


def test_a_number_that_is_none_is_no_value() -> None:
    assert Param(float, 0.1, minimum=0, maximum=5).problem(float("nan")) == "expected a finite number, got nan"
