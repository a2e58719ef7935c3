"""`llamapipe run` as users start it, in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.autotune.cases import Case
from benchmarks.store import Row
from llamapipe.clock import system_env
from llamapipe.session.resolve import load_pipeline
from llamapipe.spec import AccuracyFloor, dump_yaml

MOST_FOREIGN = 0.02  # of the cores' time, in a round that counts
ATTEMPTS = 3


def options_of(case: Case) -> list[str]:
    """The stretch of video."""
    return ["-i", case.source, "--start", f"{case.start_s:g}", "--end", f"{case.start_s + case.length_s:g}"]


def pipeline_with(case: Case, folder: Path, *, floor: float | None) -> str:
    """The case's pipeline without an objective, and with a floor of accuracy where one is given, as a file."""
    spec = load_pipeline(case.pipeline, env=system_env()).spec
    has_model = any("task" in op.params for op in spec.ops)
    accuracy = AccuracyFloor(min=floor) if floor is not None and has_model else None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{case.pipeline}-{'any' if accuracy is None else f'{floor:g}'}.yaml"
    path.write_text(dump_yaml(spec.model_copy(update={"slo": None, "accuracy": accuracy})))
    return str(path)


def sets_of(values: Mapping[str, Any]) -> list[str]:
    """A configuration as flags."""
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def run_of(
    case: Case, folder: Path, *options: str, pipeline: str | None = None, env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Its summary; outputs are in FOLDER/run. Raises SystemExit where it fails."""
    return started([pipeline or case.pipeline, *options_of(case), *options], folder / "run", env=env)


def children_cpu_s() -> float:
    """Processor time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def started(arguments: Sequence[str], output: Path, *, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Any run that ends with 0 or 3 (the objective was missed); a refusal (2 and 3 before it began) is a row, too.

    ``env`` is its environment, this process's where it is left out. The summary has ``process_cpu_s`` added, which is
    of the whole command: of start-up and of what came before the run, too.
    """
    command = [sys.executable, "-m", "llamapipe", "run", *arguments, "-o", str(output), "--force", "-q", "--json"]
    before_cpu_s = children_cpu_s()
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode in (2, 3) and not done.stdout.strip():
        return {"refused": done.stderr.strip().splitlines()[0] if done.stderr.strip() else "refused"}
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "process_cpu_s": children_cpu_s() - before_cpu_s}


def least_disturbed(once: Callable[[], Row]) -> Row:
    """Measured again, up to so many times, while others take much of the cores; the row that had the most of them."""
    rows: list[Row] = []
    for _ in range(ATTEMPTS):
        rows.append(once())
        if rows[-1].get("foreign", 0.0) <= MOST_FOREIGN:
            break
    best = min(rows, key=lambda row: row.get("foreign", 0.0))
    return best if "refused" in best else {**best, "attempts": len(rows)}


def figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What tables are made of."""
    latency, slo, cost = summary.get("latency_ms"), summary.get("slo"), summary["cost"]
    return {
        "wall_s": summary["wall_s"],
        "since_asked_s": summary["waited_s"] + summary["wall_s"],
        "load_s": summary["load_s"],
        "fps": summary["fps"],
        "frames": summary["frames"]["decoded"],
        "delivered": summary["frames"]["delivered"],
        "p50_ms": None if latency is None else latency["p50"],
        "p95_ms": None if latency is None else latency["p95"],
        "p99_ms": None if latency is None else latency["p99"],
        "attainment": None if slo is None else slo["attainment"],
        "met": None if slo is None else slo["met"],
        "reserved": cost["reserved"],
        "invocations": cost["marginal"],  # by the clock: what waited for a core counts as if it had had one
        "cpu": summary["cpu_s"],
        "foreign": summary["foreign"],
        "outside_cpu": max(0.0, summary["process_cpu_s"] - summary["cpu_s"]),  # start-up, sampling, tuning, reports
        "variants": [stage["variant"] for stage in summary["stages"] if stage["variant"]],
        "served_by": {
            stage["name"]: {served["variant"]: served["items"] for served in stage.get("served_by", ())}
            for stage in summary["stages"]
            if stage.get("served_by")
        },
    }
