"""Conditions made of ports, without string surgery: ``people.boxes.count(label="person") >= 2``.

They render to the grammar of `llamapipe.spec.when`. Combine them with ``&``, ``|`` and ``~``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum

from llamapipe.errors import UsageError

__all__ = ["Condition", "Measure", "filter_text"]

_COMBINE = "combine conditions with &, | and ~ and parentheses, not with and, or, not or a < b < c"


class _Binding(IntEnum):
    OR = 0
    AND = 1
    NOT = 2
    ATOM = 3


class Condition:
    """What a stage waits for. ``text`` is how YAML writes it."""

    __slots__ = ("_binding", "builder", "text")

    def __init__(self, text: str, builder: object, binding: int = _Binding.ATOM) -> None:
        self.text = text
        self.builder = builder
        self._binding = binding

    def __and__(self, other: Condition) -> Condition:
        return self._joined("and", other, _Binding.AND)

    def __or__(self, other: Condition) -> Condition:
        return self._joined("or", other, _Binding.OR)

    def __invert__(self) -> Condition:
        return Condition(f"not {self._inside(_Binding.NOT)}", self.builder, _Binding.NOT)

    def __bool__(self) -> bool:
        raise UsageError(f"condition {self.text!r} is decided per frame, not in Python", hint=_COMBINE)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Condition({self.text!r})"

    def _joined(self, word: str, other: Condition, binding: _Binding) -> Condition:
        if not isinstance(other, Condition):
            raise UsageError(f"expected a condition behind {word}, got {other!r}", hint=_COMBINE)
        if other.builder is not self.builder:
            raise UsageError(f"conditions of two pipelines cannot be joined: {self.text!r} and {other.text!r}")
        return Condition(f"{self._inside(binding)} {word} {other._inside(binding)}", self.builder, binding)

    def _inside(self, binding: _Binding) -> str:
        return f"({self.text})" if self._binding < binding else self.text


class Measure:
    """A figure per frame; compare it with a number to get a `Condition`."""

    __slots__ = ("_builder", "_text")

    def __init__(self, text: str, builder: object) -> None:
        self._text = text
        self._builder = builder

    def __ge__(self, limit: float) -> Condition:
        return self._compared(">=", limit)

    def __gt__(self, limit: float) -> Condition:
        return self._compared(">", limit)

    def __le__(self, limit: float) -> Condition:
        return self._compared("<=", limit)

    def __lt__(self, limit: float) -> Condition:
        return self._compared("<", limit)

    def __eq__(self, limit: object) -> Condition:  # type: ignore[override]  # a comparison is what it is for
        return self._compared("==", limit)

    def __ne__(self, limit: object) -> Condition:  # type: ignore[override]  # as above
        return self._compared("!=", limit)

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        raise UsageError(f"{self._text} is known per frame, not in Python", hint=f"compare it: {self._text} >= 1")

    def __repr__(self) -> str:
        return f"Measure({self._text!r})"

    def _compared(self, comparison: str, limit: object) -> Condition:
        return Condition(f"{self._text} {comparison} {_number(limit, self._text)}", self._builder)


def filter_text(
    texts: Sequence[tuple[str, str | Sequence[str] | None]], numbers: Sequence[tuple[str, str, float | None]]
) -> str:
    """``label == "person" and score >= 0.5`` of ``[("label", "person")], [("score", ">=", 0.5)]``; None is left out."""
    parts: list[str] = []
    for field, wanted in texts:
        if wanted is None:
            continue
        if isinstance(wanted, str):
            parts.append(f"{field} == {_quoted(wanted)}")
        elif wanted:
            parts.append(f"{field} in [{', '.join(_quoted(text) for text in wanted)}]")
        else:
            raise UsageError(f"expected at least one {field} to ask for, got an empty list")
    parts += [f"{field} {how} {_number(limit, field)}" for field, how, limit in numbers if limit is not None]
    return " and ".join(parts)


def _quoted(text: str) -> str:
    for quote in ('"', "'"):
        if quote not in text:
            return f"{quote}{text}{quote}"
    raise UsageError(f"a condition cannot ask for {text!r}: it holds both kinds of quotes")


def _number(value: object, what: str) -> str:
    if hasattr(value, "item"):  # of numpy
        value = value.item()
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise UsageError(f"{what}: expected a number to compare with, got {value!r}")
    text = repr(value)
    return f"{value:.20f}".rstrip("0") if "e" in text else text
