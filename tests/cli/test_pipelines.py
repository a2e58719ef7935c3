"""validate, graph, schema, init."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Cli

WRONG = """\
version: 1
name: wrong
slo: {latency_p95_ms: -3}
ops:
  - {name: detect, type: detetc, inputs: $source.frames}
  - {name: small, type: resize, inputs: $source.frames, widht: 3}
  - {name: draw, type: annotate, inputs: {frames: $ops.smal.frames}}
sinks:
  - {type: vidoe, input: $ops.draw.frames}
"""


def test_a_valid_pipeline_is_said_to_be_valid_on_stderr(cli: Cli, plain: Path) -> None:
    assert cli("validate", plain) == (0, "", f"{plain}: valid\n")
    assert cli("validate", plain, "-q") == (0, "", "")


@pytest.mark.parametrize("name", ["people", "blur-faces", "traffic", "vintage", "denoise", "toonify"])
def test_ready_pipelines_are_valid(cli: Cli, name: str) -> None:
    assert cli("validate", name).code == 0


def test_every_problem_is_named_with_its_line(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(WRONG, encoding="utf-8")
    ended = cli("validate", path)
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert ended.code == 2
    assert [line.split(":")[2] for line in errors] == ["3", "5", "6", "7", "9"]
    for hint in ("detect", "width", "small", "video"):
        assert f"hint: did you mean {hint}?" in ended.err


def test_problems_are_data_under_json(cli: Cli, tmp_path: Path, plain: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(WRONG, encoding="utf-8")
    ended = cli("validate", path, "--json")
    problems = json.loads(ended.out)
    assert (ended.code, ended.err, len(problems)) == (2, "", 5)
    assert set(problems[0]) == {"code", "message", "where", "hint"}
    assert cli("validate", plain, "--json") == (0, "[]\n", "")


@pytest.mark.parametrize(
    "text", ["", "a: [1\n b", "- 1\n- 2\n", "name: x\nname: y\n", "include: [self.yaml]\nname: a\n"]
)
def test_what_is_no_pipeline_is_refused_in_one_line(cli: Cli, tmp_path: Path, text: str) -> None:
    path = tmp_path / "self.yaml"
    path.write_text(text, encoding="utf-8")
    ended = cli("validate", path)
    assert ended.code == 2
    assert ended.err.startswith(f"error: {path}")
    assert "Traceback" not in ended.err


def test_set_changes_what_is_checked(cli: Cli, plain: Path) -> None:
    assert cli("validate", plain, "--set", "params.width=80", "--set", "resize.height=60").code == 0
    assert cli("validate", plain, "--set", "resize.height=-1").code == 2


@pytest.mark.parametrize(("form", "start"), [("tree", "small\n"), ("mermaid", "flowchart"), ("dot", "digraph")])
def test_graphs_come_in_three_forms(cli: Cli, plain: Path, form: str, start: str) -> None:
    ended = cli("graph", plain, "--format", form)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(start)
    assert "resize" in ended.out


def test_the_schema_is_json_and_can_be_written_to_a_file(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    assert json.loads(cli("schema").out)["title"] == "llamapipe pipeline"
    assert cli("schema", "-o", path) == (0, "", f"wrote {path}\n")
    assert json.loads(path.read_text())["title"] == "llamapipe pipeline"


def test_a_schema_that_cannot_be_written_is_one_error(cli: Cli, tmp_path: Path) -> None:
    ended = cli("schema", "-o", tmp_path / "no" / "schema.json")
    assert ended.code == 1
    assert ended.err.startswith("error: ")


def test_the_starter_is_valid_and_is_not_overwritten(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "my first.yaml"
    assert cli("init", path).code == 0
    assert yaml.safe_load(path.read_text())["name"] == "my-first"
    assert cli("validate", path).code == 0
    path.write_text("mine", encoding="utf-8")
    ended = cli("init", path)
    assert (ended.code, path.read_text()) == (1, "mine")
    assert "--force" in ended.err
    assert cli("init", path, "--force").code == 0
    assert path.read_text() != "mine"
