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
    assert "schema.json cannot be written: there is no folder" in ended.err
    assert "hint: make it" in ended.err


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


@pytest.mark.parametrize("name", ["é x.yaml", "1.yaml", "日本.yml", "A--b_c.YAML"])
def test_the_starter_is_valid_whatever_its_file_is_named(cli: Cli, tmp_path: Path, name: str) -> None:
    assert cli("init", tmp_path / name).code == 0
    assert cli("validate", tmp_path / name).code == 0


def test_the_starter_gets_a_name_that_run_takes(cli: Cli, tmp_path: Path) -> None:
    ended = cli("init", tmp_path / "mine.txt")
    assert ended.code == 2
    assert "ends in .yaml" in ended.err
    assert not (tmp_path / "mine.txt").exists()


def test_a_folder_is_no_pipeline(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").mkdir()
    ended = cli("validate", tmp_path / "all.yaml")
    assert (ended.code, ended.err) == (2, f"error: pipeline {tmp_path / 'all.yaml'} is a folder, expected a file\n")


OWN = '''\
from llamapipe import Pipeline
from llamapipe.data import Event, Events, Image
from llamapipe.operator import operator

@operator("acme/level@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
def level(frames: Image) -> Events:
    """How bright."""
    return Events([Event("level", value=float(frames.bgr.mean()))])

with Pipeline("own") as pipeline:
    found = pipeline.add("acme/level@v1", inputs={"frames": pipeline.frames}, outputs={"events": "events"})
    pipeline.sink("jsonl", found)
'''


def test_a_file_may_hold_the_pipeline_and_its_operators_and_be_named_as_both(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN, encoding="utf-8")
    assert cli("validate", f"{file}:pipeline").code == 0
    assert cli("validate", file, "--ops", file, "--ops", file).code == 0


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("def f(:\n", "1: {} file cannot be imported: SyntaxError: invalid syntax"),
        ("\nimport nosuchthing\n", "2: {} file cannot be imported: ModuleNotFoundError: No module named 'nosuchthing'"),
        ("raise SystemExit(3)\n", "1: {} file cannot be imported: SystemExit: 3"),
    ],
)
def test_a_python_file_that_fails_is_one_error_with_its_line(
    cli: Cli, plain: Path, tmp_path: Path, text: str, error: str
) -> None:
    file = tmp_path / "bad.py"
    file.write_text(text, encoding="utf-8")
    assert cli("validate", file) == (2, "", f"error: {file}:{error.format('pipeline')}\n")
    assert cli("validate", plain, "--ops", file) == (2, "", f"error: {file}:{error.format('operator')}\n")


def test_an_operator_called_like_a_stage_says_how_it_gets_into_a_pipeline(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN.split("    found =")[0] + "    level(pipeline.frames)\n", encoding="utf-8")
    ended = cli("validate", file)
    assert ended.code == 2
    assert "pipeline.add('acme/level@v1', inputs=" in ended.err


def test_a_schema_is_not_written_over_a_pipeline(cli: Cli, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\n")
    ended = cli("schema", "-o", mine)
    assert ended.code == 2
    assert "is there already, and is no schema of pipeline files" in ended.err
    assert mine.read_text() == "name: mine\n"


HOOK = """\
name: hook
ops:
  - {name: resize, type: resize, inputs: $source.frames, width: 160}
  - {name: still, type: motion, inputs: $source.frames}
sinks:
  - {type: %s}
"""


@pytest.mark.parametrize(
    ("sink", "told"),
    [
        ("video, input: $ops.resize.frames, path: out.webm", "cannot write 'out.webm': expected a name in .mp4"),
        ("webhook, input: $ops.still.events, url: 'ftp://me:secret@host/x'", "expected http://HOST/..."),
    ],
)
def test_a_sink_that_a_run_would_refuse_is_no_valid_one(cli: Cli, tmp_path: Path, sink: str, told: str) -> None:
    path = tmp_path / "hook.yaml"
    path.write_text(HOOK % sink)
    ended = cli("validate", path)
    assert ended.code == 2
    assert told in ended.err
    assert "secret" not in ended.err


def test_a_zone_that_cannot_be_is_no_valid_one(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "zone.yaml"
    path.write_text(
        "name: zone\n"
        "ops:\n"
        "  - {name: moved, type: motion, inputs: $source.frames}\n"
        "  - {name: gate, type: zones, inputs: $ops.moved.boxes, zones: [{name: g, polygon: [[0, 0], [1, 0]]}]}\n"
        "sinks:\n"
        "  - {type: jsonl, input: $ops.gate.events}\n"
    )
    ended = cli("validate", path)
    assert ended.code == 2
    assert "zone g: expected at least 3 points [x, y]" in ended.err
