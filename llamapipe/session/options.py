"""Options as people give them in Python: of the type that is meant, or an error that says what to write instead.

What the command line is given passes here too, so that both take the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

from llamapipe.errors import UsageError
from llamapipe.spec.names import did_you_mean

__all__ = [
    "Check",
    "assignments",
    "choice",
    "flag",
    "made_right",
    "number",
    "path",
    "paths",
    "refuse_unknown",
    "texts",
    "word",
    "words_or_number",
]

Check = Callable[[str, Any], Any]
"""Given an option's name and its value: the value as it is meant. Raises UsageError where nobody can say what is."""

_LIST_EXAMPLE = "a list of texts"


def made_right(asked: Any, checks: Mapping[str, Check]) -> None:
    """Check the fields of a frozen dataclass when it is made, and put right what can be: text where a Path is meant."""
    for name, check in checks.items():
        given = getattr(asked, name)
        meant = check(name, given)
        if meant is not given:
            object.__setattr__(asked, name, meant)


def refuse_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise UsageError for an option that ``what`` does not have: who misspells one asks for something else."""
    names = list(known)
    for name in given:
        if name not in names:
            raise UsageError(
                f"{what} has no option {name!r}", hint=did_you_mean(name, names, f"known: {_listed(names)}")
            )


def path(name: str, given: Any) -> Path | None:
    """A path, also as text; None: left out."""
    if given is None or isinstance(given, Path):
        return given
    if isinstance(given, str | PathLike) and str(given):
        return Path(given)
    raise _refusal(name, "a path", given)


def paths(name: str, given: Any) -> Any:
    """Several paths, also as texts. A single one is a list of one."""
    if isinstance(given, list | tuple) and all(isinstance(one, Path) for one in given):
        return given
    return tuple(path(name, one) if one is not None else _no_path(name) for one in _several(name, "paths", given))


def texts(name: str, given: Any) -> Any:
    """Several texts. A single one is a list of one, not one of its letters."""
    if isinstance(given, list | tuple) and all(isinstance(one, str) for one in given):
        return given
    found = _several(name, "texts", given)
    for one in found:
        if not isinstance(one, str | PathLike):
            raise _refusal(name, _LIST_EXAMPLE, given)
    return [str(one) for one in found]


def assignments(name: str, given: Any) -> Any:
    """Values by name. What a value may be is the matter of whose it is."""
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        key, equals, value = given.partition("=") if isinstance(given, str) else ("", "", "")
        hint = f"write {name}={{{key!r}: {value!r}}}" if equals else None
        raise _refusal(name, "a mapping from names to values", given, hint)
    return given


def word(example: str) -> Check:
    """A text, or None."""

    def check(name: str, given: Any) -> Any:
        if given is None or isinstance(given, str):
            return given
        raise _refusal(name, "a text", given, f"for example {name}={example!r}")

    return check


def choice(*choices: str) -> Check:
    """One of these texts, or None."""

    def check(name: str, given: Any) -> Any:
        if given is None or (isinstance(given, str) and given in choices):
            return given
        raise _refusal(name, f"one of {_listed(choices)}", given, did_you_mean(str(given), choices, ""))

    return check


def flag(name: str, given: Any) -> bool:
    """True or False: of anything else, such as "no", nobody can say."""
    given = _scalar(given)
    if isinstance(given, bool):
        return given
    raise _refusal(name, "True or False", given)


def number(
    what: str = "a number",
    *,
    least: float = -inf,
    over: float = -inf,
    most: float = inf,
    whole: bool = False,
    optional: bool = False,
    any_range: bool = False,
) -> Check:
    """A number of Python or numpy; ``what`` says in errors which. ``any_range``: others check what it may be."""

    def check(name: str, given: Any) -> Any:
        value = _scalar(given)
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
            raise _refusal(name, what, given, _as_number(name, given))
        value = int(value) if isinstance(value, Integral) else float(value)
        if not any_range and not (least <= value <= most and value > over):  # of no number (nan) nothing is true
            raise _refusal(name, what, value)
        return value

    return check


def words_or_number(what: str) -> Check:
    """A whole number, a text, or None; which of these there are is checked elsewhere."""

    def check(name: str, given: Any) -> Any:
        value = _scalar(given)
        if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
            return value
        raise _refusal(name, what, given)

    return check


def _several(name: str, what: str, given: Any) -> list[Any]:
    if isinstance(given, str | PathLike):
        return [given]
    if isinstance(given, bytes | Mapping) or not isinstance(given, Iterable):
        raise _refusal(name, f"a list of {what}", given)
    return list(given)


def _no_path(name: str) -> Path:
    raise _refusal(name, "paths", None)


def _scalar(given: Any) -> Any:
    """A number of numpy as one of Python: messages between threads and processes take no others."""
    return given.item() if getattr(given, "shape", None) == () and hasattr(given, "item") else given


def _as_number(name: str, given: Any) -> str | None:
    try:
        float(given)
    except (TypeError, ValueError):
        return None
    return f"write {name}={given}, without quotes" if isinstance(given, str) else None


def _refusal(name: str, expected: str, given: Any, hint: str | None = None) -> UsageError:
    shown = repr(given)
    shown = shown if len(shown) <= 80 else f"a {type(given).__name__}"
    return UsageError(f"{name}: expected {expected}, got {shown}", hint=hint or None)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
