"""Where the command line writes: data on stdout, everything else on stderr.

Rich is imported when something is drawn on a terminal, not before: it costs a tenth of a second.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llamapipe.redaction import redacted_text

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Terminal"]


class Terminal:
    """One command's output.

    ``verbosity`` counts -v; ``quiet`` is -q: errors and asked-for data only.
    """

    def __init__(self) -> None:
        self.verbosity = 0
        self.quiet = False

    def data(self, text: str) -> None:
        """Print what was asked for, on stdout, as it is."""
        sys.stdout.write(text if text.endswith("\n") else text + "\n")

    def json(self, value: Any) -> None:
        """Print ``value`` (plain data, msgspec structs, paths) as JSON on stdout."""
        import msgspec

        encoded = msgspec.json.encode(value, enc_hook=str)
        self.data(msgspec.json.format(encoded, indent=2).decode())

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
        """Print a table on stdout: drawn on a terminal, aligned text that is never cut elsewhere."""
        cells = [[redacted_text(str(cell)) for cell in row] for row in rows]
        if sys.stdout.isatty():
            self._out.print(_drawn(columns, cells, title))
            return
        widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
        for row in [list(columns), *cells]:
            self.data("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def note(self, text: str) -> None:
        """Say something on stderr, unless -q."""
        if not self.quiet:
            self._say(text)

    def detail(self, text: str) -> None:
        """Say something on stderr under -v."""
        if self.verbosity:
            self._say(text)

    def error(self, message: str, hint: str | None = None) -> None:
        """``error: ...`` and ``hint: ...`` on stderr, one line each."""
        self._labelled("error", "bold red", message)
        if hint:
            self._labelled("hint", "cyan", hint)

    def warning(self, message: str, hint: str | None = None) -> None:
        """``warning: ...`` on stderr, unless -q."""
        if self.quiet:
            return
        self._labelled("warning", "yellow", message)
        if hint:
            self._labelled("hint", "cyan", hint)

    @property
    def drawn(self) -> bool:
        """Whether stderr is a terminal that can be drawn on."""
        return sys.stderr.isatty() and self.stderr.is_terminal and not self.stderr.is_dumb_terminal

    @property
    def stderr(self) -> Console:
        """A console on stderr, for what is drawn."""
        from rich.console import Console

        return Console(stderr=True, highlight=False)

    @property
    def _out(self) -> Console:
        from rich.console import Console

        return Console(highlight=False)

    def _say(self, text: str) -> None:
        try:
            sys.stderr.write(redacted_text(text) + "\n")
            sys.stderr.flush()
        except OSError:
            # Nobody listens any more (`2>&1 | head`, a terminal that was closed): no reason to end a run.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def _labelled(self, label: str, style: str, message: str) -> None:
        line = " ".join(redacted_text(message).split())
        if sys.stderr.isatty():
            from rich.text import Text

            self.stderr.print(Text.assemble((f"{label}:", style), " ", line), soft_wrap=True)
        else:
            self._say(f"{label}: {line}")


def _drawn(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, style="bold cyan" if index == 0 else "", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
