"""Objectives that the oracle can meet, and who meets them at what cost.

Of every case and kind (a stream with a latency, a job with a deadline) the limits are those of the fastest
configuration that is right enough, of the cheapest by either cost where that is another one, and midpoints between; the
objective is a limit with a margin, because the least of many noisy figures is too good. All that meets the objective in
the sweep is compared: the cheapest of it is the static configuration, and where the dearest costs at least 1.3 times
that, the target counts. Costs are reserved (workers, decoders and encoders by the time that they are there) and CPU
(what the run's processes used). Of one camera nearly everything reserves the same whole cores, so that a target that
says nothing by the one may say something by the other: by each it counts, and is judged, on its own.

Right enough is what llamapipe has to prove: the lower end of agreement's interval is above the floor. Where that leaves
the reference alone (a few boxes prove nothing), the agreement itself is what counts; tables say which. Who is asked:

    llamapipe   `run` with the objective, and the floor in the pipeline
    tuned       `run --tune` with the objective and the floor; of jobs, which end before there was time for that,
                after `tune`
    static      the cheapest configuration of the sweep that meets the objective; by each cost, where that is another
    first       what a program does that is written first: the model's published input size, fp32, batch 1, one call
                after the other (one worker), each on all cores, as libraries have it where they are told nothing

The first two know more with every run: the first round is cold, in a copy of the cache without tunings and without what
runs took, and what it leaves there is what warm ones are answered from. What tuning takes counts against a deadline,
but is no part of the run's costs: the processor time of the command outside its run, and of `tune`, stands beside them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from benchmarks.autotune.caches import fresh_cache, with_cache
from benchmarks.autotune.cases import Case, Choices, choices_of
from benchmarks.autotune.oracle import COSTS, KINDS, held_on, measured, right, rows_of, time_of
from benchmarks.autotune.runs import children_cpu_s, least_disturbed, options_of, pipeline_with, sets_of
from benchmarks.store import Budget, Key, Row, Store

FLOOR = 0.9
MARGIN = 0.15
SPREAD = 1.3
MIDPOINTS = (0.25, 0.5, 0.75)
ROUNDS = 3
OUT_OF_REACH = 0.2  # of the fastest: what `plan` is to call infeasible
ASKED = {"floor": FLOOR}
SEARCHING = ("llamapipe", "tuned")
WHO = (*SEARCHING, "static", "first")
PROOFS = {"agreement_low": "lower end", "agreement": "agreement itself"}


@dataclass(frozen=True)
class Target:
    """An objective, and the cheapest configuration of the sweep that meets it."""

    kind: str
    name: str
    limit: float  # of the kind's time
    static: dict[str, Row]  # by each cost
    spread: dict[str, float]  # by each cost, the dearest of those that meet it over the cheapest
    proof: str  # of PROOFS: what was right enough
    quantile: int = 95

    @property
    def slo(self) -> str:
        """As `llamapipe run` takes it."""
        return self.slo_at(self.limit)

    def slo_at(self, limit: float) -> str:
        """With another limit."""
        return f"p{self.quantile}={limit:.1f}ms" if self.kind == "stream" else f"deadline={limit:.2f}s"

    def counts(self, cost: str) -> bool:
        """Whether there is anything to choose."""
        return self.spread[cost] >= SPREAD

    def who(self, cost: str) -> dict[str, Row | None]:
        """All that are asked, with the configuration of static ones. ``cost`` is what targets go by."""
        found: dict[str, Row | None] = dict.fromkeys(WHO)
        found["static"] = self.static[cost]
        for other in COSTS:
            if other != cost and _same(self.static[other]) != _same(self.static[cost]):
                found[f"static, {other}"] = self.static[other]
        return found


def _same(row: Row) -> tuple[object, ...]:
    return tuple(row["key"])


def targets_of(case: Case, store: Store, cost: str, quantile: int = 95) -> list[Target]:
    """By the sweep, the cheapest by ``cost`` and then by the other; none before any row is right enough."""
    found: list[Target] = []
    for kind in KINDS:
        time = time_of(kind, quantile)[0]
        rows, proof = right_enough(rows_of(case, store), kind)
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
        found += [
            target_at(rows, kind, name, (1 + MARGIN) * limit, proof, quantile)
            for name, limit in limits.items()
            if different[limit] == name
        ]
    return found


def right_enough(rows: Sequence[Row], kind: str) -> tuple[list[Row], str]:
    """Those that prove the floor, or where that leaves one configuration alone those that agree enough; of PROOFS.

    A configuration is what is set but for the batch: the reference always agrees with itself.
    """
    proved = [row for row in rows if right(row, kind, FLOOR, "agreement_low")]
    agreeing = [row for row in rows if right(row, kind, FLOOR)]
    if len(_configurations(proved)) > 1 or len(_configurations(agreeing)) == len(_configurations(proved)):
        return proved, "agreement_low"
    return agreeing, "agreement"


def _configurations(rows: Sequence[Row]) -> set[bytes]:
    return {
        msgspec.json.encode(
            {key: value for key, value in row["values"].items() if not key.endswith(".batch")}, order="deterministic"
        )
        for row in rows
    }


def target_at(rows: Sequence[Row], kind: str, name: str, objective: float, proof: str, quantile: int = 95) -> Target:
    """Of all rows that meet the objective, the cheapest by each cost, the fastest of equal ones."""
    time = time_of(kind, quantile)[0]
    meeting = [row for row in rows if row[kind][time] <= objective]
    static = {by: min(meeting, key=lambda row: (row[kind][by], row[kind][time])) for by in COSTS}
    spread = {by: max(row[kind][by] for row in meeting) / static[by][kind][by] for by in COSTS}
    return Target(kind, name, objective, static, spread, proof, quantile)


def key_of(case: Case, target: Target, who: str) -> Key:
    """The beginning of the keys of rows. By the objective: limits move while a sweep goes on."""
    return ("target", case.name, target.kind, target.slo, who)


def rounds_of(who: str, *, fresh: bool) -> list[str]:
    """``cold`` and ``warm`` ones of whoever remembers. ``fresh``: all are cold."""
    if who not in SEARCHING:
        return ["-"] * ROUNDS
    return ["cold" if fresh or number == 0 else "warm" for number in range(ROUNDS)]


def run(
    cases: Sequence[Case],
    store: Store,
    results: Store,
    folder: Path,
    cost: str,
    budget: Budget,
    *,
    quantile: int = 95,
    fresh: bool = False,
) -> None:
    """All that is not there yet. Raises TimeUp."""
    for case in cases:
        targets = targets_of(case, store, cost, quantile)
        if not targets:
            print(f"{case.name}: nothing is swept yet; call `oracle`", flush=True)
            continue
        choices = choices_of(case)
        for target in targets:
            _plan(case, target, results, folder, budget)
            caches = _caches(folder, case, target)
            for number in range(ROUNDS):
                for who, static in target.who(cost).items():
                    kind = rounds_of(who, fresh=fresh)[number]
                    key = (*key_of(case, target, who), kind, str(number))
                    asked = {**case.asked, "options": options_for(who, static, choices)}
                    if not results.has(key, **asked):
                        budget.check()
                        found = _asked(who, kind, asked["options"], choices, target, folder, caches / who)
                        results.add(key, {"slo": target.slo, "who": who, "cold": kind == "cold", **found}, **asked)
            shutil.rmtree(caches, ignore_errors=True)
        print(f"{case.name}: done", flush=True)


def options_for(who: str, static: Row | None, choices: Choices) -> list[str]:
    """Flags of `llamapipe run`, beside the objective."""
    if who == "llamapipe":
        return []
    if who == "tuned":
        return ["--tune"]
    if static is not None:
        return static_options(static)
    cores = len(os.sched_getaffinity(0))
    typed = ["--cores", "all", "--workers", "1"]
    for stage in choices.tunable.stages:
        for knob, value in (("precision", "fp32"), ("batch", "1"), ("threads", str(cores))):
            typed += ["--set", f"{stage.stage}.{knob}={value}"]
    return typed


def static_options(static: Row) -> list[str]:
    """Of a configuration of the sweep."""
    return [*sets_of(static["values"]), *held_on(static["workers"])]


def _caches(folder: Path, case: Case, target: Target) -> Path:
    """Folder of the caches of its own that a target has, until all its rounds are there."""
    name = hashlib.sha256("\n".join((case.name, target.kind, target.slo)).encode()).hexdigest()[:12]
    return folder.resolve() / "caches" / name


def _asked(
    who: str, kind: str, options: Sequence[str], choices: Choices, target: Target, folder: Path, cache: Path
) -> Row:
    objective = ["--slo", target.slo, *options]
    if who == "first":
        env = {**os.environ, "LLAMAPIPE_PROFILES": "off"}
        return least_disturbed(partial(measured, choices, folder, target.kind, *objective, env=env))
    if who not in SEARCHING:
        return least_disturbed(partial(measured, choices, folder, target.kind, *objective))

    def once() -> Row:
        env = with_cache(cache)
        searched_s = _tune(choices.case, target, folder, env) if (who, target.kind) == ("tuned", "job") else 0.0
        row = measured(choices, folder, target.kind, *objective, floor=FLOOR, env=env)
        return row if "refused" in row else {**row, "outside_cpu": row["outside_cpu"] + searched_s}

    def cold() -> Row:
        fresh_cache(cache)
        return once()

    if kind == "cold":
        return least_disturbed(cold)
    if not cache.is_dir():  # its cold round was measured before a break, in a cache that is gone
        cold()
    return least_disturbed(once)


def _tune(case: Case, target: Target, folder: Path, env: Mapping[str, str]) -> float:
    """Processor time of it. What is found is kept for like videos; that nothing fits shows in the run."""
    pipeline = pipeline_with(case, folder / "pipelines", floor=FLOOR)
    command = [sys.executable, "-m", "llamapipe", "tune", pipeline, *options_of(case), "--slo", target.slo]
    command += ["--config", str(folder / "tuned.yaml"), "-q"]
    before_s = children_cpu_s()
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}: {done.stderr.strip()}")
    return children_cpu_s() - before_s


def plans_of(target: Target) -> Iterator[tuple[str, str]]:
    """(name, objective) of what `plan` is asked about: the target, and once in a kind one that is out of reach."""
    yield "as it is", target.slo
    if target.name == "fastest":
        yield "out of reach", target.slo_at(OUT_OF_REACH * target.limit)


def _plan(case: Case, target: Target, results: Store, folder: Path, budget: Budget) -> None:
    for _, slo in plans_of(target):
        key = ("plan", case.name, target.kind, slo)
        if results.has(key, **case.asked):
            continue
        budget.check()
        pipeline = pipeline_with(case, folder / "pipelines", floor=FLOOR)
        paced = ["--realtime"] if target.kind == "stream" else []
        command = [sys.executable, "-m", "llamapipe", "plan", pipeline, *options_of(case), "--slo", slo, *paced]
        done = subprocess.run([*command, "--json"], capture_output=True, text=True)
        said = "infeasible" if done.returncode == 3 else "refused" if done.returncode else "not refused"
        results.add(key, {"slo": slo, "said": said}, **case.asked)
