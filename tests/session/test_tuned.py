"""What a tuning says of a run: for what was tuned and left as it is, and for nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from llamapipe.report import RunSummary
from llamapipe.session.pinned import pin
from llamapipe.session.request import RunRequest
from llamapipe.session.tuned import AsTuned
from llamapipe.tune import Predicted, Tried, Tuning, VideoSignature
from tests.report.test_html import summary

REFERENCE = {"detect.input_size": (640, 640), "detect.batch": 1}
SMALL = {"detect.input_size": (320, 320), "detect.batch": 1}
PREDICTED = Predicted(10.0, 0.1, 50.0, 0.93, 0.91, 0.96)
TUNING = Tuning(
    *("people", "d", "p95<=100ms", "agreement", 0.9, "here"),
    *(VideoSignature(640, 480, 25.0, (1.0,), 0.1, 0.1, (0.5,)), "street.mp4", SMALL, PREDICTED, REFERENCE),
    tried=(Tried(REFERENCE, Predicted(40, 0.1, 12, 1, 1, 1), True, 1.0, "reference"), Tried(SMALL, PREDICTED, True)),
    points=40,
    frames=48,
    budget_s=3.0,
    took_s=2.5,
)


def of(config: Tuning | Path | None, **sets: str) -> AsTuned | None:
    return AsTuned.of(
        RunRequest("people", ["a.mp4"], config=config, sets={k.replace("__", "."): v for k, v in sets.items()})
    )


def test_what_runs_as_tuned_is_as_right_as_was_measured() -> None:
    found = of(TUNING, detect__batch="1", slo__p95="1s", detect__min_score="0.050")
    assert found is not None
    assert (found.accuracy, found.accuracy_of) == (0.93, "agreement at the sinks, as tuned on street.mp4")
    assert (found.decides("detect"), found.decides("follow")) == (True, False)
    assert of(None) is None


@pytest.mark.parametrize("sets", [{"detect__batch": "4"}, {"detect__input_size": "416x416"}])
def test_of_what_is_set_otherwise_nobody_knows_how_right_it_is(sets: dict[str, str]) -> None:
    found = of(TUNING, **sets)
    assert found is not None
    assert (found.accuracy, found.accuracy_of, found.decides("detect")) == (None, "", False)
    assert found.summary(None).overruled == [key.replace("__", ".") for key in sets]
    same = of(TUNING, detect__input_size="320x320")
    assert same is not None
    assert same.overruled == ()


@pytest.mark.parametrize(
    "sets",
    [
        {"detect.sample_fps": "5"},
        {"detect.sample_fps": "5.00"},
        {"detect.sample_fps": 5},
        {"detect.batch": 1},
        {"detect.input_size": "320"},
        {"detect.input_size": "[320, 320]"},
        {"detect.input_size": [320, 320]},
        {"detect.min_score": 0.05},  # as the pipeline says
        {"follow.keep_s": "1"},
        {"follow.per_label": "null"},
        {"detect.placement": "process"},
    ],
)
def test_a_value_that_is_what_was_tuned_overrules_nothing_however_it_is_written(sets: dict[str, Any]) -> None:
    tuning = msgspec.structs.replace(TUNING, values={**SMALL, "detect.sample_fps": 5.0})
    found = AsTuned.of(RunRequest("people", ["a.mp4"], config=tuning, sets=sets))
    assert found is not None
    assert (found.overruled, found.accuracy) == ((), 0.93)


@pytest.mark.parametrize("key", ["detect.min_score", "follow.keep_s", "detect.sample_fps"])
def test_what_is_set_beside_the_tuned_values_makes_another_configuration_of_it(key: str) -> None:
    found = AsTuned.of(RunRequest("people", ["a.mp4"], config=TUNING, sets={key: "0.9"}))
    assert found is not None
    assert (found.overruled, found.accuracy, found.accuracy_of) == ((key,), None, "")
    assert found.decides("detect")  # its variant is the tuned one still


def test_a_pipeline_that_is_gone_by_the_end_of_a_run_says_nothing_of_what_was_set() -> None:
    found = AsTuned.of(RunRequest("gone.yaml", ["a.mp4"], config=TUNING, sets={"detect.min_score": "0.05"}))
    assert found is not None
    assert (found.overruled, found.accuracy) == (("detect.min_score",), None)


def test_the_summary_has_the_search_and_reads_back_as_it_was(tmp_path: Path) -> None:
    pin(TUNING, tmp_path / "c.yaml")
    for config in (TUNING, tmp_path / "c.yaml"):
        found = of(config)
        assert found is not None
        told = found.summary(12.5)
        assert [(row.what, row.differs, row.chosen, row.cost_core_ms) for row in told.tried] == [
            ("reference", "", False, 40),
            ("", "detect.input_size=320x320", True, 10.0),
        ]
        assert (told.predicted, told.cost_core_ms, told.values["detect.input_size"]) == (PREDICTED, 12.5, [320, 320])
        whole = msgspec.structs.replace(summary(), tuning=told)
        assert RunSummary.from_json(whole.to_json()) == whole
