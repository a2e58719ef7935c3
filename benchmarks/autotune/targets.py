"""Objectives that the oracle can meet, and who meets them at what cost.

Of every case and kind (a stream with a p95 latency, a job with a deadline) the targets are the fastest configuration
that is right enough, the cheapest, and three midpoints between; each is given a margin, because the least of many noisy
figures is too good. A target counts where the configurations that meet it cost at least 1.3 times as much as each
other. Who is asked:

    llamapipe   `run` with the objective, and the floor in the pipeline
    tuned       `run --tune` with the objective and the floor, tuning included
    static      the cheapest configuration of the sweep that meets the target
    first       what a user types first: the model's published input size, fp32, batch 1, the library's own threads
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.autotune.cases import Case, Choices, choices_of
from benchmarks.autotune.oracle import KINDS, measured, right, rows_of
from benchmarks.autotune.runs import options_of, pipeline_with, sets_of
from benchmarks.autotune.store import Budget, Row, Store
from benchmarks.autotune.tables import head

FLOOR = 0.9
MARGIN = 0.15
SPREAD = 1.3
MIDPOINTS = (0.25, 0.5, 0.75)
ROUNDS = 3
OUT_OF_REACH = 0.2  # of the fastest: what `plan` is to call infeasible
WHO = ("llamapipe", "tuned", "static", "first")


@dataclass(frozen=True)
class Target:
    """An objective, and the cheapest configuration of the sweep that meets it."""

    kind: str
    name: str
    limit: float  # of the kind's time
    static: Row
    spread: float  # the dearest of those that meet it over the cheapest

    @property
    def slo(self) -> str:
        """As `llamapipe run` takes it."""
        return f"p95={self.limit:.1f}ms" if self.kind == "stream" else f"deadline={self.limit:.2f}s"

    @property
    def counts(self) -> bool:
        """Whether there is anything to choose."""
        return self.spread >= SPREAD


def targets_of(case: Case, store: Store, cost: str) -> list[Target]:
    """By the sweep; none before it has any row that is right enough."""
    found: list[Target] = []
    for kind, (time, _) in KINDS.items():
        rows = [row for row in rows_of(case, store) if right(row, kind, FLOOR)]
        if not rows:
            continue
        fastest = min(row[kind][time] for row in rows)
        cheapest = min(rows, key=lambda row: (row[kind][cost], row[kind][time]))[kind][time]
        limits = {"fastest": fastest, "cheapest": cheapest}
        if cheapest > 1.05 * fastest:
            limits |= {f"{share:.0%} between": fastest + share * (cheapest - fastest) for share in MIDPOINTS}
        for name, limit in limits.items():
            meeting = [row for row in rows if row[kind][time] <= limit]
            costs = [row[kind][cost] for row in meeting]
            static = min(meeting, key=lambda row: (row[kind][cost], row[kind][time]))
            found.append(Target(kind, name, (1 + MARGIN) * limit, static, max(costs) / min(costs)))
    return found


def run(cases: Sequence[Case], store: Store, results: Store, folder: Path, cost: str, budget: Budget) -> None:
    """All that is not there yet. A target is kept with its first result: a longer sweep moves none. Raises TimeUp."""
    for case in cases:
        targets = targets_of(case, store, cost)
        if not targets:
            print(f"{case.name}: nothing is swept yet; call `oracle`", flush=True)
            continue
        choices = choices_of(case)
        for target in targets:
            _plan(case, target, results, folder, budget)
            for number in range(ROUNDS):
                for who in WHO:
                    key = ("target", case.name, target.kind, target.name, who, str(number))
                    if key not in results:
                        budget.check()
                        results.add(key, {"slo": target.slo, "who": who, **_asked(who, choices, target, folder)})
        print(f"{case.name}: done", flush=True)


def _asked(who: str, choices: Choices, target: Target, folder: Path) -> Row:
    objective = ["--slo", target.slo]
    if who == "llamapipe":
        return measured(choices, folder, target.kind, *objective, floor=FLOOR)
    if who == "tuned":
        return measured(choices, folder, target.kind, *objective, "--tune", floor=FLOOR)
    if who == "static":
        options = [*sets_of(target.static["values"]), "--workers", str(target.static["workers"])]
        return measured(choices, folder, target.kind, *objective, *options)
    cores = str(len(os.sched_getaffinity(0)))
    typed: list[str] = []
    for stage in choices.tunable.stages:
        typed += ["--set", f"{stage.stage}.precision=fp32", "--set", f"{stage.stage}.batch=1"]
        typed += ["--set", f"{stage.stage}.threads={cores}"]
    before = os.environ.get("LLAMAPIPE_PROFILES")
    os.environ["LLAMAPIPE_PROFILES"] = "off"
    try:
        return measured(choices, folder, target.kind, *objective, *typed)
    finally:
        del os.environ["LLAMAPIPE_PROFILES"]
        if before is not None:
            os.environ["LLAMAPIPE_PROFILES"] = before


def _plan(case: Case, target: Target, results: Store, folder: Path, budget: Budget) -> None:
    """What `plan` says of the target, and of one out of reach."""
    for name, limit in (("as it is", target.limit), ("out of reach", OUT_OF_REACH * target.limit)):
        key = ("plan", case.name, target.kind, target.name, name)
        if key in results or (name == "out of reach" and target.name != "fastest"):
            continue
        budget.check()
        slo = f"p95={limit:.2f}ms" if target.kind == "stream" else f"deadline={limit:.3f}s"
        pipeline = pipeline_with(case, folder / "pipelines", floor=FLOOR)
        paced = ["--realtime"] if target.kind == "stream" else []
        command = [sys.executable, "-m", "llamapipe", "plan", pipeline, *options_of(case)[:2], "--slo", slo, *paced]
        done = subprocess.run([*command, "--json"], capture_output=True, text=True)
        said = "infeasible" if done.returncode == 3 else "refused" if done.returncode else "not refused"
        results.add(key, {"slo": slo, "said": said})


def report(cases: Sequence[Case], store: Store, results: Store, cost: str) -> Iterator[str]:
    """Markdown: medians over rounds."""
    yield from head(
        "case", "target", "counts", "who", ">met in", ">in time", f">{cost} core-s", ">against static", ">agreement"
    )
    for case in cases:
        for target in targets_of(case, store, cost):
            for who in WHO:
                rows = results.rows("target", case.name, target.kind, target.name, who)
                if rows:
                    yield _line(case, target, who, rows, results, cost)
    yield ""
    yield from head("case", "objective", "`plan` says")
    for row in results.rows("plan"):
        if row["key"][1] in {case.name for case in cases}:
            yield f"| {row['key'][1]} | {row['slo']} ({row['key'][3]}, {row['key'][4]}) | {row['said']} |"


def _line(case: Case, target: Target, who: str, rows: Sequence[Row], results: Store, cost: str) -> str:
    head = f"| {case.name} | {rows[0]['slo']}, {target.name} | {'yes' if target.counts else 'no'} | {who} "
    known = [row for row in rows if "refused" not in row]
    if not known:
        return f"{head}| refused: {rows[0]['refused']} | | | | |"
    static = [
        row for row in results.rows("target", case.name, target.kind, target.name, "static") if "refused" not in row
    ]
    against = _median(known, cost) / _median(static, cost) if static else float("nan")
    agreement = [row["agreement"] for row in known if row["agreement"] is not None]
    told = f"{min(agreement):.3f}" if agreement else "-"
    return (
        f"{head}| {sum(bool(row['met']) for row in known)} of {len(rows)} | {_median(known, 'attainment'):.1%} "
        f"| {_median(known, cost):.2f} | {against:.2f} x | {told} |"
    )


def _median(rows: Sequence[Row], name: str) -> float:
    values = sorted(float(row[name] or 0.0) for row in rows)
    return values[len(values) // 2]
