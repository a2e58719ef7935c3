"""The page of a tuning: what was tried, how the best got cheaper, and what was chosen."""

from __future__ import annotations

from pathlib import Path

from llamapipe.report.html import environment
from llamapipe.report.search_charts import course, front
from llamapipe.report.tuned import rows_of, shown
from llamapipe.report.written import PAGE, check_replaceable, write_whole
from llamapipe.tune import Tuning

__all__ = ["write_tuning_html"]


def write_tuning_html(path: Path, tuning: Tuning) -> None:
    """One page; nothing is loaded from elsewhere. Raises OutputError."""
    rows = rows_of(tuning)
    text = (
        environment()
        .get_template("tuning.html")
        .render(
            tuning=tuning,
            course=course(rows),
            front=front(rows, tuning.floor),
            chosen=[(key, shown(value)) for key, value in tuning.values.items()],
            rows=rows,
        )
    )
    check_replaceable(path, PAGE, "page")
    write_whole(path, text.encode())
