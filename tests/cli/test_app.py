"""Commands, help, and what every failure looks like."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from llamapipe import __version__
from llamapipe.cli import app as app_module
from llamapipe.cli.app import app
from tests.cli.conftest import Cli

COMMANDS = {
    "run",
    "plan",
    "compare",
    "tune",
    "simulate",
    "capacity",
    "validate",
    "graph",
    "schema",
    "ops",
    "models",
    "eval",
    "init",
    "doctor",
    "cache",
    "reproduce",
    "query",
    "load",
}
HEAVY = ("av", "cv2", "numpy", "onnxruntime", "openvino", "scipy", "supervision", "trackers", "zmq")


@cache
def whole_app() -> Any:
    """All commands as click has them: they take a tenth of a second to make, and are the same for all who look."""
    return typer.main.get_command(app)


def commands() -> Iterator[tuple[str, ...]]:
    """Every command that does something, as its words."""
    for name, command in whole_app().commands.items():
        inner = getattr(command, "commands", None)
        yield from [(name, word) for word in inner] if inner else [(name,)]


def test_without_arguments_the_help_is_shown(cli: Cli) -> None:
    ended = cli()
    assert (ended.code, ended.err) == (0, "")
    assert all(f" {name} " in ended.out for name in COMMANDS)


def test_a_group_without_a_command_shows_its_help(cli: Cli) -> None:
    ended = cli("ops")
    assert (ended.code, ended.err) == (0, "")
    assert "list" in ended.out
    assert "show" in ended.out


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli("--version").out == f"llamapipe {__version__}\n"


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_every_command_has_help_and_takes_q_and_v(cli: Cli, command: tuple[str, ...]) -> None:
    ended = cli(*command, "--help")
    assert ended.code == 0
    assert "--quiet" in ended.out
    assert "--verbose" in ended.out


@pytest.mark.parametrize("args", [("--help",), ("run", "--help")], ids=" ".join)
def test_help_imports_nothing_heavy(args: tuple[str, ...]) -> None:
    code = (
        "import sys; from llamapipe.cli.app import call; call(sys.argv[1:]);"
        f"print(','.join(m for m in {HEAVY!r} if m in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "llamapipe", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"llamapipe {__version__}\n"


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["rum"], "did you mean run?"),
        (["modles", "list"], "did you mean models?"),
        (["ops", "shwo"], "did you mean show?"),
        (["run", "people", "--forse"], "did you mean --force?"),
        (["models", "list", "--tsak", "x"], "did you mean --task?"),
        (["ops", "show", "detcet"], "did you mean detect?"),
        (["models", "show", "yolo-nano"], "did you mean yolox-nano?"),
        (["models", "list", "--task", "person-detektion"], "did you mean person-detection?"),
        (["validate", "peeple"], "did you mean people?"),
        (["validate", "PEOPLE"], "did you mean people?"),
        (["validate", "people.yml"], "did you mean people?"),
        (["ops", "show", "DETECT"], "did you mean detect?"),
        (["models", "show", "YOLOX"], "did you mean yolox-nano?"),
        (["graph", "people", "-f", "dto"], "did you mean dot?"),
        (["run", "people", "--drop-policy", "drop-old"], "did you mean drop-oldest?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_typo_gets_the_nearest_name_and_exit_code_2(cli: Cli, args: list[str], hint: str) -> None:
    ended = cli(*args)
    assert ended.code == 2
    assert ended.out == ""
    error, hinted = ended.err.splitlines()
    assert error.startswith("error: ")
    assert hinted == f"hint: {hint}"


@pytest.mark.parametrize(
    "args", [["run"], ["graph", "people", "-f", "png"], ["eval", "one"], ["run", "people", "--loop", "0"]], ids=" ".join
)
def test_bad_usage_is_one_error_and_one_hint(cli: Cli, args: list[str]) -> None:
    ended = cli(*args)
    assert ended.code == 2
    assert [line.split(":")[0] for line in ended.err.splitlines()] == ["error", "hint"]


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["run", "people", "--max-frames", "few"], "--max-frames 'few': expected a valid integer"),
        (["run", "people", "--loop", "0"], "--loop '0': expected a number greater than or equal to 1"),
        (["run", "people", "--invocation-timeout", "x"], "--invocation-timeout 'x': expected a valid number"),
        (["graph", "people", "-f", "png"], "-f 'png': expected one of tree, mermaid, dot"),
        (["eval", "a", "b", "--min-score", "low"], "--min-score 'low': expected a valid number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_value_is_told_with_what_came_and_what_was_expected(cli: Cli, args: list[str], error: str) -> None:
    ended = cli(*args)
    assert (ended.code, ended.err.splitlines()[0]) == (2, f"error: {error}")


def test_a_traceback_is_only_shown_under_v(cli: Cli) -> None:
    assert "Traceback" not in cli("validate", "nothing.yaml").err
    assert "Traceback" in cli("validate", "nothing.yaml", "-v").err
    assert "Traceback" in cli("-v", "validate", "nothing.yaml").err


def test_an_unforeseen_error_is_told_as_a_bug(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: object, **kwargs: object) -> None:
        raise ZeroDivisionError("by zero, at rtsp://me:pass@host/x")

    monkeypatch.setattr("llamapipe.session.resolve.load_pipeline", broken)
    monkeypatch.setattr("llamapipe.session.load_pipeline", broken, raising=False)
    ended = cli("validate", "people")
    assert ended.code == 1
    assert ended.err.startswith("error: unexpected ZeroDivisionError: by zero, at rtsp://***@host/x\nhint: ")
    assert "Traceback" not in ended.err


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m llamapipe schema 2>{tmp_path / 'err'} | head -c 1"
    subprocess.run(["bash", "-c", command], check=True, capture_output=True)
    assert (tmp_path / "err").read_text() == ""


def test_closed_standard_streams_are_no_error(plain: Path) -> None:
    for closed in (">&-", "2>&-", ">&- 2>&- <&-"):
        command = f"{sys.executable} -m llamapipe validate {plain} {closed}"
        assert subprocess.run(["bash", "-c", command], check=False, capture_output=True).returncode == 0


def test_a_run_whose_listener_goes_away_goes_on(plain: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = f"{sys.executable} -m llamapipe run {plain} -i {clip} -o {out} 2> >(true); echo $? > {tmp_path / 'code'}"
    subprocess.run(["bash", "-c", command], check=True, capture_output=True)
    assert (tmp_path / "code").read_text() == "0\n"
    assert (out / "run.json").is_file()


def test_the_commands_are_those_documented_here() -> None:
    assert {words[0] for words in commands()} == COMMANDS
    assert app_module.__doc__ is not None


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("llamapipe mo", {"models"}),
        ("llamapipe run --dr", {"--drop-policy", "--dry-run"}),
        ("llamapipe run blur", {"blur-faces"}),
        ("llamapipe ops show line", {"line-crossing"}),
        ("llamapipe models show yolo", {"yolox-nano"}),
        ("llamapipe models list --task face", {"face-detection"}),
    ],
)
def test_the_shell_completes_commands_flags_and_names(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: str, found: set[str]
) -> None:
    monkeypatch.setenv("_LLAMAPIPE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    with pytest.raises(SystemExit):
        app_module.call([])
    assert set(capfd.readouterr().out.split()) == found
