"""Objectives that the oracle can meet, and who meets them at what cost.

Of every case and kind (a stream with a p95 latency, a job with a deadline) the targets are the fastest configuration
that is right enough, the cheapest by either cost where that is another one, and midpoints between; each is given a
margin, because the least of many noisy figures is too good. Costs are reserved (workers, decoders and encoders by the
time that they are there) and marginal (what invocations take). Of one camera nearly everything reserves the same whole
cores, so that a target that says nothing by the one may say something by the other: by each it counts where the dearest
configuration that meets it costs at least 1.3 times the cheapest, and is judged by each on its own. Who is asked:

    llamapipe   `run` with the objective, and the floor in the pipeline
    tuned       `run --tune` with the objective and the floor, tuning included; of jobs, which end before there was
                time for that, after `tune`
    static      the cheapest configuration of the sweep that meets the target; by each cost, where that is another one
    first       what a user types first: the model's published input size, fp32, batch 1, the library's own threads,
                on all cores, as whatever is run without an objective
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.autotune.cases import Case, Choices, choices_of
from benchmarks.autotune.oracle import KINDS, held_on, measured, right, rows_of
from benchmarks.autotune.runs import options_of, pipeline_with, sets_of
from benchmarks.autotune.store import Budget, Row, Store
from benchmarks.autotune.tables import head

FLOOR = 0.9
MARGIN = 0.15
SPREAD = 1.3
MIDPOINTS = (0.25, 0.5, 0.75)
ROUNDS = 3
OUT_OF_REACH = 0.2  # of the fastest: what `plan` is to call infeasible
COSTS = ("reserved", "marginal")
WHO = ("llamapipe", "tuned", "static", "first")
AGAINST_STATIC = 1.1  # most of its cost
AGAINST_FIRST = 0.5


@dataclass(frozen=True)
class Target:
    """An objective, and the cheapest configuration of the sweep that meets it."""

    kind: str
    name: str
    limit: float  # of the kind's time
    static: dict[str, Row]  # by each cost
    spread: dict[str, float]  # by each cost, the dearest of those that meet it over the cheapest

    @property
    def slo(self) -> str:
        """As `llamapipe run` takes it."""
        return f"p95={self.limit:.1f}ms" if self.kind == "stream" else f"deadline={self.limit:.2f}s"

    def counts(self, cost: str) -> bool:
        """Whether there is anything to choose."""
        return self.spread[cost] >= SPREAD

    def who(self, cost: str) -> dict[str, Row | None]:
        """All that are asked, with the configuration of static ones. ``cost`` is what targets go by."""
        found: dict[str, Row | None] = dict.fromkeys(WHO)
        found["static"] = self.static[cost]
        for other in COSTS:
            if _same(self.static[other]) != _same(self.static[cost]):
                found[f"static, {other}"] = self.static[other]
        return found


def _same(row: Row) -> tuple[object, ...]:
    return tuple(row["key"])


def targets_of(case: Case, store: Store, cost: str) -> list[Target]:
    """By the sweep, the cheapest by ``cost`` and then by the other; none before any row is right enough."""
    found: list[Target] = []
    for kind, (time, _) in KINDS.items():
        rows = [row for row in rows_of(case, store) if right(row, kind, FLOOR)]
        if not rows:
            continue
        fastest = min(row[kind][time] for row in rows)
        limits = {"fastest": fastest}
        for by in (cost, *(other for other in COSTS if other != cost)):
            suffix = "" if by == cost else f", {by}"
            cheapest = min(rows, key=lambda row: (row[kind][by], row[kind][time]))[kind][time]
            limits[f"cheapest{suffix}"] = cheapest
            if cheapest > 1.05 * fastest:
                shares = MIDPOINTS if by == cost else MIDPOINTS[1:2]
                limits |= {f"{share:.0%} between{suffix}": fastest + share * (cheapest - fastest) for share in shares}
        different = {limit: name for name, limit in reversed(limits.items())}  # of equal ones the first name
        found += [_target(rows, kind, name, limit) for name, limit in limits.items() if different[limit] == name]
    return found


def _target(rows: Sequence[Row], kind: str, name: str, limit: float) -> Target:
    """The static ones keep the margin to themselves; what is compared is all that meets the objective."""
    time = KINDS[kind][0]
    objective = (1 + MARGIN) * limit
    static = {
        by: min(
            (row for row in rows if row[kind][time] <= limit),
            key=lambda row: (row[kind][by], row[kind][time]),
        )
        for by in COSTS
    }
    spread: dict[str, float] = {}
    for by in COSTS:
        costs = [row[kind][by] for row in rows if row[kind][time] <= objective]
        spread[by] = max(costs) / min(costs)
    return Target(kind, name, objective, static, spread)


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
                for who, static in target.who(cost).items():
                    key = ("target", case.name, target.kind, target.name, who, str(number))
                    if key not in results:
                        budget.check()
                        results.add(
                            key, {"slo": target.slo, "who": who, **_asked(who, static, choices, target, folder)}
                        )
        print(f"{case.name}: done", flush=True)


def _asked(who: str, static: Row | None, choices: Choices, target: Target, folder: Path) -> Row:
    objective = ["--slo", target.slo]
    if who == "llamapipe":
        return measured(choices, folder, target.kind, *objective, floor=FLOOR)
    if who == "tuned":
        if target.kind == "job":
            _tune(choices.case, target, folder)
        return measured(choices, folder, target.kind, *objective, "--tune", floor=FLOOR)
    if static is not None:
        options = [*sets_of(static["values"]), *held_on(static["workers"])]
        return measured(choices, folder, target.kind, *objective, *options)
    cores = str(len(os.sched_getaffinity(0)))
    typed = ["--cores", "all"]
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


def _tune(case: Case, target: Target, folder: Path) -> None:
    """What is found is kept for like videos; that nothing fits shows in the run."""
    pipeline = pipeline_with(case, folder / "pipelines", floor=FLOOR)
    command = [sys.executable, "-m", "llamapipe", "tune", pipeline, *options_of(case), "--slo", target.slo]
    done = subprocess.run([*command, "--config", str(folder / "tuned.yaml"), "-q"], capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}: {done.stderr.strip()}")


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
        command = [sys.executable, "-m", "llamapipe", "plan", pipeline, *options_of(case), "--slo", slo, *paced]
        done = subprocess.run([*command, "--json"], capture_output=True, text=True)
        said = "infeasible" if done.returncode == 3 else "refused" if done.returncode else "not refused"
        results.add(key, {"slo": slo, "said": said})


def report(cases: Sequence[Case], store: Store, results: Store, cost: str) -> Iterator[str]:
    """Markdown: medians over rounds, what is to be held by each cost, and what `plan` says."""
    targets = [(case, target) for case in cases for target in targets_of(case, store, cost)]
    yield from head(
        "case", "target", "who", ">met in", ">in time", ">reserved core-s", ">marginal core-s", ">agreement"
    )
    for case, target in targets:
        for who in target.who(cost):
            rows = _rows(case, target, who, results)
            if rows:
                yield f"| {case.name} | {rows[0]['slo']}, {target.name} | {who} {_figures(rows)}"
    yield ""
    most = f">cost over the static one's (at most {AGAINST_STATIC})", f">over the first one's (at most {AGAINST_FIRST})"
    yield from head("case", "target", "by", ">spread", "counts", "who", "met", *most, "in time as the first", "floor")
    for case, target in targets:
        for by in COSTS:
            for who in ("llamapipe", "tuned"):
                if _rows(case, target, who, results):
                    yield _judged(case, target, by, who, results, cost)
    yield ""
    yield from head("case", "objective", "`plan` says")
    for row in results.rows("plan"):
        if row["key"][1] in {case.name for case in cases}:
            yield f"| {row['key'][1]} | {row['slo']} ({row['key'][3]}, {row['key'][4]}) | {row['said']} |"


def _rows(case: Case, target: Target, who: str, results: Store) -> list[Row]:
    return results.rows("target", case.name, target.kind, target.name, who)


def _figures(rows: Sequence[Row]) -> str:
    known = [row for row in rows if "refused" not in row]
    if not known:
        return f"| refused: {rows[0]['refused']} | | | | |"
    return (
        f"| {sum(bool(row['met']) for row in known)} of {len(rows)} | {_median(known, 'attainment'):.1%} "
        f"| {_median(known, 'reserved'):.2f} | {_median(known, 'marginal'):.2f} | {_told(_agreement(known))} |"
    )


def _judged(case: Case, target: Target, by: str, who: str, results: Store, cost: str) -> str:
    """One line: what is asked of tuning, by one of the costs."""
    rows = _rows(case, target, who, results)
    spread = f"{target.spread[by]:.2f} x | {'yes' if target.counts(by) else 'no'}"
    start = f"| {case.name} | {target.slo}, {target.name} | {by} | {spread} | {who} "
    known = [row for row in rows if "refused" not in row]
    if not known:
        return f"{start}| refused | | | | |"
    static = _rows(case, target, f"static, {by}", results) or _rows(case, target, "static", results)
    first = _rows(case, target, "first", results)
    met = f"{sum(bool(row['met']) for row in known)} of {len(rows)}"
    typed = [row for row in first if "refused" not in row]
    no_later = _median(known, "attainment") >= _median(typed, "attainment") if typed else None
    agreement = _agreement(known)
    floor = None if agreement is None else agreement >= FLOOR
    return (
        f"{start}| {met} | {_against(known, static, by, AGAINST_STATIC)} | {_against(known, first, by, AGAINST_FIRST)} "
        f"| {_yes(no_later)} | {_yes(floor)} |"
    )


def _against(rows: Sequence[Row], others: Sequence[Row], by: str, most: float) -> str:
    others = [row for row in others if "refused" not in row]
    if not others:
        return "-"
    share = _median(rows, by) / _median(others, by)
    return f"{share:.2f} x" + ("" if share <= most else " (missed)")


def _agreement(rows: Sequence[Row]) -> float | None:
    """The least."""
    return min((row["agreement"] for row in rows if row["agreement"] is not None), default=None)


def _told(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _yes(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "no"


def _median(rows: Sequence[Row], name: str) -> float:
    values = sorted(float(row[name] or 0.0) for row in rows)
    return values[len(values) // 2]
