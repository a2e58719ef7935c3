"""The tables of `targets`: who met an objective at what cost, and that against the static configuration and the first.

Whoever missed the objective in most rounds is no measure of cost: it did less than was asked for.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.autotune.cases import Case
from benchmarks.autotune.oracle import COSTS
from benchmarks.autotune.runs import MOST_FOREIGN
from benchmarks.autotune.tables import head
from benchmarks.autotune.targets import (
    FLOOR,
    PROOFS,
    SEARCHING,
    Target,
    key_of,
    plans_of,
    static_options,
    targets_of,
)
from benchmarks.store import Row, Store

AGAINST_STATIC = 1.1  # most of its cost
AGAINST_FIRST = 0.5


def report(cases: Sequence[Case], store: Store, results: Store, cost: str, quantile: int = 95) -> Iterator[str]:
    """Markdown: medians over rounds, what is to be held by each cost, and what `plan` says."""
    targets = [(case, target) for case in cases for target in targets_of(case, store, cost, quantile)]
    yield from head(
        *("case", "target", "who", ">met in", ">in time", *(f">{heading}" for heading in COSTS.values())),
        *(">CPU core-s outside the run", ">agreement"),
    )
    for case, target in targets:
        for who, static in target.who(cost).items():
            for kind in rounds_there(rows_for(case, target, who, static, results)):
                rows = rows_for(case, target, who, static, results, kind)
                yield f"| {case.name} | {target.slo}, {target.name} | {named(who, kind)} {_figures(rows)}"
    yield ""
    most = f">cost over the static one's (at most {AGAINST_STATIC})", f">over the first one's (at most {AGAINST_FIRST})"
    yield from head(
        *("case", "target", "right by", "by", ">spread", "counts", "who", "met", *most, "in time as the first", "floor")
    )
    for case, target in targets:
        for by in COSTS:
            for who in SEARCHING:
                for kind in rounds_there(rows_for(case, target, who, None, results)):
                    yield _judged(case, target, by, who, kind, results, cost)
    yield ""
    yield from head("case", "objective", "`plan` says")
    for case, target in targets:
        for name, slo in plans_of(target):
            row = results.get(("plan", case.name, target.kind, slo), **case.asked)
            if row is not None:
                yield f"| {case.name} | {row['slo']} ({target.name}, {name}) | {row['said']} |"


def rows_for(
    case: Case, target: Target, who: str, static: Row | None, results: Store, kind: str | None = None
) -> list[Row]:
    """Rows of all rounds, or of cold or warm ones."""
    asked = {**case.asked, **({} if static is None else {"options": static_options(static)})}
    key = key_of(case, target, who)
    return results.rows(*key, **asked) if kind is None else results.rows(*key, kind, **asked)


def rounds_there(rows: Sequence[Row]) -> list[str]:
    """Kinds of rounds that there are rows of."""
    return [kind for kind in ("cold", "warm", "-") if any(row["key"][5] == kind for row in rows)]


def named(who: str, kind: str) -> str:
    """With what it knew."""
    return who if kind == "-" else f"{who}, {kind}"


def _figures(rows: Sequence[Row]) -> str:
    known = _known(rows)
    if not known:
        return f"| refused: {rows[0]['refused']} | | | | | |"
    costs = " | ".join(f"{median(known, cost):.2f}" for cost in COSTS)
    return (
        f"| {_met_in(rows)} | {median(known, 'attainment'):.1%} | {costs} "
        f"| {median(known, 'outside_cpu'):.2f} | {_told(_agreement(known))} |"
    )


def _judged(case: Case, target: Target, by: str, who: str, kind: str, results: Store, cost: str) -> str:
    """One line: what is asked of tuning, by one of the costs."""
    rows = rows_for(case, target, who, None, results, kind)
    spread = f"{target.spread[by]:.2f} x | {'yes' if target.counts(by) else 'no'}"
    start = (
        f"| {case.name} | {target.slo}, {target.name} | {PROOFS[target.proof]} | {COSTS[by]} | {spread} "
        f"| {named(who, kind)} "
    )
    known = _known(rows)
    if not known:
        return f"{start}| refused | | | | |"
    asked = target.who(cost)
    other = f"static, {by}" if f"static, {by}" in asked else "static"
    static = rows_for(case, target, other, asked[other], results)
    first = rows_for(case, target, "first", None, results)
    typed = _known(first)
    no_later = median(known, "attainment") >= median(typed, "attainment") if typed else None
    agreement = _agreement(known)
    floor = None if agreement is None else agreement >= FLOOR
    return (
        f"{start}| {_met_in(rows)} | {against(known, static, by, AGAINST_STATIC)} "
        f"| {against(known, first, by, AGAINST_FIRST)} | {_yes(no_later)} | {_yes(floor)} |"
    )


def against(rows: Sequence[Row], others: Sequence[Row], by: str, most: float) -> str:
    """Cost over that of others in the rounds in which they met the objective."""
    if not others:
        return "-"
    meeting = [row for row in others if row.get("met")]
    if 2 * len(meeting) <= len(others):
        return f"(it met {len(meeting)} of {len(others)})"
    share = median(rows, by) / median(meeting, by)
    return f"{share:.2f} x" + ("" if share <= most else " (missed)")


def met(rows: Sequence[Row]) -> int:
    """Rounds that met the objective; one that was refused did not."""
    return sum(bool(row.get("met")) for row in rows)


def _met_in(rows: Sequence[Row]) -> str:
    disturbed = sum(row.get("foreign", 0.0) > MOST_FOREIGN for row in rows)
    return f"{met(rows)} of {len(rows)}" + (f" ({disturbed} disturbed)" if disturbed else "")


def median(rows: Sequence[Row], name: str) -> float:
    """Over rounds."""
    return statistics.median(float(row[name] or 0.0) for row in rows)


def _known(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if "refused" not in row]


def _agreement(rows: Sequence[Row]) -> float | None:
    """The least."""
    return min((row["agreement"] for row in rows if row["agreement"] is not None), default=None)


def _told(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _yes(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "no"
