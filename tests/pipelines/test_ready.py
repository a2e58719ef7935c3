"""The ready pipelines: valid, the same in YAML and in Python, in the wheel."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import llamapipe_pipelines
from llamapipe.session import load_pipeline

NAMES = llamapipe_pipelines.names()


def test_all_ready_pipelines_are_listed() -> None:
    assert NAMES == ["blur-faces", "denoise", "people", "toonify", "traffic", "vintage"]


@pytest.mark.parametrize("name", NAMES)
def test_a_ready_pipeline_is_valid(name: str) -> None:
    loaded = load_pipeline(name, env={})
    assert loaded.spec.name == name
    assert loaded.spec.description.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_python_and_yaml_say_the_same(name: str) -> None:
    module = importlib.import_module(f"llamapipe_pipelines.{name.replace('-', '_')}")
    assert module.__file__ is not None
    made = load_pipeline(f"{module.__file__}:pipeline", env={})
    assert made.spec == load_pipeline(name, env={}).spec


def test_people_has_the_stage_that_is_scored() -> None:
    """`llamapipe eval` looks for the detections of the stage `detect`."""
    ops = {op.name: op for op in load_pipeline("people", env={}).spec.ops}
    assert ops["detect"].params["task"] == "person-detection"
    assert ops["detect"].params["min_score"] <= 0.1


@pytest.mark.parametrize("name", ["blur-faces"])
def test_pictures_reach_sinks_only_through_what_hides(name: str) -> None:
    spec = load_pipeline(name, env={}).spec
    pictures = [sink.inputs for sink in spec.sinks if sink.type == "llamapipe/video@v1"]
    assert pictures == [("$ops.draw.frames",)]
    draw = next(op for op in spec.ops if op.name == "draw")
    assert draw.inputs["frames"] == ("$ops.blurred.frames",)


def test_pipelines_are_files_that_can_be_copied(tmp_path: Path) -> None:
    for name in NAMES:
        copy = tmp_path / f"{name}.yaml"
        copy.write_text(llamapipe_pipelines.path(name).read_text())
        assert load_pipeline(copy, env={}).spec == load_pipeline(name, env={}).spec
