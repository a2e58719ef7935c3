"""What a floor of agreement says of average precision: on a clip with labels, every configuration has both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scipy.stats import spearmanr

from benchmarks.autotune.cases import Case
from benchmarks.autotune.drawing import Line, Panel, panels
from benchmarks.autotune.tables import head
from benchmarks.store import Row, Store

FLOORS = (0.95, 0.9, 0.85, 0.8)
KEPT = 0.93  # of the best configuration's AP that is to be had at the first of these


def _rows(case: Case, store: Store) -> list[Row]:
    return [row for row in store.rows("held", case.name, **case.asked) if row["ap50"] is not None]


def report(cases: Sequence[Case], store: Store) -> Iterator[str]:
    """Markdown."""
    for case in cases:
        rows = _rows(case, store)
        if len(rows) < 3:
            continue
        reference = max(rows, key=lambda row: row["accuracy"][0])
        best = max(row["ap50"][0] for row in rows)
        rank = spearmanr([row["accuracy"][0] for row in rows], [row["ap50"][0] for row in rows]).statistic
        yield (
            f"**{case.name}**, {len(rows)} configurations: AP@0.5 of the reference {reference['ap50'][0]:.3f}, of the "
            f"best {best:.3f}; rank correlation of agreement and AP {rank:.2f}"
        )
        yield ""
        yield from head(
            ">floor of agreement (lower end)",
            ">configurations above",
            ">least AP@0.5 of them",
            ">of the reference's",
            ">of the best",
        )
        for floor in FLOORS:
            above = [row["ap50"][0] for row in rows if row["accuracy"][1] >= floor]
            if above:
                least = min(above)
                of_reference = least / reference["ap50"][0]
                yield f"| {floor:g} | {len(above)} | {least:.3f} | {of_reference:.3f} | {least / best:.3f} |"
        yield ""


def plot(cases: Sequence[Case], store: Store) -> str:
    """AP over agreement, a dot a configuration, a colour a model."""
    drawn = []
    for case in cases:
        rows = _rows(case, store)
        stage = case.labels_stage
        models = list(dict.fromkeys(str(row["values"].get(f"{stage}.model", "")) for row in rows))
        lines = []
        for model in models:
            mine = [row for row in rows if row["values"].get(f"{stage}.model", "") == model]
            lines.append(Line(model, [r["accuracy"][0] for r in mine], [r["ap50"][0] for r in mine], dots=True))
        if lines:
            least = min(x for line in lines for x in line.x), min(y for line in lines for y in line.y)
            drawn.append(Panel(case.name, lines, "agreement with the reference", "AP@0.5", least=least))
    return panels(drawn) if drawn else ""
