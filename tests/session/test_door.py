"""What ``import llamapipe`` gives: all of it, lazily, whatever else was imported before."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

import llamapipe
from llamapipe import session
from llamapipe.session.pipeline import RunOptions, TuneOptions
from llamapipe.session.tune_request import TuneRequest

from .conftest import TIMES_MS
from .test_pipeline import pipeline_of

HEAVY = ("numpy", "pydantic", "av", "cv2", "onnxruntime", "openvino", "zmq", "networkx")


def of_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout


def test_all_that_is_named_is_there() -> None:
    for module in (llamapipe, session):
        assert [name for name in module.__all__ if getattr(module, name, None) is None] == []
    assert set(llamapipe.__all__) <= set(dir(llamapipe))
    with pytest.raises(AttributeError, match="no attribute 'tuen'"):
        _ = llamapipe.tuen  # type: ignore[attr-defined]


def test_importing_it_loads_nothing_heavy() -> None:
    assert of_python(f"import sys, llamapipe; print([m for m in {HEAVY} if m in sys.modules])") == "[]\n"


@pytest.mark.parametrize("name", ["operator", "tune"])
@pytest.mark.parametrize(
    "before", ["", "import llamapipe.{0}", "from llamapipe import Pipeline; import llamapipe.session"]
)
def test_a_function_that_bears_the_name_of_a_package_is_both(name: str, before: str) -> None:
    """Importing a package makes it an attribute of llamapipe, whoever does it."""
    used = f"import llamapipe; import llamapipe.{name} as package; from llamapipe import {name}"
    told = f"print(callable(llamapipe.{name}), callable({name}), package.__name__, bool(package.__all__))"
    assert of_python("\n".join((before.format(name), used, told))) == f"True True llamapipe.{name} True\n"


def test_the_decorator_decorates() -> None:
    @llamapipe.operator("acme/nothing@v1", inputs={"frames": "frames"}, outputs={"frames": "frames"})
    def nothing(frames: object) -> object:
        """Nothing."""
        return frames

    assert nothing.manifest.type == "acme/nothing@v1"


def test_the_options_of_tune_are_the_fields_of_a_request() -> None:
    fields = {field.name for field in dataclasses.fields(TuneRequest)}
    internal = {"before_run", "variants_alone"}
    assert TuneOptions.__annotations__.keys() == fields - {"pipeline", "source"} - internal
    assert "min_accuracy" in RunOptions.__annotations__


def test_plan_says_of_a_pipeline_what_a_run_would_do(clip: Path, operators: Path) -> None:
    view = pipeline_of("test/level@v1").plan(clip, ops_files=[operators], slo="deadline=60s")
    assert (view.pipeline, view.objective, view.feasible) == ("test", "deadline=60s", True)
    assert [stage.name for stage in view.stages] == ["stage"]
    assert llamapipe.plan(pipeline_of("test/level@v1"), [clip, clip], ops_files=[operators]).feasible is None


def test_what_tune_finds_is_what_run_takes_and_two_runs_compare(
    clip: Path, operators: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMAPIPE_CACHE", str(tmp_path / "cache"))
    steps: list[object] = []
    pipeline = pipeline_of("test/level@v1")
    tuned = llamapipe.tune(pipeline, clip, ops_files=[operators], budget_s=60, on_step=steps.append)
    assert tuned.tuning.feasible
    assert steps
    for folder, config in (("a", None), ("b", tuned.tuning)):
        pipeline.run(clip, output=tmp_path / folder, ops_files=[operators], config=config)
    found = llamapipe.compare(str(tmp_path / "a"), tmp_path / "b")
    assert isinstance(found, llamapipe.Comparison)
    assert {figure.name: (figure.a, figure.b) for figure in found.frames}["delivered"] == (len(TIMES_MS),) * 2


def test_a_query_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a session of its own, that is closed after it."""
    import numpy as np

    from llamapipe.errors import QueryRefused

    monkeypatch.setenv("LLAMAPIPE_CACHE", str(tmp_path))
    with pytest.raises(QueryRefused, match="person-detection"):
        llamapipe.query(np.zeros((8, 8, 3), np.uint8), task="person-detection")
