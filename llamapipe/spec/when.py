"""Conditions of stages: ``when: count($ops.people.boxes, label == "person" and score >= 0.5) >= 2``.

    condition  = both { "or" both }
    both       = single { "and" single }
    single     = "not" single | "(" condition ")" | question
    question   = ("count" | "max_score" | "any") "(" selector [ "," filter ] ")" [ comparison number ]
    filter     = the same with and, or, not, parentheses over:  label == "text"   label in ["a", "b"]   score >= 0.5

``count`` is how many boxes or events pass the filter, ``max_score`` the best score among them (0 without any), and
``any`` says whether there is one. Parsed by hand, never evaluated as code.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llamapipe.data import Boxes, Events
from llamapipe.errors import Problem, SpecError

__all__ = ["Atom", "When", "parse_when"]

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<selector>\$[A-Za-z_][\w.-]*)
    | (?P<number>-?\d+(?:\.\d+)?)
    | (?P<text>"[^"]*"|'[^']*')
    | (?P<symbol>>=|<=|==|!=|>|<|\(|\)|\[|\]|,)
    | (?P<word>[A-Za-z_]\w*)
    )""",
    re.VERBOSE,
)
_SELECTOR = re.compile(r"^\$ops\.([A-Za-z][\w-]*)\.([A-Za-z]\w*)$")
_TEXT_FIELDS = ("label", "kind", "name")
_NUMBER_FIELDS = ("score", "value", "track_id")

