"""Finding and checking a pipeline."""

from __future__ import annotations

from pathlib import Path

from llamapipe.session import validate_pipeline

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
