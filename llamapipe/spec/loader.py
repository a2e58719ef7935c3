"""A pipeline from YAML: every problem at once, each with file and line.

    version: 1                       # optional
    name: blur-faces
    description: ...                 # optional
    params: {min_score: 0.4}         # defaults; ${params.min_score} anywhere below; null: must be given
    include: [common.yaml]           # relative to this file
    slo: {latency_p95_ms: 200}       # or the short form: p95<=200ms, drops=1%
    accuracy: {min: 0.9}
    on_overload: degrade             # degrade, drop or late
    ops:
      - {name: detect, type: detect, inputs: $source.frames, task: person-detection}
    sinks:
      - {type: video, input: $ops.detect.boxes, path: annotated.mp4}

An included file may hold ``version``, ``params``, ``include`` and ``ops``. Its ops come before those of the file that
includes it, in the order of ``include``; a parameter of the including file wins over an included one of that name.
A file reached twice counts once; one that includes itself is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llamapipe.clock import Env
from llamapipe.errors import Problem, SpecError, UsageError
from llamapipe.spec.model import PipelineSpec
from llamapipe.spec.names import did_you_mean
from llamapipe.spec.reader import TOP_KEYS, Location, Reader
from llamapipe.spec.substitution import Substitution
from llamapipe.spec.yaml_tree import Node, in_file_order, is_unread, parse_scalar, parse_yaml, plain_value

__all__ = ["Loaded", "Location", "load_yaml", "read_yaml"]

_FRAGMENT_KEYS = ("version", "params", "include", "ops")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A spec, and where in which file its parts stand: ``("ops", 0, "min_score")`` -> ``"blur.yaml:7"``."""

    spec: PipelineSpec
    locations: Mapping[Location, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)  # as used, overrides applied
    # What could not be read, and holds a stand-in: ("ops", 2, "min_score"). ("ops",) means that stages may be missing.
    # Empty unless there are problems.
    unread: frozenset[Location] = frozenset()


def load_yaml(
    source: str | Path,
    *,
    params: Mapping[str, str] | None = None,
    env: Env | None = None,
) -> Loaded:
    """Read a pipeline from a file, or from YAML text (a str of several lines).

    ``params`` override the file's own; they are read like YAML and must be of the default's type. ``env`` is what
    ``${env:VAR}`` sees. Types stay as written and an input port that isn't named stays open: see `resolve_types`.
    Raises SpecError with all problems, UsageError where the file is not there.
    """
    loaded, problems = read_yaml(source, params=params, env=env)
    if loaded is None or problems:
        raise SpecError(problems)
    return loaded


def read_yaml(
    source: str | Path,
    *,
    params: Mapping[str, str] | None = None,
    env: Env | None = None,
) -> tuple[Loaded | None, list[Problem]]:
    """As `load_yaml`, with the problems beside what could be read in spite of them.

    What is concerned holds a stand-in and is named in `Loaded.unread`, so that `validate` can add what else is wrong
    without repeating what is reported already. None where there is no mapping to read. Raises SpecError only for text
    that is no YAML at all.
    """
    text, file, folder = _open(source)
    files = _Files(env or {})
    root = files.read(text, file, folder, ())
    if root is None:
        return None, files.problems or [Problem("empty", "expected a pipeline, got nothing", file)]
    given = _given(files, params or {})
    resolve = Substitution(given, env or {}, unread=files.unread_params, complete=files.has_all_params)
    reader = Reader(files.problems)
    spec = reader.pipeline(
        {key: resolve.apply(node) for key, node in root.value.items() if key not in ("params", "include", "ops")},
        [resolve.apply(op) for op in files.ops] if files.has_ops else None,
        root,
        all_ops=files.has_all_ops,
    )
    problems = in_file_order([*files.problems, *resolve.problems], files.order)
    return Loaded(spec, reader.locations, given, frozenset(reader.unread)), problems


def _open(source: str | Path) -> tuple[str, str, Path]:
    if isinstance(source, str) and ("\n" in source or not source):
        return source, "<text>", Path()
    path = Path(source)
    return _text_of(path, f"pipeline {path}"), str(path), path.parent


def _text_of(path: Path, what: str) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{what} does not exist", hint="expected the path of a YAML file") from None
    except IsADirectoryError:
        raise UsageError(f"{what} is a folder", hint="expected the path of a YAML file") from None
    except OSError as error:
        raise UsageError(f"{what} cannot be read: {(error.strerror or str(error)).lower()}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(
            [Problem("yaml", f"expected text in UTF-8, got byte 0x{data[error.start]:02x}", f"{path}:{line}")]
        ) from None


