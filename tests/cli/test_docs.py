"""The documentation says what is so: flags, operators, state tables, fields, examples and links."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

import llamapipe
from llamapipe import errors
from llamapipe.cli.starter import STARTER
from llamapipe.control.lifecycle import ITEM, LINK, REPLICA, RUN, SLOT
from llamapipe.control.serving.lifecycle import QUERY, VARIANT
from llamapipe.errors import AssetError, LlamapipeError, Problem, UsageError
from llamapipe.inference import MODELS
from llamapipe.inference.decoders import DECODERS
from llamapipe.inference.models import TASKS
from llamapipe.media import SINKS
from llamapipe.operator import Knob
from llamapipe.report import (
    FrameCounts,
    RunSummary,
    ServedBy,
    ShadowSummary,
    ShadowWindow,
    SloResult,
    StageSummary,
    StreamSummary,
    TriedRow,
    TuningSummary,
)
from llamapipe.runtime.slots import StaleFrame
from llamapipe.session import pipeline_names, validate_pipeline
from llamapipe.session.pipeline import RunOptions, TuneOptions
from llamapipe.sim.scenario import load_scenario
from llamapipe.tune import Predicted
from llamapipe_operators import OPERATORS
from tests.cli.test_app import commands, whole_app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "samples" / "README.md", *sorted(DOCS.rglob("*.md"))]
COMMON = {"--help", "-h", "--quiet", "-q", "--verbose", "-v"}


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """What stands under a heading, up to the next of its level or above."""
    level = heading.split(" ")[0]
    body = f"\n{text(page)}".split(f"\n{heading}\n", 1)[1]
    return re.split(rf"\n#{{1,{len(level)}}} ", body)[0]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def command_of(words: tuple[str, ...]) -> Any:
    command: Any = whole_app()
    for word in words:
        command = command.commands[word]
    return command


def table_words(body: str) -> set[str]:
    """What stands in backquotes in the first column of the tables."""
    firsts = [line.split("|")[1] for line in body.splitlines() if line.startswith("| `")]
    return {word for first in firsts for word in re.findall(r"`([^`]+)`", first)}


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_every_flag_is_described_under_its_command(command: tuple[str, ...]) -> None:
    body = section("cli.md", f"## llamapipe {' '.join(command)}")
    flags = {name for param in command_of(command).params for name in (*param.opts, *param.secondary_opts)}
    missing = sorted(flag for flag in flags - COMMON if flag.startswith("-") and f"`{flag}`" not in body)
    assert missing == []


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_no_flag_is_described_that_is_not_there(command: tuple[str, ...]) -> None:
    body = section("cli.md", f"## llamapipe {' '.join(command)}")
    flags = {name for param in command_of(command).params for name in (*param.opts, *param.secondary_opts)}
    described = set(re.findall(r"`(--?[a-z][a-z-]*)`", body))
    assert described - flags - COMMON == set()


def test_no_command_is_described_that_is_not_there() -> None:
    described = {tuple(words.split()) for words in re.findall(r"^## llamapipe (.*)$", text("cli.md"), re.MULTILINE)}
    assert described == set(commands())


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_in_examples_parse(page: Path) -> None:
    for block in blocks(page.read_text(encoding="utf-8"), "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.split("|")[0], comments=True)
            if words[:1] != ["llamapipe"]:
                continue
            group: Any = whole_app()
            context = group.make_context("llamapipe", words[1:], resilient_parsing=True)
            _, command, rest = group.resolve_command(context, words[1:])
            while hasattr(command, "commands"):
                _, command, rest = command.resolve_command(context, rest)
            command.make_parser(context).parse_args(args=rest)  # raises for flags that are not there


def test_every_operator_is_in_the_table_with_its_ports() -> None:
    rows = {
        cells[1].strip(" `"): (cells[2], cells[3])
        for cells in (line.split("|") for line in text("operators.md").splitlines())
        if len(cells) == 6 and cells[1].startswith(" `")
    }
    expected = {}
    for operator in OPERATORS:
        manifest = operator.manifest
        takes = [name + ("?" if port.optional else "") for name, port in manifest.inputs.items()]
        expected[manifest.short_name] = (f" {', '.join(takes)} ", f" {', '.join(manifest.outputs)} ")
    assert rows == expected


def test_operators_with_state_and_filters_say_so() -> None:
    for operator in OPERATORS:
        manifest = operator.manifest
        row = next(line for line in text("operators.md").splitlines() if line.startswith(f"| `{manifest.short_name}`"))
        assert ("keeps state" in row) == (manifest.state.value != "none")
        assert ("filters" in row) == manifest.filters
        assert ("fails closed" in row) == manifest.hides


def test_every_sink_pipeline_task_decoder_and_knob_is_described() -> None:
    assert table_words(section("outputs.md", "## Sinks")) == {sink.short_name for sink in SINKS.values()}
    assert table_words(section("pipelines.md", "## Ready pipelines")) == set(pipeline_names())
    assert table_words(text("models.md")) >= set(TASKS) | set(DECODERS) | {str(knob) for knob in Knob}
    assert all(model.decoder in {*DECODERS, "mtcnn"} for model in MODELS.values())


@pytest.mark.parametrize(
    "kind",
    [
        *(RunSummary, FrameCounts, ServedBy, SloResult, StageSummary, StreamSummary),
        *(TuningSummary, TriedRow, Predicted, ShadowSummary, ShadowWindow),
    ],
)
def test_every_field_of_run_json_is_described(kind: type[msgspec.Struct]) -> None:
    described = set(re.findall(r"`([a-z_0-9]+)`", section("outputs.md", "## run.json")))
    assert set(kind.__struct_fields__) - described == set()


@pytest.mark.parametrize(
    ("heading", "table", "start"),
    [
        ("Run", RUN, "planned"),
        ("Replica", REPLICA, "starting"),
        ("Worker link", LINK, "unknown"),
        ("Item", ITEM, "waiting"),
        ("Arena slot", SLOT, "free"),
        ("Variant", VARIANT, "inactive"),
        ("Query", QUERY, "waiting"),
    ],
)
def test_the_drawn_lifecycles_are_the_tables(heading: str, table: Any, start: str) -> None:
    (diagram,) = blocks(section("architecture.md", f"### {heading}"), "mermaid")
    drawn = set(re.findall(r"^  (\S+) --> (\S+)$", diagram, re.MULTILINE))
    edges = {(state.value, to.value) for state, targets in table.items() for to in targets}
    ends = {(state.value, "[*]") for state, targets in table.items() if not targets}
    assert drawn == {("[*]", start), *edges, *ends}


def yaml_pipelines() -> list[Any]:
    found = [pytest.param(STARTER.format(path="x.yaml", name="x"), id="init")]
    for page in PAGES:
        for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "yaml")):
            data = yaml.safe_load(block) if "\nops:" in block else None
            if isinstance(data, dict) and "name" in data:
                found.append(pytest.param(block, id=f"{page.name}-{number}"))
    return found


@pytest.mark.parametrize("pipeline", yaml_pipelines())
def test_pipelines_in_the_documentation_are_valid(pipeline: str, tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(pipeline, encoding="utf-8")
    problems: list[Problem] = validate_pipeline(path, env={})
    assert problems == []


def test_the_scenario_in_the_documentation_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(blocks(text("simulation.md"), "yaml")[0], encoding="utf-8")
    assert load_scenario(path).name == "junction"


def python_blocks() -> list[Any]:
    return [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in PAGES
        if page.parent.name != "samples"  # they import each other, and have a test that runs them
        for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "python"))
    ]


@pytest.mark.parametrize("code", python_blocks())
def test_python_in_the_documentation_is_python_and_its_imports_are_there(code: str) -> None:
    imports = [node for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), "documentation", "exec"), {})


@pytest.mark.parametrize("code", python_blocks())
def test_what_the_documentation_takes_of_llamapipe_is_exported(code: str) -> None:
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)]
    named = {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == "llamapipe"}
    assert named - {*llamapipe.__all__, "errors"} == set()


def test_every_option_of_run_and_tune_is_described() -> None:
    of_run = set(re.findall(r"`([a-z_]+)`", section("python.md", "## Run, files")))
    assert set(RunOptions.__annotations__) - of_run == set()
    of_tune = set(re.findall(r"`([a-z_]+)`", section("python.md", "## Plan, tune, compare")))
    assert set(TuneOptions.__annotations__) - of_tune == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


def test_operators_in_the_documentation_load_and_the_function_runs(tmp_path: Path) -> None:
    from llamapipe.operator import load_registry

    function, peak = blocks(text("operators.md"), "python")
    files = []
    for name, code in (("brightness.py", function), ("peak.py", peak)):
        files.append(tmp_path / name)
        files[-1].write_text(code, encoding="utf-8")
    registry = load_registry(files)
    assert {"acme/dark@v1", "acme/peak@v1"} <= set(registry.types())


@pytest.mark.parametrize(
    "section_name",
    [
        "## Run, files",
        pytest.param("## Plan, tune, compare", marks=pytest.mark.slow),
        "## Pipelines in Python",
    ],
)
def test_the_python_examples_run(
    section_name: str, assets: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "tune" in section_name:  # of squares that move nothing is found: it takes a street
        clip = assets / "TUD-Stadtmitte.mp4"
    for name in ("street.mp4", "a.mp4", "b.mp4"):
        Path(name).write_bytes(clip.read_bytes())
    (code,) = re.findall(r"^```python\n(.*?)^```", section("python.md", section_name), re.MULTILINE | re.DOTALL)
    try:
        exec(compile(code, "python.md", "exec"), {})
    except AssetError as error:
        pytest.skip(f"no model: {error.message}")
    assert (tmp_path / "out" / "run.json").is_file()


def error_classes() -> list[type[LlamapipeError]]:
    found = [getattr(errors, name) for name in errors.__all__]
    return [one for one in found if isinstance(one, type) and issubclass(one, LlamapipeError)]


def test_every_error_is_in_the_table_with_its_code_and_exit_code() -> None:
    lines = [line for line in section("errors.md", "## Codes").splitlines() if line.startswith("| `")]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines]
    table = {name: (code, exit_code) for code, name, exit_code, _, _ in rows}
    assert table == {one.__name__: (one.code, str(one.exit_code)) for one in (*error_classes(), StaleFrame)}
    assert all(meaning and remedy for *_, meaning, remedy in rows)
    # No module has a code of its own that the table lacks.
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "llamapipe").rglob("*.py")]
    codes = {code for source in sources for code in re.findall(r"^    code = \"(.+)\"$", source, re.MULTILINE)}
    assert codes == {code for code, _ in table.values()}


def test_the_tree_in_the_docstring_of_errors_is_that_of_the_classes() -> None:
    drawn = dict(re.findall(r"(\w+) +exit (\d+) ", errors.__doc__ or ""))
    assert drawn == {one.__name__: str(one.exit_code) for one in error_classes() if one is not LlamapipeError}


def test_every_code_of_a_problem_is_in_the_table() -> None:
    """Wherever a problem is made, its code is the first argument."""
    made = set()
    for path in (ROOT / "llamapipe" / "spec").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            code = node.args[0]
            if name in ("Problem", "_say") and isinstance(code, ast.Constant):
                made.add(str(code.value))
    made.add(UsageError.code)  # of a --set, among the problems of a pipeline
    assert table_words(section("errors.md", "## Problems of a pipeline")) == made
