"""``${params.NAME}``, ``${env:VAR}`` and ``${env:VAR:-default}`` in values, resolved once.

``$${`` is a plain ``${``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from llamapipe.clock import Env
from llamapipe.errors import Problem
from llamapipe.spec.names import did_you_mean
from llamapipe.spec.yaml_tree import Node, node_of, parse_scalar

__all__ = ["Substitution", "escaped"]

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<inside>[^{}]*)\}|\$\{")
_ENV = re.compile(r"^env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?$", re.DOTALL)


def escaped(text: str) -> str:
    """The text as it must stand in a file for a reader to get ``text`` back."""
    return text.replace("${", "$${")


class Substitution:
    """Replaces references in a tree; what is wrong collects in ``problems``.

    A value that is nothing but ``${params.x}`` takes the parameter's type; one that is nothing but ``${env:X}`` is
    read like YAML unless it stands in quotes. Within a longer text both are written out. What came in is not
    searched again. ``params`` None: references to parameters are refused (in the ``params`` block itself).
    ``unread`` are parameters whose value could not be read; with ``complete`` false, others may have got lost as
    well. Neither is a problem again: what refers to them is unread too, as is all that cannot be resolved.
    """

    def __init__(
        self, params: Mapping[str, Any] | None, env: Env, *, unread: Collection[str] = (), complete: bool = True
    ) -> None:
        self.problems: list[Problem] = []
        self._unread = frozenset(unread)
        self._complete = complete
        self._failed = False  # whether the text at hand held a reference that cannot be resolved
        self._params = params
        self._env = env

    def apply(self, node: Node) -> Node:
        """A copy of the tree with everything resolved."""
        if isinstance(node.value, dict):
            children = {key: self.apply(child) for key, child in node.value.items()}
            return Node(children, node.where, node.plain, node.key_where)
        if isinstance(node.value, list):
            return Node([self.apply(child) for child in node.value], node.where, node.plain)
        if isinstance(node.value, str) and "${" in node.value:
            self._failed = False
            value = self._text(node.value, node)
            return Node(None, node.where, unread=True) if self._failed else node_of(value, node.where)
        return node

    def _text(self, text: str, node: Node) -> Any:
        whole = _REFERENCE.fullmatch(text)
        if whole is not None and whole["inside"] is not None:
            value = self._value(whole["inside"].strip(), node.where)
            typed = node.plain and whole["inside"].strip().startswith("env:") and isinstance(value, str)
            return parse_scalar(value) if typed else value
        return _REFERENCE.sub(lambda match: self._piece(match, node.where), text)

    def _fail(self, problem: Problem) -> None:
        self.problems.append(problem)
        self._failed = True

    def _piece(self, match: re.Match[str], where: str) -> str:
        if match[0] == "$${":
            return "${"
        if match["inside"] is None:
            self._fail(Problem("reference", "expected a } behind ${, got none", where, "write $${ for a plain ${"))
            return ""
        value = self._value(match["inside"].strip(), where)
        if isinstance(value, bool):
            return str(value).lower()
        return "" if value is None else str(value)

    def _value(self, inside: str, where: str) -> Any:
        if inside.startswith("params."):
            return self._param(inside.removeprefix("params."), where)
        match = _ENV.fullmatch(inside)
        if match is None:
            self._fail(
                Problem(
                    "reference",
                    f"expected ${{params.NAME}} or ${{env:VAR}}, got ${{{inside}}}",
                    where,
                    "write $${ for a plain ${",
                )
            )
            return None
        name, default = match["name"], match["default"]
        value = self._env.get(name)
        if value:
            return value
        if default is not None:
            return default
        if value is None:
            self._fail(
                Problem(
                    "unset-env",
                    f"environment variable {name} is not set and ${{env:{name}}} has no default",
                    where,
                    f"set {name}, or write ${{env:{name}:-default}}",
                )
            )
        return value

    def _param(self, name: str, where: str) -> Any:
        if self._params is None:
            self._fail(Problem("reference", f"a parameter cannot stand on another one, got ${{params.{name}}}", where))
            return None
        if name in self._unread or (name not in self._params and not self._complete):
            self._failed = True
            return None
        if name not in self._params:
            hint = did_you_mean(name, self._params, f"add it: params: {{{name}: ...}}")
            self._fail(Problem("unknown-param", f"unknown parameter {name!r}", where, hint))
            return None
        value = self._params[name]
        if value is None:
            hint = f"give it: --set params.{name}=..."
            self._fail(Problem("missing-param", f"parameter {name!r} has no value", where, hint))
        return value
