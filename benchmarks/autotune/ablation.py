"""Each mechanism of the policy switched off, one at a time: in virtual time on mixed hardware, and live.

In `sim`, every scenario of samples/scenarios with candidates to choose among is played as it is and under conditions
that the mechanisms are for: scarce machines (one GPU, a third of the CPUs, 1.5 times the streams); 3 % of invocations
fail and 3 % take ten times as long; a network of 20 ms and 1 GB/s, of which profiles say nothing. Live, runs are
started with the same switches.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks.autotune.cases import Case
from benchmarks.autotune.tables import head
from benchmarks.store import Budget, Store
from llamapipe.control.plan import MECHANISMS as ALL_MECHANISMS
from llamapipe.sim.judge import Judgement, judge
from llamapipe.sim.planners import PLANNERS, Planned
from llamapipe.sim.scenario import Scenario, load_scenario

SCENARIOS = Path(__file__).parents[2] / "samples" / "scenarios"
NAMES = ("amber-alert", "blur-faces", "people")
DURATION_S = 10.0  # of the scenarios' minute
ASKED = {"duration_s": DURATION_S}

MECHANISMS: dict[str, dict[str, Any]] = {
    "all": {},
    **{name.replace("-", " "): {name.replace("-", "_"): False} for name in ALL_MECHANISMS if name != "fusing"},
}
"""What is off, by name, as fields of `PolicyPlan`."""


def _changed(scenario: Scenario, part: str, **update: Any) -> Scenario:
    return scenario.model_copy(update={part: getattr(scenario, part).model_copy(update=update)})


def _fewer_workers(scenario: Scenario, share: float) -> Scenario:
    machines = tuple(
        m.model_copy(update={"workers": m.workers if m.device != "cpu" else max(1, round(share * m.workers))})
        for m in scenario.machines
    )
    return scenario.model_copy(update={"machines": machines})


def _more_streams(scenario: Scenario, times: float) -> Scenario:
    return _changed(scenario, "streams", count=round(times * scenario.streams.count))


CONDITIONS: dict[str, Callable[[Scenario], Scenario]] = {
    "as it is": lambda s: s,
    "scarce": lambda s: _more_streams(_one_gpu(_fewer_workers(s, 0.34)), 1.5),
    "3 % fail, 3 % slow": lambda s: _changed(s, "failures", fail_share=0.03, slow_share=0.03),
    "slower than profiled": lambda s: _changed(s, "network", latency_ms=20.0, mb_per_s=1000.0, item_mb=0.5),
}


def _one_gpu(scenario: Scenario) -> Scenario:
    machines = tuple(m.model_copy(update={"workers": 1}) if m.device != "cpu" else m for m in scenario.machines)
    return scenario.model_copy(update={"machines": machines})


def _without(name: str, scenario: Scenario) -> Planned:
    kept, policy = PLANNERS["llamapipe"](scenario)
    return kept, replace(policy, **MECHANISMS[name])


def simulate(results: Store, budget: Budget) -> None:
    """Every scenario, condition and mechanism that is not there yet. Raises TimeUp."""
    for name in NAMES:
        whole = load_scenario(SCENARIOS / f"{name}.yaml").model_copy(update={"duration_s": DURATION_S})
        for condition, change in CONDITIONS.items():
            scenario = change(whole)
            for mechanism in MECHANISMS:
                key = ("ablation-sim", name, condition, mechanism)
                if results.has(key):
                    continue
                budget.check()
                PLANNERS[f"without {mechanism}"] = partial(_without, mechanism)
                judged = judge(scenario, f"without {mechanism}")
                results.add(key, _figures(judged))
            print(f"{name}, {condition}: done", flush=True)


def _figures(judged: Judgement) -> dict[str, Any]:
    return {
        "attainment": judged.attainment,
        "met": judged.met,
        "cost": judged.cost_used,
        "p50_s": judged.p50_s,
        "p95_s": judged.p95_s,
        "accuracy": judged.accuracy,
        "failed": judged.failed,
    }


def report_sim(results: Store) -> Iterator[str]:
    """Markdown: a row a scenario and condition, a column a mechanism that is off."""
    off = [name for name in MECHANISMS if name != "all"]
    yield from head("scenario", "condition", "all on", *[f"no {name}" for name in off])
    worst: dict[str, tuple[float, str]] = {}
    for name in NAMES:
        for condition in CONDITIONS:
            rows = {m: results.get(("ablation-sim", name, condition, m)) for m in MECHANISMS}
            base = rows["all"]
            if base is None or any(row is None for row in rows.values()):
                continue
            cells = []
            for mechanism in off:
                row = rows[mechanism]
                assert row is not None
                cells.append(_cell(row, base))
                lost = max(row["cost"] / base["cost"] - 1, row["p95_s"] / base["p95_s"] - 1)
                lost = max(lost, base["attainment"] - row["attainment"])
                if lost > worst.get(mechanism, (-1.0, ""))[0]:
                    worst[mechanism] = lost, f"{name}, {condition}: {_cell(row, base)}"
            all_on = f"{base['attainment']:.1%}, {base['cost']:.3g}, {1000 * base['p95_s']:.0f} ms"
            yield f"| {name} | {condition} | {all_on} | " + " | ".join(cells) + " |"
    yield ""
    yield from head("off", "where it is missed most: in time, cost, p95 against all on")
    for mechanism, (_, told) in worst.items():
        yield f"| {mechanism} | {told} |"


def _cell(row: dict[str, Any], base: dict[str, Any]) -> str:
    if all(abs(row[what] - base[what]) <= 1e-9 for what in ("attainment", "cost", "p95_s")):
        return "the same"
    attained = f"{row['attainment']:.1%}"
    return f"{attained}, {row['cost'] / base['cost']:.2f} x, {row['p95_s'] / base['p95_s']:.2f} x"


LIVE = ("all", *[name for name in MECHANISMS if name != "all"], "fusing", "few cores")
ROUNDS = 3
TIMES = 1.5  # the p95 with all on
LEAST_MS = 20.0
ASKED_LIVE = {"times": TIMES, "least_ms": LEAST_MS}

_SCRIPT = """
import json, sys
from pathlib import Path
from llamapipe.session import RunRequest, run
options = json.loads(sys.argv[1])
options["output"] = Path(options["output"])
print(run(RunRequest(**options)).to_json().decode())
"""


def live(cases: Sequence[Case], results: Store, folder: Path, budget: Budget) -> None:
    """Paced runs with an objective of 1.5 times the p95 with all on, interleaved. Raises TimeUp."""
    for case in cases:
        loose = results.get(("ablation-live", case.name, "loose"), **case.asked)
        if loose is None:
            budget.check()
            loose = _run(case, folder, "all", 2000.0)
            results.add(("ablation-live", case.name, "loose"), loose, **case.asked)
        objective_ms = round(max(LEAST_MS, TIMES * loose["p95_ms"]), 1)
        asked = {**case.asked, "objective_ms": objective_ms}
        for number in range(ROUNDS):
            for mechanism in LIVE:
                key = ("ablation-live", case.name, mechanism, str(number))
                if not results.has(key, **asked):
                    budget.check()
                    results.add(key, _run(case, folder, mechanism, objective_ms), **asked)
        print(f"{case.name}: done", flush=True)


def _run(case: Case, folder: Path, mechanism: str, objective_ms: float) -> dict[str, Any]:
    request = {
        "pipeline": case.pipeline,
        "sources": [case.source],
        "output": str(folder / "run"),
        "force": True,
        "realtime": True,
        "start_s": case.start_s or None,
        "end_s": case.start_s + case.length_s,
        "slo": f"p95={objective_ms:.1f}ms",
        "without": [] if mechanism in ("all", "few cores") else [mechanism.replace(" ", "-")],
        "cores": "all" if mechanism == "few cores" else None,
    }
    command = [sys.executable, "-c", _SCRIPT, json.dumps(request)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    summary = json.loads(done.stdout)
    return {
        "objective_ms": objective_ms,
        "attainment": summary["slo"]["attainment"],
        "p95_ms": summary["latency_ms"]["p95"],
        "reserved": summary["cost"]["reserved"],
        "invocations": summary["cost"]["marginal"],
        "cpu_s": summary["cpu_s"],
    }


def report_live(cases: Sequence[Case], results: Store) -> Iterator[str]:
    """Markdown: medians over rounds. Seconds of invocations are by the clock, waiting for a core included."""
    yield from head("case", ">objective", "off", ">in time", ">p95 ms", ">reserved core-s", ">invocations s", ">CPU s")
    for case in cases:
        for mechanism in LIVE:
            rows = results.rows("ablation-live", case.name, mechanism, **case.asked)
            if rows:
                objective = f"p95 <= {rows[0]['objective_ms']:.0f} ms"
                yield (
                    f"| {case.name} | {objective} | {'nothing' if mechanism == 'all' else mechanism} "
                    f"| {_median(rows, 'attainment'):.1%} | {_median(rows, 'p95_ms'):.1f} "
                    f"| {_median(rows, 'reserved'):.2f} | {_median(rows, 'invocations'):.2f} "
                    f"| {_median(rows, 'cpu_s'):.2f} |"
                )


def _median(rows: Sequence[dict[str, Any]], name: str) -> float:
    return statistics.median(float(row[name]) for row in rows)