_Mask = Callable[[Any], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Atom:
    """One question to one port. A worker measures it per item; control combines and compares."""

    key: str  # the question as text, in one spelling: equal questions have equal keys
    selector: str
    stage: str
    port: str
    function: Literal["count", "max_score", "any"]
    comparison: str
    limit: float
    labels: frozenset[str] = frozenset()  # label texts that the filter names
    mask: _Mask | None = field(default=None, compare=False, repr=False)

    @property
    def combine(self) -> Literal["sum", "max"]:
        """How the figures of a frame's items become the frame's."""
        return "sum" if self.function == "count" else "max"

    def measure(self, value: Any) -> float:
        """The figure for one item: Boxes, Events, or the pictures of a fan-out."""
        if not isinstance(value, Boxes | Events):
            n = len(value) if isinstance(value, list | tuple) else int(value is not None)
            return float(n if self.function == "count" else min(n, 1))
        keep = np.ones(len(value), bool) if self.mask is None else self.mask(value)
        if self.function == "count":
            return float(np.count_nonzero(keep))
        if self.function == "any":
            return float(keep.any())
        scores = value.score if isinstance(value, Boxes) else np.array([event.value for event in value.items])
        return float(scores[keep].max()) if keep.any() else 0.0

    def test(self, figure: float) -> bool:
        """Whether the frame's figure passes the comparison."""
        return bool(_COMPARE[self.comparison](figure, self.limit))


@dataclass(frozen=True, slots=True)
class When:
    """A parsed condition."""

    text: str
    atoms: tuple[Atom, ...]
    _decide: Callable[[Mapping[str, bool]], bool] = field(compare=False, repr=False)

    def decide(self, answers: Mapping[str, bool]) -> bool:
        """Whether the stage runs, given an answer per `Atom.key`."""
        return bool(self._decide(answers))


@lru_cache(maxsize=512)
def parse_when(text: str) -> When:
    """Parse a condition. Raises SpecError that names the column, what was expected and what came."""
    return _Parser(text).parse()


_DEEPEST = 100  # levels of parentheses


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []  # kind, text, column from 1
        self._at = 0
        self._depth = 0
        self._atoms: dict[str, Atom] = {}
        self._labels: set[str] = set()
        end = 0
        while end < len(text.rstrip()):
            match = _TOKEN.match(text, end)
            if match is None:
                column = end + len(text[end:]) - len(text[end:].lstrip()) + 1
                raise self._error(column, "a condition", repr(text[column - 1]))
            kind = match.lastgroup or ""
            self._tokens.append((kind, match.group(kind), match.start(kind) + 1))
            end = match.end()
        self._tokens.append(("end", "", len(text) + 1))

    def parse(self) -> When:
        decide = self._either(self._question)
        if self._kind != "end":
            raise self._unexpected("and, or, or the end")
        return When(self._text, tuple(self._atoms.values()), decide)

    # and/or/not over leaves, for conditions and for filters alike

    def _either(self, leaf: Callable[[], Callable[[Any], Any]]) -> Callable[[Any], Any]:
        left = self._both(leaf)
        while self._take_word("or"):
            left = _combined(operator.or_, left, self._both(leaf))
        return left

    def _both(self, leaf: Callable[[], Callable[[Any], Any]]) -> Callable[[Any], Any]:
        left = self._single(leaf)
        while self._take_word("and"):
            left = _combined(operator.and_, left, self._single(leaf))
        return left

    def _single(self, leaf: Callable[[], Callable[[Any], Any]]) -> Callable[[Any], Any]:
        self._depth += 1  # libraries change Python's own limit, beyond which it may crash
        if self._depth > _DEEPEST:
            raise SpecError([Problem("when", "when: nested too deeply", hint="write it with fewer parentheses")])
        try:
            if self._take_word("not"):
                inner = self._single(leaf)
                return lambda given: np.logical_not(inner(given))
            if self._take("symbol", "("):
                inner = self._either(leaf)
                self._expect(")")
                return inner
            return leaf()
        finally:
            self._depth -= 1

    def _question(self) -> Callable[[Mapping[str, bool]], bool]:
        start = self._column
        function = self._word(("count", "any", "max_score"))
        self._expect("(")
        if self._kind != "selector":
            raise self._unexpected("a selector such as $ops.people.boxes")
        selector, column = self._next()
        match = _SELECTOR.match(selector)
        if match is None:
            raise self._error(column, "a selector such as $ops.people.boxes", selector)
        mask: _Mask | None = None
        self._labels = set()
        if self._take("symbol", ","):
            mask = self._either(self._filter)
        self._expect(")")
        end = self._tokens[self._at - 1][2]
        asked = " ".join(self._text[start - 1 : end].split())
        comparison, limit = ">=", 1.0
        if function != "any" or self._text_is_comparison:
            comparison, limit = self._comparison(), self._number()
        if function == "any" and not (comparison == ">=" and limit == 1.0):
            raise self._error(end, f"{asked} without a comparison", f"{comparison} {limit:g}")
        key = f"{asked} {comparison} {limit:g}"
        self._atoms[key] = Atom(
            key,
            selector,
            match[1],
            match[2],
            function,  # type: ignore[arg-type]  # _word gives one of the three
            comparison,
            limit,
            frozenset(self._labels),
            mask,
        )
        return lambda answers: answers[key]

    def _filter(self) -> _Mask:
        name = self._word((*_TEXT_FIELDS, *_NUMBER_FIELDS))
        if self._take_word("in"):
            if name not in _TEXT_FIELDS:
                raise self._unexpected(f"a comparison of {name}")
            self._expect("[")
            wanted = [self._string()]
            while self._take("symbol", ","):
                wanted.append(self._string())
            self._expect("]")
            self._note_labels(name, wanted)
            return lambda value: np.isin(_texts(value, name), wanted)
        comparison = self._comparison()
        compare = _COMPARE[comparison]
        if name in _TEXT_FIELDS:
            if comparison not in ("==", "!="):
                raise self._error(self._tokens[self._at - 1][2], f"== or != behind {name}", comparison)
            text = self._string()
            self._note_labels(name, [text])
            return lambda value: np.asarray(compare(_texts(value, name), text), bool)
        number = self._number()
        return lambda value: np.asarray(compare(_numbers(value, name), number), bool)

    def _note_labels(self, name: str, labels: list[str]) -> None:
        if name == "label":
            self._labels.update(labels)

    # tokens

    @property
    def _kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def _column(self) -> int:
        return self._tokens[self._at][2]

    @property
    def _text_is_comparison(self) -> bool:
        return self._tokens[self._at][1] in _COMPARE

    def _next(self) -> tuple[str, int]:
        _, text, column = self._tokens[self._at]
        self._at += 1
        return text, column

    def _take(self, kind: str, text: str) -> bool:
        if self._tokens[self._at][:2] == (kind, text):
            self._at += 1
            return True
        return False

    def _take_word(self, word: str) -> bool:
        return self._take("word", word)

    def _expect(self, symbol: str) -> None:
        if not self._take("symbol", symbol):
            raise self._unexpected(repr(symbol))

    def _word(self, choices: tuple[str, ...]) -> str:
        if self._kind != "word" or self._tokens[self._at][1] not in choices:
            raise self._unexpected(f"one of {', '.join(choices)}")
        return self._next()[0]

    def _comparison(self) -> str:
        if not self._text_is_comparison:
            raise self._unexpected(f"one of {' '.join(_COMPARE)}")
        return self._next()[0]

    def _number(self) -> float:
        if self._kind != "number":
            raise self._unexpected("a number")
        return float(self._next()[0])

    def _string(self) -> str:
        if self._kind != "text":
            raise self._unexpected('a text in quotes, such as "person"')
        return self._next()[0][1:-1]

    def _unexpected(self, expected: str) -> SpecError:
        _, text, column = self._tokens[self._at]
        return self._error(column, expected, repr(text) if text else "the end")

    def _error(self, column: int, expected: str, got: str) -> SpecError:
        message = f"when: column {column} of {self._text!r}: expected {expected}, got {got}"
        return SpecError(
            [Problem("when", message, hint='for example: count($ops.people.boxes, label == "person") >= 1')]
        )


def _combined(
    how: Callable[[Any, Any], Any], left: Callable[[Any], Any], right: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    return lambda given: how(left(given), right(given))


def _texts(value: Boxes | Events, name: str) -> NDArray[Any]:
    if isinstance(value, Boxes):
        if name != "label":
            return np.full(len(value), "", object)
        return np.array(value.names, object)[value.label] if len(value) else np.empty(0, object)
    return np.array([getattr(event, name) for event in value.items], object)


def _numbers(value: Boxes | Events, name: str) -> NDArray[Any]:
    if isinstance(value, Boxes):
        if name == "score":
            return value.score
        if name == "track_id" and value.track_id is not None:
            return value.track_id
        return np.full(len(value), -1)
    return np.array([getattr(event, "value" if name == "score" else name) for event in value.items], float)
