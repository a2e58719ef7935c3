"""What was measured, kept as it comes: an interrupted step goes on where it was."""

from __future__ import annotations

import json
import time
from math import inf
from pathlib import Path
from typing import Any

import msgspec

Row = dict[str, Any]
Key = tuple[str, ...]


class Store:
    """Rows in a file of JSON lines, each with a key of its own. The last one of a key counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[Key, Row] = {}
        if path.is_file():
            for line in path.read_text().splitlines():
                row = json.loads(line)
                self._rows[tuple(row["key"])] = row

    def __contains__(self, key: Key) -> bool:
        return key in self._rows

    def get(self, key: Key) -> Row | None:
        """The row of a key."""
        return self._rows.get(key)

    def add(self, key: Key, row: Row) -> Row:
        """Keep one more."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        whole = {"key": list(key), **row}
        with self._path.open("ab") as out:
            out.write(msgspec.json.encode(whole) + b"\n")
        self._rows[key] = json.loads(msgspec.json.encode(whole))
        return self._rows[key]

    def rows(self, *beginning: str) -> list[Row]:
        """All whose key begins so."""
        return [row for key, row in self._rows.items() if key[: len(beginning)] == beginning]


class TimeUp(Exception):
    """The budget of this call is spent; what is there is kept."""


class Budget:
    """Seconds of this call."""

    def __init__(self, for_s: float = inf) -> None:
        self._until_s = time.monotonic() + for_s

    def check(self) -> None:
        """Raises TimeUp."""
        if time.monotonic() >= self._until_s:
            raise TimeUp
