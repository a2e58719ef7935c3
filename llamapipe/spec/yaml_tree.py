"""YAML text as a tree that knows the file and line of every key and value. Nothing in it is ever executed.

Plain scalars follow YAML 1.2: only ``true`` and ``false`` are booleans (``no`` is a text), ``1e-3`` is a number and
``12:30`` is not. Dates stay texts. Anchors, aliases and ``<<`` work; tags (``!name``) are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from llamapipe.errors import Problem, SpecError

__all__ = [
    "Dumper",
    "Loader",
    "Node",
    "in_file_order",
    "is_unread",
    "node_of",
    "parse_scalar",
    "parse_yaml",
    "plain_value",
]

_MAX_NODES = 100_000  # a hostile file can make a few lines of aliases mean billions of values
_MAX_DEPTH = 100

_CORE_SCHEMA = (
    ("null", r"^(?:~|null|Null|NULL|)$", [*"~nN", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", [*"tTfF"]),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", [*"-+0123456789"]),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        [*"-+.0123456789"],
    ),
    ("merge", r"^<<$", ["<"]),
)
_TAG = "tag:yaml.org,2002:"


class Loader(yaml.SafeLoader):
    """Safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # the name and the way that PyYAML knows


class Dumper(yaml.SafeDumper):
    """Safe dumper that quotes what `Loader` would take for something else, and writes no aliases."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # as above

    def ignore_aliases(self, data: Any) -> bool:
        """Always: a spec is a tree, and reads better as one."""
        return True


def _represent_text(dumper: Dumper, text: str) -> yaml.ScalarNode:
    style = None
    if not text.replace("\n", "").isprintable():
        style = '"'  # with escapes: other styles lose line breaks such as U+0085
    elif "\n" in text:
        style = "|"
    return dumper.represent_scalar(_TAG + "str", text, style=style)


Dumper.add_representer(str, _represent_text)

for _kind, _pattern, _first in _CORE_SCHEMA:
    for _class in (Loader, Dumper):
        _class.add_implicit_resolver(_TAG + _kind, re.compile(_pattern), _first)


@dataclass(slots=True)
class Node:
    """One value. ``value`` is a scalar, a list of nodes, or a dict from keys to nodes."""

    value: Any
    where: str  # "file:line"
    plain: bool = False  # a scalar without quotes
    key_where: dict[Any, str] = field(default_factory=dict)
    unread: bool = False  # what stands here could not be read, and has been reported

    def at(self, key: Any) -> str:
        """Where a key of this mapping stands."""
        return self.key_where.get(key, self.where)


def is_unread(node: Node) -> bool:
    """Whether the node, or any within it, could not be read."""
    if isinstance(node.value, dict):
        return any(is_unread(child) for child in node.value.values())
    if isinstance(node.value, list):
        return any(is_unread(child) for child in node.value)
    return node.unread


def plain_value(node: Node) -> Any:
    """The node as lists, dicts and scalars."""
    if isinstance(node.value, dict):
        return {key: plain_value(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain_value(child) for child in node.value]
    return node.value


def in_file_order(problems: Iterable[Problem], files: Sequence[str]) -> list[Problem]:
    """Problems by file (in the order given) and line; those that stand in none of the files come first."""
    order = {file: i for i, file in enumerate(files)}

    def key(problem: Problem) -> tuple[int, int]:
        file, _, line = problem.where.removesuffix(":").partition(":")
        while file not in order and line:
            more, _, line = line.partition(":")
            file = f"{file}:{more}"
        number = line.split(":")[0]
        return order.get(file, -1), int(number) if number.isdigit() else 0

    return sorted(problems, key=key)


def node_of(value: Any, where: str) -> Node:
    """The tree of a plain value, all of it standing in one place."""
    if isinstance(value, dict):
        return Node({key: node_of(child, where) for key, child in value.items()}, where)
    if isinstance(value, list):
        return Node([node_of(child, where) for child in value], where)
    return Node(value, where)


def parse_scalar(text: str) -> Any:
    """A value given as text on the command line: ``0.3``, ``true``, ``[320, 320]``, ``person``.

    What is no YAML is the text itself; from Python, other values than texts are what they are.
    """
    given: object = text
    if not isinstance(given, str):
        return given
    try:
        root, problems = parse_yaml(text, "")
    except SpecError:
        return text
    return text if problems or root is None else plain_value(root)


def parse_yaml(text: str, file: str) -> tuple[Node | None, list[Problem]]:
    """The document's root (None: it is empty) and what is wrong with keys and tags in it.

    Raises SpecError where the text is no YAML at all: with file, line, column and what came.
    """
    try:
        root = yaml.compose(text, Loader)
    except yaml.MarkedYAMLError as error:
        raise SpecError([_broken(error, text, file)]) from None
    except yaml.YAMLError as error:
        raise SpecError([_unreadable(error, text, file)]) from None
    except RecursionError:
        raise SpecError([Problem("yaml", "broken YAML: nested too deeply", file)]) from None
    if root is None:
        return None, []
    builder = _Builder(file)
    return builder.build(root), builder.problems


def _broken(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    what = " ".join(part for part in (error.context, error.problem) if part)
    if mark is None:
        return Problem("yaml", f"broken YAML: {what}", file)
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    hint = None
    if "${" in line and any(bracket in line.split("${")[0] for bracket in "{["):
        hint = 'inside { } and [ ] put quotes around it: "${...}"'
    elif "\t" in line[: len(line) - len(line.lstrip())]:
        hint = "indent with spaces, YAML takes no tabs"
    return Problem("yaml", f"broken YAML: {what}", _place(file, mark.line + 1, mark.column + 1), hint)


def _unreadable(error: yaml.YAMLError, text: str, file: str) -> Problem:
    if isinstance(error, yaml.reader.ReaderError):
        position = int(error.position)
        line = text.count("\n", 0, position) + 1
        column = position - (text.rfind("\n", 0, position) + 1) + 1
        return Problem(
            "yaml",
            f"broken YAML: expected text, got the control character {error.character!r}",
            _place(file, line, column),
        )
    return Problem("yaml", f"broken YAML: {error}", file)


def _place(file: str, line: int, column: int) -> str:
    return f"{file}:{line}:{column}"


class _Builder:
    def __init__(self, file: str) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._count = 0
        self._open: set[int] = set()

    def build(self, node: yaml.Node) -> Node:
        where = f"{self._file}:{node.start_mark.line + 1}"
        self._count += 1
        if self._count > _MAX_NODES:
            raise SpecError(
                [Problem("yaml", f"expected at most {_MAX_NODES} values, aliases counted, got more", where)]
            )
        if isinstance(node, yaml.ScalarNode):
            before = len(self.problems)
            value = self._scalar(node, where)
            return Node(value, where, plain=node.style is None, unread=len(self.problems) > before)
        if id(node) in self._open:
            self.problems.append(Problem("yaml", "an alias stands inside the value that it names", where))
            return Node(None, where, unread=True)
        if len(self._open) >= _MAX_DEPTH:
            raise SpecError([Problem("yaml", f"expected at most {_MAX_DEPTH} levels, got more", where)])
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                self._check_tag(node, "seq", where)
                return Node([self.build(child) for child in node.value], where)
            self._check_tag(node, "map", where)
            return self._mapping(node, where)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node, where: str) -> Node:
        built = Node({}, where)
        merged: dict[Any, tuple[Node, str]] = {}
        for key_node, value_node in node.value:
            key_where = f"{self._file}:{key_node.start_mark.line + 1}"
            if key_node.tag == _TAG + "merge":
                for key, entry in self._merged(value_node, key_where):
                    merged.setdefault(key, entry)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem("yaml", "expected a text as key, got a list or a mapping", key_where))
                continue
            key = self._scalar(key_node, key_where)
            value = self.build(value_node)
            if key in built.value:
                message = f"key {key!r} is there twice, first at {built.key_where[key]}"
                self.problems.append(Problem("duplicate-key", message, key_where, "remove one of them"))
                continue
            built.value[key] = value
            built.key_where[key] = key_where
        for key, (value, key_where) in merged.items():
            if key not in built.value:
                built.value[key] = value
                built.key_where[key] = key_where
        return built

    def _merged(self, node: yaml.Node, where: str) -> Iterator[tuple[Any, tuple[Node, str]]]:
        source = self.build(node)
        for part in source.value if isinstance(source.value, list) else [source]:
            if not isinstance(part.value, Mapping):
                self.problems.append(Problem("yaml", "expected a mapping behind <<, got something else", where))
                continue
            for key, value in part.value.items():
                yield key, (value, part.at(key))

    def _check_tag(self, node: yaml.Node, expected: str, where: str) -> None:
        if node.tag != _TAG + expected:
            shown = node.tag.replace(_TAG, "!!")
            self.problems.append(Problem("yaml", f"expected no tags, got {shown}", where, "remove it"))

    def _scalar(self, node: yaml.ScalarNode, where: str) -> Any:
        text = str(node.value)
        kind = node.tag.removeprefix(_TAG)
        try:
            if kind in ("str", "merge", "timestamp", "value"):
                return text
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "int":
                return _whole(text)
            if kind == "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except (KeyError, ValueError):
            self.problems.append(Problem("yaml", f"expected a {kind}, got {text[:40]!r}", where))
            return None
        self._check_tag(node, "str", where)
        return text


def _whole(text: str) -> int:
    for prefix, base in (("0x", 16), ("0o", 8)):
        if text.startswith(prefix):
            return int(text[2:], base)
    return int(text)
