"""YAML files that a pydantic model describes: read, checked, every problem named with its line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from llamapipe.errors import Problem, SpecError, UsageError
from llamapipe.spec.yaml_tree import Node, parse_yaml, plain_value

__all__ = ["read_checked"]

_Model = TypeVar("_Model", bound=BaseModel)


def read_checked(path: Path, model: type[_Model], what: str, see: str) -> _Model:
    """The file as the model. ``what`` it is, "scenario", and where that is described, for messages.

    Raises SpecError with all problems, each with its line, and UsageError where the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint=f"expected a {what}: see {see}") from None
    root, problems = parse_yaml(text, str(path))
    if root is None or not isinstance(root.value, dict):
        raise SpecError([*problems, Problem(what, f"expected a {what}, found nothing", str(path))])
    try:
        checked = model.model_validate(plain_value(root))
    except ValidationError as error:
        errors = [one for one in error.errors() if not _follows(one, error.errors())]
        problems = [*problems, *(_problem(root, one, what) for one in errors)]
        raise SpecError(problems) from None
    if problems:
        raise SpecError(problems)
    return checked


def _follows(error: Any, errors: Sequence[Any]) -> bool:
    """Whether a list is only too short because what stands in it could not be read."""
    loc = error["loc"]
    return error["type"] == "too_short" and any(e["loc"][: len(loc)] == loc and e is not error for e in errors)


def _problem(root: Node, error: Any, what: str) -> Problem:
    node, where, path = root, root.where, []
    for part in error["loc"]:
        value = node.value
        if isinstance(value, dict) and part in value:
            where, node = node.at(part), value[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            node = value[part]
            where = node.where
        elif not isinstance(part, str) or not isinstance(value, dict):
            continue
        path.append(str(part))
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    place = ".".join(path)
    return Problem(what, f"{place}: {message}" if place else message, where)
