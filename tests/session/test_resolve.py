"""Finding and checking a pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamapipe.errors import UsageError
from llamapipe.session import RunRequest, TuneRequest, load_pipeline, validate_pipeline
from llamapipe.spec import AccuracyFloor, PipelineSpec

MANY_MISTAKES = """\
version: 2
name: p
acuracy: {min: 0.9}
slo: p95=fast
ops:
  - {name: a, type: detect, inputs: $source.frames, batch: 0, min_score: "${params.min_scor}"}
  - {name: b, type: detec, inputs: $ops.aa.boxes}
  - {name: d, type: detect, inputs: $source.frames, when: "count($ops.a.boxes) >> 2", model: "${env:NOPE}"}
  - {name: h, type: crop, inputs: {frames: $ops.i.frames, boxes: $ops.a.boxes}}
  - {name: i, type: resize, inputs: $ops.h.frames}
sinks:
  - {type: vido, input: $ops.a.boxes}
  - {type: jsonl, input: $source.frames}
params: {min_score: 0.4}
"""


def test_all_problems_come_at_once_in_file_order_whoever_found_them(tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    path.write_text(MANY_MISTAKES)
    problems = validate_pipeline(path, env={}, sets={"x.y": "3"})
    assert [(problem.where.removeprefix(f"{path}:"), problem.code) for problem in problems] == [
        ("", "usage"),  # --set x.y=3
        ("1", "version"),
        ("3", "unknown-key"),
        ("4", "slo"),
        ("6", "unknown-param"),
        ("6", "knob"),
        ("7", "unknown-operator"),
        ("7", "unknown-stage"),
        ("8", "unset-env"),
        ("8", "when"),
        ("9", "cycle"),
        ("12", "unknown-sink"),
        ("13", "port-kind"),
    ]


def floored(floor: AccuracyFloor | None) -> PipelineSpec:
    return load_pipeline("people", env={}).spec.model_copy(update={"accuracy": floor})


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        (None, AccuracyFloor(min=0.8)),
        (AccuracyFloor(min=0.9, degraded=0.5), AccuracyFloor(min=0.8, degraded=0.5)),
        # 0.2 of another metric would be another thing as agreement.
        (AccuracyFloor(min=0.25, metric="coco_ap", degraded=0.2), AccuracyFloor(min=0.8)),
    ],
)
def test_a_least_accuracy_is_agreement_in_place_of_the_pipelines_floor(
    own: AccuracyFloor | None, wanted: AccuracyFloor
) -> None:
    assert load_pipeline(floored(own), env={}, min_accuracy=0.8).spec.accuracy == wanted
    lower = load_pipeline(floored(own), env={}, min_accuracy=0.8, sets={"accuracy.degraded": "0.6"}).spec.accuracy
    assert lower == AccuracyFloor(min=0.8, degraded=0.6)


@pytest.mark.parametrize("key", ["accuracy.min", "accuracy.metric"])
def test_a_least_accuracy_is_not_asked_for_twice(key: str) -> None:
    with pytest.raises(UsageError, match=f"--min-accuracy 0.8 and --set {key}=1 both say"):
        load_pipeline("people", env={}, min_accuracy=0.8, sets={key: "1"})


def test_a_tuning_for_a_run_asks_for_the_same_floor_as_one_beforehand() -> None:
    """So that each finds what the other has found."""
    asked = TuneRequest.of_run(RunRequest("people", ["a.mp4"], min_accuracy=0.8), "a.mp4")
    assert asked == TuneRequest("people", "a.mp4", min_accuracy=0.8)
