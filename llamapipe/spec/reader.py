"""From located YAML nodes to the spec: keys, types and ranges, noting where each part stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from llamapipe.errors import Problem, UsageError
from llamapipe.spec.model import FIRST_PORT, AccuracyFloor, OpSpec, PipelineSpec, SinkSpec, SloSpec
from llamapipe.spec.names import did_you_mean, nearest, short_type, unique_name
from llamapipe.spec.slo_text import parse_slo
from llamapipe.spec.yaml_tree import Node, is_unread, plain_value

__all__ = ["OP_KEYS", "SINK_KEYS", "TOP_KEYS", "Location", "Reader"]

Location = tuple[str | int, ...]
"""A part of a spec: ``("ops", 0, "inputs", "boxes")``."""

TOP_KEYS = ("version", "name", "description", "params", "include", "slo", "accuracy", "on_overload", "ops", "sinks")
OP_KEYS = ("name", "type", "inputs", "when")
SINK_KEYS = ("name", "type", "input", "inputs", "path")
_OVERLOAD = ("degrade", "drop", "late")

_Model = TypeVar("_Model", bound=BaseModel)


class Reader:
    """Reads one pipeline. Problems are appended to the list given, places to ``locations``.

    What cannot be read gets a stand-in, and its place goes into ``unread``: see `Loaded`.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.locations: dict[Location, str] = {}
        self.unread: set[Location] = set()
        self._problems = problems

    def pipeline(
        self, top: Mapping[str, Node], ops: Sequence[Node] | None, root: Node, *, all_ops: bool = True
    ) -> PipelineSpec:
        """The spec. ``ops`` None: the key is missing; ``all_ops`` false: some are known to be."""
        for key in root.value:
            self.locations[(key,)] = root.at(key)
        unknown = [str(key) for key in root.value if key not in TOP_KEYS]  # reported already, with what they may mean
        written = "name" if "name" in top else nearest("name", unknown) or "name"
        name = self._text(top.get(written), "name", root.at(written), "write: name: my-pipeline")
        if name is None:
            self.unread.add(("name",))
        description = self._optional_text(top.get("description"), "description", root.at("description"))
        slo = self._slo(top.get("slo"), root.at("slo"))
        accuracy = self._model(AccuracyFloor, top.get("accuracy"), "accuracy", root.at("accuracy"))
        overload = self._optional_text(top.get("on_overload"), "on_overload", root.at("on_overload"))
        if overload is not None and overload not in _OVERLOAD:
            self._say(
                "type",
                f"on_overload: expected one of {', '.join(_OVERLOAD)}, got {overload!r}",
                root.at("on_overload"),
                did_you_mean(overload, _OVERLOAD),
            )
            overload = None
        if ops is None and all_ops and nearest("ops", unknown) is None:
            self._say("missing-key", "expected ops, a list of stages, got none", root.where, "see: llamapipe init")
        if ops is None or not all_ops:
            self.unread.add(("ops",))
        read_ops: list[OpSpec] = []
        for i, node in enumerate(ops or ()):
            if self._is_mapping(node, f"ops[{i}]", "a stage with name, type and inputs"):
                read_ops.append(self._op(len(read_ops), i, node))
            else:
                self.unread.add(("ops",))
        sinks = self._sinks(top.get("sinks"), root.at("sinks"))
        return PipelineSpec(
            name="pipeline" if name is None else name,
            description=description or "",
            slo=slo,
            accuracy=accuracy,
            on_overload=overload,  # type: ignore[arg-type]  # checked above
            ops=tuple(read_ops),
            sinks=tuple(sinks),
        )

    def _op(self, index: int, number: int, node: Node) -> OpSpec:
        """Stage ``index`` of the spec; ``number`` is the one that it has in the files."""
        place = ("ops", index)
        node = self._respelt(node, ("name", "type"), f"ops[{number}]")
        self._note(place, node)
        name = self._text(node.value.get("name"), f"ops[{number}].name", node.at("name"), "give every stage a name")
        label = f"stage {name}" if name else f"ops[{number}]"
        type_ = self._text(
            node.value.get("type"), f"{label}: type", node.at("type"), "name an operator: llamapipe ops list"
        )
        self.unread |= {(*place, key) for key, value in (("name", name), ("type", type_)) if value is None}
        inputs: dict[str, tuple[str, ...]] = {}
        wired = node.value.get("inputs")
        if wired is not None and isinstance(wired.value, dict):
            for port, selectors in wired.value.items():
                at = (*place, "inputs", str(port))
                self.locations[at] = wired.at(port)
                inputs[str(port)] = self._selectors(selectors, f"{label}: inputs.{port}", wired.at(port), at)
        elif wired is not None and (wired.value is not None or wired.unread):
            at = (*place, "inputs", FIRST_PORT)
            inputs[FIRST_PORT] = self._selectors(wired, f"{label}: inputs", node.at("inputs"), at)
        when = self._optional_text(node.value.get("when"), f"{label}: when", node.at("when"))
        if when is None and (asked := node.value.get("when")) is not None and (asked.unread or asked.value is not None):
            self.unread.add((*place, "when"))
        params = self._params(node, OP_KEYS, label, place)
        name = f"ops[{number}]" if name is None else name
        return OpSpec(name=name, type=type_ or "", inputs=inputs, when=when, params=params)

    def _respelt(self, node: Node, keys: Iterable[str], label: str) -> Node:
        """The mapping with those of ``keys`` that it lacks, taken from what looks like them and is reported."""
        known = (*OP_KEYS, *SINK_KEYS)
        value, key_where = dict(node.value), dict(node.key_where)
        for key in keys:
            if key in value:
                continue
            likely = nearest(key, [name for name in value if isinstance(name, str) and name not in known])
            if likely is None or not isinstance(value[likely].value, str):
                continue
            self._say("unknown-key", f"{label}: unknown key {likely!r}", node.at(likely), f"did you mean {key}?")
            value[key], key_where[key] = value.pop(likely), key_where.pop(likely, node.where)
        return Node(value, node.where, node.plain, key_where)

    def _sinks(self, node: Node | None, where: str) -> list[SinkSpec]:
        if node is not None and node.unread:
            self.unread.add(("sinks",))
            return []
        if node is None or node.value is None:
            return []
        if not isinstance(node.value, list):
            self._say("type", f"sinks: expected a list, got {_shown(node)}", where)
            self.unread.add(("sinks",))
            return []
        parts: list[SinkSpec] = []
        for i, child in enumerate(node.value):
            if self._is_mapping(child, f"sinks[{i}]", "a sink with type and input"):
                parts.append(self._sink(len(parts), i, child))
            else:
                self.unread.add(("sinks",))
        named = [part.name for part in parts if part.name]
        sinks: list[SinkSpec] = []
        for part in parts:
            if not part.name:
                part = part.model_copy(update={"name": unique_name(short_type(part.type), named)})
                named.append(part.name)
            sinks.append(part)
        return sinks

    def _sink(self, index: int, number: int, node: Node) -> SinkSpec:
        """Sink ``index`` of the spec, number ``number`` in the file; its name is empty where it has none yet."""
        place = ("sinks", index)
        node = self._respelt(node, ("type", *(() if "inputs" in node.value else ("input",))), f"sinks[{number}]")
        self._note(place, node)
        name = self._optional_text(node.value.get("name"), f"sinks[{number}].name", node.at("name"))
        label = f"sink {name}" if name else f"sinks[{number}]"
        type_ = self._text(
            node.value.get("type"), f"{label}: type", node.at("type"), "for example: type: llamapipe/video@v1"
        )
        keys = [key for key in ("input", "inputs") if key in node.value]
        inputs: tuple[str, ...] = ()
        if len(keys) == 1:
            inputs = self._selectors(node.value[keys[0]], f"{label}: {keys[0]}", node.at(keys[0]), (*place, "inputs"))
            self.locations[(*place, "inputs")] = node.at(keys[0])
        else:
            self.unread.add((*place, "inputs"))
            got = "both" if keys else "neither"
            self._say("missing-key", f"{label}: expected input or inputs, got {got}", node.at("inputs"))
        path = self._optional_text(node.value.get("path"), f"{label}: path", node.at("path"))
        params = self._params(node, SINK_KEYS, label, place)
        if type_ is None:
            self.unread.add((*place, "type"))
            name = name or f"sinks[{number}]"
        if path is None and (given := node.value.get("path")) is not None and (given.unread or given.value is not None):
            self.unread.add((*place, "path"))
        return SinkSpec(name=name or "", type=type_ or "", inputs=inputs, path=path, params=params)

    def _slo(self, node: Node | None, where: str) -> SloSpec | None:
        if node is not None and isinstance(node.value, str):
            try:
                return parse_slo(node.value)
            except UsageError as error:
                self._say("slo", error.message, where, error.hint)
                return None
        return self._model(SloSpec, node, "slo", where)

    def _model(self, model: type[_Model], node: Node | None, what: str, where: str) -> _Model | None:
        if node is None or node.value is None:
            return None
        if not isinstance(node.value, dict):
            expected = ", ".join(model.model_fields)
            self._say("type", f"{what}: expected a mapping with {expected}, got {_shown(node)}", where)
            return None
        for key in node.value:
            self.locations[(what, str(key))] = node.at(key)
        unread = {key for key, child in node.value.items() if is_unread(child)}
        try:
            read = model.model_validate({key: value for key, value in plain_value(node).items() if key not in unread})
            return None if unread else read
        except ValidationError as error:
            for found in error.errors():
                key = str(found["loc"][0]) if found["loc"] else ""
                if key in unread:
                    continue
                self._say_invalid(what, key, found, list(model.model_fields), node.at(key) if key else where)
            return None

    def _say_invalid(self, what: str, key: str, found: Any, known: list[str], where: str) -> None:
        if found["type"] == "extra_forbidden":
            hint = did_you_mean(key, known, f"known: {', '.join(known)}")
            self._say("unknown-key", f"{what}: unknown key {key!r}", where, hint)
        elif found["type"] == "missing":
            self._say("missing-key", f"{what}: expected {key}, got none", where)
        else:
            told = str(found["msg"])
            expected = told[:1].lower() + told[1:].replace("Input should", "should")
            expected = expected.replace("input should be ", "expected a value ").replace("a value a ", "a ")
            self._say("type", f"{what}.{key}: {expected}, got {found['input']!r}", where)

    def _params(self, node: Node, reserved: Sequence[str], label: str, place: Location) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for key, child in node.value.items():
            if not isinstance(key, str):
                self._say("type", f"{label}: expected a text as key, got {key!r}", node.at(key))
            elif key not in reserved:
                params[key] = plain_value(child)
                if is_unread(child):
                    self.unread.add((*place, key))
        return params

    def _selectors(self, node: Node, what: str, where: str, place: Location) -> tuple[str, ...]:
        children = node.value if isinstance(node.value, list) else [node]
        found: list[str] = []
        for child in children:
            if isinstance(child.value, str):
                found.append(child.value)
                continue
            self.unread.add(place)
            if not child.unread:
                self._say("type", f"{what}: expected a selector such as $source.frames, got {_shown(child)}", where)
        return tuple(found)

    def _note(self, place: Location, node: Node) -> None:
        self.locations[place] = node.where
        for key in node.value:
            self.locations[(*place, str(key))] = node.at(key)

    def _is_mapping(self, node: Node, what: str, expected: str) -> bool:
        if isinstance(node.value, dict):
            return True
        if node.unread:
            return False
        self._say("type", f"{what}: expected {expected}, got {_shown(node)}", node.where)
        return False

    def _text(self, node: Node | None, what: str, where: str, hint: str | None = None) -> str | None:
        if node is None:
            self._say("missing-key", f"expected {what}, got none", where, hint)
            return None
        if node.unread:
            return None
        if not isinstance(node.value, str):
            self._say("type", f"{what}: expected a text, got {_shown(node)}", where, _quote_hint(node))
            return None
        return node.value

    def _optional_text(self, node: Node | None, what: str, where: str) -> str | None:
        return None if node is None or node.value is None else self._text(node, what, where)

    def _say(self, code: str, message: str, where: str, hint: str | None = None) -> None:
        self._problems.append(Problem(code, message, where, hint))


def _quote_hint(node: Node) -> str | None:
    return f'write "{node.value}" in quotes' if isinstance(node.value, int | float) else None


def _shown(node: Node) -> str:
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    return "nothing" if node.value is None else repr(node.value)
