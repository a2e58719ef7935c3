"""YAML files that a pydantic model describes: read, checked, every problem named with its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from llamapipe.errors import Problem, SpecError, UsageError
from llamapipe.spec.names import did_you_mean
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
        reason = (getattr(error, "strerror", None) or "it is no text").lower()
        raise UsageError(f"{what} {path} cannot be read: {reason}", hint=f"expected a {what}: see {see}") from None
    root, problems = parse_yaml(text, str(path))
    if root is None or not isinstance(root.value, dict):
        keys = f"expected a {what} with {', '.join(model.model_fields)}"
        came = _shown(None if root is None else root.value)
        raise SpecError([*problems, Problem(what, f"{keys}, got {came}", str(path), f"see {see}")])
    try:
        checked = model.model_validate(plain_value(root))
    except ValidationError as error:
        errors = [one for one in error.errors() if not _follows(one, error.errors())]
        problems = [*problems, *(_problem(root, one, what, model) for one in errors)]
        raise SpecError(problems) from None
    if problems:
        raise SpecError(problems)
    return checked


def _follows(error: Any, errors: Sequence[Any]) -> bool:
    """Whether a list is only too short because what stands in it could not be read."""
    loc = error["loc"]
    return error["type"] == "too_short" and any(e["loc"][: len(loc)] == loc and e is not error for e in errors)


def _problem(root: Node, error: Any, what: str, model: type[BaseModel]) -> Problem:
    node, where, path = root, root.where, []
    kinds: list[Any] = [model]
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
        if error["type"] != "extra_forbidden" or len(path) < len(error["loc"]):
            kinds = [inner for kind in kinds for inner in _inside(kind, part)]
    message, hint = _worded(error, list(dict.fromkeys(key for kind in kinds for key in _keys(kind))))
    place = ".".join(path)
    return Problem(what, f"{place}: {message}" if place else message, where, hint)


def _worded(error: Any, keys: Sequence[str]) -> tuple[str, str | None]:
    """What is wrong, and what mends it; ``keys`` are those that may stand there."""
    came = error["input"]
    if error["type"] == "extra_forbidden":
        return f"unknown key, expected one of {', '.join(keys)}", did_you_mean(
            error["loc"][-1], keys, otherwise=""
        ) or None
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"expected keys with values, of {', '.join(keys)}, got {_shown(came)}", None
    if error["type"] in ("dict_type", "mapping_type"):
        return f"expected names, each with what belongs to it, got {_shown(came)}", None
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    told = error["type"] in ("missing", "value_error") or isinstance(came, Mapping | list | tuple)
    return (message if told else f"{message}, got {_shown(came)}"), None


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "keys with values"
    return "a list" if isinstance(value, list | tuple) else repr(value)


def _inside(kind: Any, part: Any) -> list[Any]:
    """The types of what stands under ``part`` in something of type ``kind``."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(part)
        return [] if field is None else [field.annotation]
    if get_origin(kind) in (Union, UnionType):
        return [inner for one in get_args(kind) for inner in _inside(one, part)]
    return list(get_args(kind)[-1 if isinstance(part, str) else 0 :][:1])


def _keys(kind: Any) -> list[str]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return list(kind.model_fields)
    return [key for one in get_args(kind) for key in _keys(one)] if get_origin(kind) in (Union, UnionType) else []