class _Files:
    """Reads a file and what it includes; gathers ops and parameter defaults."""

    def __init__(self, env: Env) -> None:
        self.problems: list[Problem] = []
        self.ops: list[Node] = []
        self.has_ops = False
        self.has_all_ops = True  # false where a file or a list could not be read
        self.params: dict[str, Node] = {}
        self.has_all_params = True
        self.unread_params: set[str] = set()
        self.order: list[str] = []  # files as they were met
        self._env = env
        self._done: set[Path] = set()

    def read(self, text: str, file: str, folder: Path, chain: tuple[tuple[Path, str], ...]) -> Node | None:
        self.order.append(file)
        root, problems = parse_yaml(text, file)
        self.problems += problems
        if root is None:
            return None
        if not isinstance(root.value, dict):
            self.problems.append(Problem("type", f"expected a mapping with name and ops, got {_kind(root)}", file))
            self._lose_file()
            return None
        self._check_keys(root, _FRAGMENT_KEYS if len(chain) > 1 else TOP_KEYS, included=len(chain) > 1)
        if not chain:
            chain = ((Path(file).resolve() if file != "<text>" else Path("<text>"), file),)
        version = root.value.get("version")
        if version is not None and (version.value != 1 or isinstance(version.value, bool)):
            self.problems.append(
                Problem(
                    "version", f"expected version 1, got {version.value!r}", root.at("version"), "write: version: 1"
                )
            )
        if "include" in root.value:
            self._include(root.value["include"], folder, chain)
        if "params" in root.value:
            self._take_params(root.value["params"], root.at("params"))
        if "ops" in root.value:
            self.has_ops = True
            ops = root.value["ops"]
            if isinstance(ops.value, list):
                self.ops += ops.value
            elif ops.value is not None:
                self.has_all_ops = False
                if not ops.unread:
                    self.problems.append(Problem("type", f"ops: expected a list, got {_kind(ops)}", root.at("ops")))
        return root

    def _lose_file(self) -> None:
        self.has_all_ops = self.has_all_params = False

    def _check_keys(self, root: Node, known: tuple[str, ...], *, included: bool) -> None:
        for key in root.value:
            if key in known:
                continue
            if included and key in TOP_KEYS:
                message = f"an included file cannot have {key!r}; expected {', '.join(known)}"
                self.problems.append(Problem("unknown-key", message, root.at(key), "put it into the pipeline itself"))
                continue
            self.problems.append(
                Problem(
                    "unknown-key",
                    f"unknown key {key!r}",
                    root.at(key),
                    did_you_mean(str(key), known, f"known: {', '.join(known)}"),
                )
            )

    def _include(self, node: Node, folder: Path, chain: tuple[tuple[Path, str], ...]) -> None:
        resolve = Substitution(None, self._env)
        node = resolve.apply(node)
        self.problems += resolve.problems
        entries = node.value if isinstance(node.value, list) else [node]
        for entry in entries:
            if entry.unread:
                self._lose_file()
                continue
            if not isinstance(entry.value, str) or not entry.value:
                self._lose_file()
                self.problems.append(Problem("type", f"include: expected a file name, got {_kind(entry)}", entry.where))
                continue
            path = folder / entry.value
            real = path.resolve()
            if real in [known for known, _ in chain]:
                names = " > ".join([*(name for _, name in chain), str(path)])
                self.problems.append(Problem("include", f"files include each other in a circle: {names}", entry.where))
                continue
            if real in self._done:
                continue
            self._done.add(real)
            try:
                text = _text_of(path, f"included file {path}")
                self.read(text, str(path), path.parent, (*chain, (real, str(path))))
            except SpecError as error:
                self._lose_file()
                self.problems += error.problems
            except UsageError as error:
                self._lose_file()
                self.problems.append(Problem("include", error.message, entry.where))

    def _take_params(self, node: Node, where: str) -> None:
        if node.unread:
            self.has_all_params = False
            return
        if node.value is None:
            return
        if not isinstance(node.value, dict):
            self.has_all_params = False
            self.problems.append(
                Problem("type", f"params: expected a mapping from names to defaults, got {_kind(node)}", where)
            )
            return
        for name, default in node.value.items():
            if not isinstance(name, str):
                self.problems.append(Problem("type", f"params: expected a text as name, got {name!r}", node.at(name)))
                continue
            self.params[name] = default


def _given(files: _Files, overrides: Mapping[str, str]) -> dict[str, Any]:
    """Parameters with their values: defaults, then what the caller gives."""
    resolve = Substitution(None, files._env)
    nodes = {name: resolve.apply(node) for name, node in files.params.items()}
    files.problems += resolve.problems
    values = {name: plain_value(node) for name, node in nodes.items()}
    files.unread_params = {name for name, node in nodes.items() if is_unread(node)}
    for name, text in overrides.items():
        if name not in values and not files.has_all_params:
            continue  # it may stand in what could not be read
        if name not in values:
            hint = did_you_mean(name, values, "this pipeline has no parameters" if not values else None)
            files.problems.append(Problem("unknown-param", f"unknown parameter {name!r}", f"params.{name}", hint))
            continue
        default = values[name]
        value: Any = text if isinstance(default, str) else parse_scalar(text)
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if default is not None and type(value) is not type(default):
            message = f"expected {_WORDS[type(default)]} such as {default!r}, got {text!r}"
            files.problems.append(Problem("type", message, f"params.{name}"))
            continue
        values[name] = value
        files.unread_params.discard(name)
    return values


_WORDS: Mapping[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}


def _kind(node: Node) -> str:
    return _WORDS[type(node.value)] if isinstance(node.value, dict | list) else repr(node.value)
