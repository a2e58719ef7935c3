"""What was measured, kept as it comes: an interrupted benchmark goes on where it was.

Every row says what was asked for, of which code it is, and of which machine. A row that answers another question, or is
of another machine, is left out; one of other code is taken, and the footer of a table says how many there are.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Any

import msgspec

import llamapipe
from llamapipe.inference.hardware import fingerprint

Row = dict[str, Any]
Key = tuple[str, ...]

_PACKAGES = ("llamapipe", "llamapipe_operators", "llamapipe_pipelines")
_SOURCES = (".py", ".yaml")


@cache
def revision() -> str:
    """``0.1.0+3fa91c02a7d1``: the version, and a digest of the sources, which change more often than that."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        spec = find_spec(package)
        for folder in [Path(name) for name in (spec.submodule_search_locations or ())] if spec is not None else []:
            for path in sorted(path for path in folder.rglob("*") if path.suffix in _SOURCES):
                digest.update(f"{package}/{path.relative_to(folder)}\0".encode())
                digest.update(path.read_bytes())
    return f"{llamapipe.__version__}+{digest.hexdigest()[:12]}"


class Store:
    """Rows in a file of JSON lines, each with a key of its own. The last one of a key and a question counts.

    ``asked`` is what all rows of this store are asked for; single ones may have more of it. Without a path nothing
    outlives the process.
    """

    def __init__(self, path: Path | None, **asked: Any) -> None:
        self._path = path
        self._asked: Row = _plain(asked)
        self._rows: dict[tuple[Key, str], Row] = {}
        self._unmarked = self._elsewhere = 0
        self._torn = False
        if path is not None and path.is_file():
            self._read(path.read_text())

    def _read(self, text: str) -> None:
        self._torn = bool(text) and not text.endswith("\n")  # whoever wrote it was killed in the middle of a line
        for line in text.splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the beginning of such a line
                continue
            if "asked" not in row or "key" not in row:
                self._unmarked += 1
            elif row["hardware"] != fingerprint():
                self._elsewhere += 1
            else:
                self._rows[tuple(row["key"]), _text(row["asked"])] = row

    def get(self, key: Key, **asked: Any) -> Row | None:
        """The row that answers this."""
        return self._rows.get((key, _text({**self._asked, **asked})))

    def has(self, key: Key, **asked: Any) -> bool:
        """Whether this is answered."""
        return self.get(key, **asked) is not None

    def add(self, key: Key, row: Mapping[str, Any], **asked: Any) -> Row:
        """Keep one more."""
        marks = {"asked": {**self._asked, **asked}, "code": revision(), "hardware": fingerprint()}
        line = msgspec.json.encode({"key": list(key), **marks, **row})
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as out:
                out.write(b"\n" * self._torn + line + b"\n")
            self._torn = False
        whole: Row = json.loads(line)
        self._rows[key, _text(whole["asked"])] = whole
        return whole

    def rows(self, *beginning: str, **asked: Any) -> list[Row]:
        """All whose key begins so, of questions with all that is asked."""
        wanted = {**self._asked, **_plain(asked)}
        return [
            row
            for (key, _), row in self._rows.items()
            if key[: len(beginning)] == beginning and _answers(row["asked"], wanted)
        ]

    def footer(self) -> Iterator[str]:
        """What is to be known of the rows of a table, a sentence each."""
        mine = self.rows()
        others = sum(row["code"] != revision() for row in mine)
        if others:
            yield f"{others} of {len(mine)} rows are of other code than {revision()}."
        left_out = (
            (len(self._rows) - len(mine), "answer another question"),
            (self._elsewhere, "are of another machine"),
            (self._unmarked, "do not say what was asked for"),
        )
        for count, why in left_out:
            if count:
                yield f"{count} rows {why} and are left out."


def _answers(asked: Row, wanted: Row) -> bool:
    return all(name in asked and asked[name] == value for name, value in wanted.items())


def _plain(asked: Mapping[str, Any]) -> Row:
    """As it is when it was written and read."""
    found: Row = json.loads(msgspec.json.encode(asked))
    return found


def _text(asked: Mapping[str, Any]) -> str:
    return msgspec.json.encode(_plain(asked), order="deterministic").decode()


class TimeUp(Exception):
    """The budget of this call is spent; what is there is kept."""


class Budget:
    """Seconds of this call."""

    def __init__(self, for_s: float = inf) -> None:
        self._until_s = time.monotonic() + for_s

    @property
    def is_spent(self) -> bool:
        """Whether nothing more is to be begun."""
        return time.monotonic() >= self._until_s

    def check(self) -> None:
        """Raises TimeUp."""
        if self.is_spent:
            raise TimeUp
