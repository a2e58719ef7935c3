"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterator


def head(*columns: str) -> Iterator[str]:
    """The first two lines; a column that begins with ``>`` is of numbers."""
    yield "| " + " | ".join(column.removeprefix(">") for column in columns) + " |"
    yield "|" + "|".join("--:" if column.startswith(">") else "---" for column in columns) + "|"
