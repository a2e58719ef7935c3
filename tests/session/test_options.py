"""Options of another type than is meant, or beyond what can be: put right, or refused with what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llamapipe
from llamapipe import Pipeline
from llamapipe.errors import LlamapipeError, UsageError
from llamapipe.session import RunRequest
from llamapipe.session.tune_request import TuneRequest
from llamapipe_operators.stages import detect

from .test_tuned import TUNING

NAN = float("nan")


@pytest.mark.parametrize(
    ("option", "given", "said"),
    [
        ("realtime", 1, "realtime: expected True or False, got 1"),
        ("realtime", "no", "realtime: expected True or False, got 'no'"),
        ("force", None, "force: expected True or False, got None"),
        ("max_frames", 0, "max_frames: expected a whole number from 1 up, got 0"),
        ("max_frames", 5.0, "max_frames: expected a whole number from 1 up, got 5.0"),
        ("max_frames", True, "max_frames: expected a whole number from 1 up, got True"),
        ("loop", -2, "loop: expected a whole number from 1 up, got -2"),
        ("loop", None, "loop: expected a whole number"),
        ("drop_policy", "drop-oldes", "did you mean drop-oldest"),
        ("segment_s", -1, "segment_s: expected seconds, 0 or more, got -1"),
        ("segment_s", NAN, "segment_s: expected seconds"),
        ("stall_timeout_s", NAN, "stall_timeout_s: expected seconds, over 0, got nan"),
        ("stall_timeout_s", 0, "stall_timeout_s: expected seconds, over 0, got 0"),
        ("reconnect_for_s", NAN, "reconnect_for_s: expected seconds"),
        ("reconnect_for_s", -1, "reconnect_for_s: expected seconds"),
        ("invocation_timeout_s", "5", "write invocation_timeout_s=5, without quotes"),
        ("invocation_timeout_s", 0, "invocation_timeout_s: expected seconds, over 0"),
        ("min_accuracy", "0.9", "write min_accuracy=0.9, without quotes"),
        ("start_s", "3", "write start_s=3, without quotes"),
        ("start_s", NAN, "start_s: expected seconds"),
        ("end_s", "soon", "end_s: expected seconds, 0 or more, got 'soon'"),
        ("slo", 5, "slo: expected a text, got 5"),
        ("workers", 1.5, "workers: expected a number"),
        ("workers", True, "workers: expected a number"),
        ("sinks", 5, "sinks: expected a list of texts, got 5"),
        ("sinks", [5], "sinks: expected a list of texts"),
        ("ops_files", 5, "ops_files: expected a list of paths, got 5"),
        ("ops_files", [None], "ops_files: expected paths, got None"),
        ("config", 5, "config: expected a path, got 5"),
        ("prices", {"cpu": 1}, "prices: expected a path"),
        ("sets", "detect.min_score=0.3", r"write sets=\{'detect.min_score': '0.3'\}"),
        ("sources", None, "sources: expected a list of texts, got None"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name_with_what_to_write(option: str, given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        RunRequest(**{"pipeline": "people", "sources": ["a.mp4"], option: given})


@pytest.mark.parametrize(
    ("option", "given", "said"),
    [
        ("budget_s", "5", "write budget_s=5, without quotes"),
        ("budget_frames", 0, "budget_frames: expected a whole number from 1 up"),
        ("record_s", "20", "write record_s=20, without quotes"),
        ("min_accuracy", "0.9", "write min_accuracy=0.9"),
        ("labels", 5, "labels: expected a path"),
        ("again", "yes", "again: expected True or False"),
        ("knobs", 5, "knobs: expected a list of texts"),
        ("seed", -1, "seed: expected a whole number, 0 or more"),
    ],
)
def test_so_it_is_with_a_tuning(option: str, given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        TuneRequest(**{"pipeline": "people", "source": "a.mp4", option: given})


def test_texts_are_paths_where_these_are_meant_and_a_single_one_is_a_list() -> None:
    given: Any = {"config": "x.yaml", "prices": "p.yaml", "output": "out", "ops_files": "my.py", "sinks": "mot=t.txt"}
    made = RunRequest("people", Path("a.mp4"), **given)  # type: ignore[arg-type]  # as callers without mypy write it
    assert (made.config, made.prices, made.output) == (Path("x.yaml"), Path("p.yaml"), Path("out"))
    assert (list(made.ops_files), list(made.sinks), list(made.sources)) == ([Path("my.py")], ["mot=t.txt"], ["a.mp4"])
    tuning: Any = {"labels": "gt.txt", "knobs": "detect.batch=1,2", "ops_files": ["a.py", Path("b.py")]}
    tuned = TuneRequest("people", "a.mp4", **tuning)
    assert (tuned.labels, list(tuned.knobs)) == (Path("gt.txt"), ["detect.batch=1,2"])
    assert list(tuned.ops_files) == [Path("a.py"), Path("b.py")]


def test_numbers_of_numpy_are_taken_and_become_plain_ones() -> None:
    numpys: Any = {"max_frames": np.int64(5), "start_s": np.float32(1.5), "realtime": np.bool_(True)}
    made = RunRequest("people", ["a.mp4"], **numpys)
    assert (type(made.max_frames), type(made.start_s), made.realtime) == (int, float, True)


def test_what_tune_returns_is_taken_whole() -> None:
    from llamapipe.session.tuning import Tuned

    whole: Any = Tuned(TUNING)
    assert RunRequest("people", ["a.mp4"], config=whole).config is TUNING


@pytest.mark.parametrize("call", [llamapipe.run, llamapipe.plan, llamapipe.tune])
def test_a_misspelt_option_is_refused_with_the_one_that_was_meant(call: Any) -> None:
    with pytest.raises(UsageError, match=r"no option 'min_acuracy' \(did you mean min_accuracy\?\)"):
        call("people", "a.mp4", min_acuracy=0.9)


@pytest.mark.parametrize("call", [llamapipe.run, llamapipe.plan, llamapipe.tune])
def test_what_is_no_pipeline_or_no_source_is_said_at_once(call: Any) -> None:
    with pytest.raises(UsageError, match="expected a pipeline, got a dict"):
        call({"name": "people"}, "a.mp4")
    with pytest.raises(UsageError, match=r"sources: expected|expected one video"):
        call("people", None)


def test_a_plan_takes_an_output_as_text(clip: Path, operators: Path) -> None:
    made = Pipeline("test")
    made.add("test/level@v1", inputs={"frames": made.frames}, outputs={"events": "events"})
    anything: Any = {"output": str(clip.parent / "out")}
    assert llamapipe.plan(made, clip, ops_files=str(operators), **anything).stages[0].name == "level"  # type: ignore[arg-type]  # one file


def test_pipelines_in_python_say_what_they_expect() -> None:
    anything: Any = 5
    with pytest.raises(UsageError, match="slo: expected a text or an SloSpec, got 5"):
        Pipeline("p", slo=anything)
    with Pipeline("p") as made:
        for wrong in ("x", ["x"], 5):
            with pytest.raises(UsageError, match=r"frames: expected a port such as pipeline\.frames"):
                detect(wrong, task="person-detection")  # type: ignore[arg-type]  # what is tested
        truth: Any = True
        with pytest.raises(LlamapipeError, match="when: expected a condition, got True"):
            detect(made.frames, task="person-detection", when=truth)
