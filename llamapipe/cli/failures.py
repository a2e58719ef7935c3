"""What a failure looks like: one line, a hint, an exit code; the traceback only under -v."""

from __future__ import annotations

import difflib
import re
import sys
import traceback
from typing import Any

from llamapipe.cli.terminal import Terminal
from llamapipe.errors import LlamapipeError, SpecError
from llamapipe.redaction import redacted_text

__all__ = ["INTERRUPTED", "nearest", "show_failure"]

INTERRUPTED = 130


def show_failure(error: BaseException, terminal: Terminal) -> int:
    """Print ``error`` on stderr and return the exit code that it means."""
    if _is_usage(error):
        message, hint = _usage(error)
        terminal.error(message, hint)
        return 2
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        terminal.error("interrupted")
        return INTERRUPTED
    if terminal.verbosity:
        sys.stderr.write(redacted_text("".join(traceback.format_exception(error))))
    if isinstance(error, SpecError) and error.problems:
        for problem in error.problems:
            place = f"{problem.where}: " if problem.where else ""
            terminal.error(place + problem.message, problem.hint)
        return error.exit_code
    if isinstance(error, LlamapipeError):
        terminal.error(error.message, error.hint)
        return error.exit_code
    if isinstance(error, OSError):
        reason = (error.strerror or str(error) or type(error).__name__).lower()
        name = f"{error.filename}: " if error.filename else ""
        terminal.error(f"{name}{reason}", None if terminal.verbosity else "run again with -v for the traceback")
        return 1
    terminal.error(
        f"unexpected {type(error).__name__}: {error}",
        "this is a bug in llamapipe or in an operator" + ("" if terminal.verbosity else "; -v shows the traceback"),
    )
    return 1


def nearest(word: str, known: list[str]) -> str | None:
    """The known word that ``word`` was most likely meant to be."""
    spelled = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), spelled, n=1, cutoff=0.55)
    return spelled[found[0]] if found else None


def _is_usage(error: BaseException) -> bool:
    """Whether the argument parser raised it (its classes differ between releases; this much they share)."""
    return hasattr(error, "format_message") and hasattr(error, "ctx")


def _usage(error: Any) -> tuple[str, str]:
    command = error.ctx.command_path if error.ctx is not None else "llamapipe"
    help_hint = f"see: {command} --help"
    option = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption" and option is not None:
        known = [name for param in error.ctx.command.params for name in (*param.opts, *param.secondary_opts)]
        likely = nearest(option, [name for name in [*known, "--help"] if name.startswith("--")])
        return f"no such option {option}", f"did you mean {likely}?" if likely else help_hint
    if type(error).__name__ == "BadParameter" and getattr(error, "param", None) is not None:
        return _bad_value(error, help_hint)
    message = str(error.format_message()).strip()
    if message.startswith("No such command"):
        typo = message.split("'")[1] if "'" in message else message
        commands = list(getattr(error.ctx.command, "commands", {}))
        likely = nearest(typo, commands)
        hint = f"did you mean {likely}?" if likely else f"commands are {', '.join(commands)}"
        return f"no such command {typo!r}", hint
    return message[:1].lower() + message[1:].rstrip("."), help_hint


def _bad_value(error: Any, help_hint: str) -> tuple[str, str]:
    """What was expected and what came, without the words of the library that found it."""
    name = error.param.opts[-1] if error.param.opts[0].startswith("-") else error.param.metavar or error.param.name
    details = getattr(error.__cause__, "errors", None)
    came = f" {details()[0]['input']!r}" if callable(details) else ""
    message = str(error.message).strip().rstrip(".")
    choices = message.partition(" is not one of ")[2]
    if choices:
        words = re.findall(r"'([^']+)'", choices)
        likely = nearest(came.strip(" '"), words)
        return f"{name}{came}: expected one of {', '.join(words)}", f"did you mean {likely}?" if likely else help_hint
    expected = message.removeprefix("Value error, ").partition(", unable to parse")[0]
    expected = re.sub(r"^Input should be (?=greater|less)", "expected a number ", expected)
    expected = re.sub(r"^Input should be ", "expected ", expected)
    return f"{name}{came}: {expected[:1].lower()}{expected[1:]}", help_hint
