"""An objective under faults: invocations fail, or take ten times as long (3 % each), and a worker is killed every 5 s.

The objective is 4 times the p95 of the same pipeline undisturbed, whose stage takes its usual time.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.autotune.cases import assets
from benchmarks.autotune.store import Budget, Row, Store
from benchmarks.autotune.tables import head
from benchmarks.injection import start, summary_of, with_luck, workers

HERE = Path(__file__).parents[1]
CLIP = "TUD-Stadtmitte.mp4"
LOOPS, ROUNDS = 6, 3
TIMES = 4.0
USUAL_S = 0.005
EVERY_S = 5.0
COUNTS = {"--workers": "process:3"}


def measure(results: Store, folder: Path, budget: Budget) -> None:
    """Run what is not there yet. Raises TimeUp."""
    undisturbed = results.get(("faults", "undisturbed"))
    if undisturbed is None:
        budget.check()
        undisturbed = results.add(("faults", "undisturbed"), _run(folder, "steady", None, kill=False))
        print(f"undisturbed: p95 {undisturbed['p95_ms']:.1f} ms", flush=True)
    objective_ms = TIMES * undisturbed["p95_ms"]
    for number in range(ROUNDS):
        key = ("faults", "disturbed", str(number))
        if key not in results:
            budget.check()
            row = results.add(key, _run(folder, "mixed", objective_ms, kill=True))
            print(
                f"disturbed: p95 {row['p95_ms']:.1f} ms, {row['attainment']:.1%} in {objective_ms:.0f} ms", flush=True
            )


def _run(folder: Path, how: str, objective_ms: float | None, *, kill: bool) -> Row:
    output, marks = folder / "run", folder / "marks"
    for path in (output, marks):
        shutil.rmtree(path, ignore_errors=True)
    marks.mkdir(parents=True)
    options = ["--slo", f"p95={objective_ms:.1f}ms"] if objective_ms is not None else []
    run = start(
        HERE / "people-in-trouble.yaml", output, "-i", str(assets() / CLIP), "--ops", str(HERE / "trouble.py"),
        "--loop", str(LOOPS), "--realtime", "--set", f"params.marks={marks}", "--set", f"params.how={how}",
        "--set", f"params.usual_s={USUAL_S}", *(part for pair in COUNTS.items() for part in pair), *options,
        events=False,
    )  # fmt: skip
    killed, rng, next_s = 0, random.Random(0), time.monotonic() + EVERY_S
    while run.poll() is None:
        if kill and time.monotonic() >= next_s and (pids := workers(run)):
            with_luck(rng.choice(pids), signal.SIGKILL)
            killed, next_s = killed + 1, next_s + EVERY_S
        time.sleep(0.05)
    summary = summary_of(output)
    names = [mark.name for mark in marks.iterdir()]
    slo = summary["slo"]
    return {
        "exit_code": run.returncode,
        "frames": summary["frames"]["decoded"],
        "delivered": summary["frames"]["delivered"],
        "p50_ms": summary["latency_ms"]["p50"],
        "p95_ms": summary["latency_ms"]["p95"],
        "p99_ms": summary["latency_ms"]["p99"],
        "objective_ms": objective_ms,
        "attainment": None if slo is None else slo["attainment"],
        "met": None if slo is None else slo["met"],
        "killed": killed,
        "failed": sum(name.endswith("raise") for name in names),
        "slow": sum(name.endswith("slow") for name in names),
    }


def report(results: Store) -> Iterator[str]:
    """Markdown."""
    yield from head(
        "run",
        ">frames, delivered",
        ">failed",
        ">slow",
        ">workers killed",
        ">p50 ms",
        ">p95 ms",
        ">objective",
        ">in time",
        "met",
    )
    for row in results.rows("faults"):
        objective = "-" if row["objective_ms"] is None else f"{row['objective_ms']:.0f} ms"
        attained = "-" if row["attainment"] is None else f"{row['attainment']:.1%}"
        yield (
            f"| {row['key'][1]} | {row['frames']}, {row['delivered']} | {row['failed']} | {row['slow']} "
            f"| {row['killed']} | {row['p50_ms']:.1f} | {row['p95_ms']:.1f} | {objective} | {attained} "
            f"| {'-' if row['met'] is None else 'yes' if row['met'] else 'no'} |"
        )
