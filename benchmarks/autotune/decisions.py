"""What deciding costs: recorded runs told again to a fresh control, and its choices timed.

The processor time of the thread is taken around every call into `Chooser`, the cost of taking it subtracted. A recorded
run is told five times, and what counts is the best of the five: the replay is the same each time, and whatever else the
machine did only adds to it. Simulated ones are played once. An item is one unit of one stage in one invocation, so a
frame counts once for every stage that it goes through. Only interpreted control can be looked into like this: compiled
modules call one another past Python, and are refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.autotune.ablation import NAMES, SCENARIOS
from benchmarks.autotune.cases import Case
from benchmarks.autotune.runs import run_of
from benchmarks.autotune.tables import head
from benchmarks.store import Budget, Store
from llamapipe.control import Controller, read_log
from llamapipe.control.actions import Dispatch
from llamapipe.control.chooser import Chooser
from llamapipe.sim.judge import judge
from llamapipe.sim.scenario import load_scenario

REPLAYS = 5
CALLS = ("decide", "rush", "asleep", "arrived", "left", "saw", "saw_frame", "efforts_s", "due_s", "decides_for")
SLO = "p95=150ms"
SIMULATED_S = 8.0
ASKED = {"slo": SLO, "replays": REPLAYS, "simulated_s": SIMULATED_S}


COMPILED = "choices cannot be timed in compiled modules: `make interpreted`"


class _Timed:
    """Sums the thread's time in calls of `Chooser`, those within one another once."""

    def __init__(self) -> None:
        self.spent_ns = 0
        self.calls = 0
        self._within = False
        self._usual = {name: getattr(Chooser, name) for name in CALLS}

    def __enter__(self) -> _Timed:
        try:
            for name, function in self._usual.items():
                setattr(Chooser, name, self._around(function))
        except (TypeError, AttributeError):  # a compiled class may refuse
            raise SystemExit(COMPILED) from None
        return self

    def __exit__(self, *exc: object) -> None:
        for name, function in self._usual.items():
            setattr(Chooser, name, function)

    def check(self) -> None:
        """Raises SystemExit where no call came by: the times would be those of nothing."""
        if not self.calls:
            raise SystemExit(COMPILED)

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        clock = time.thread_time_ns

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._within:
                return function(*args, **kwargs)
            self._within = True
            self.calls += 1
            began_ns = clock()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent_ns += clock() - began_ns
                self._within = False

        return timed


def _overhead_ns() -> float:
    """What `_Timed` counts for a call that does nothing."""
    timed = _Timed()
    nothing = timed._around(lambda: None)
    for _ in range(20_000):
        nothing()
    return timed.spent_ns / timed.calls


def measure(cases: Sequence[Case], results: Store, folder: Path, budget: Budget) -> None:
    """Record and replay what is not there yet. Raises TimeUp."""
    overhead_ns = _overhead_ns()
    for case in cases:
        key = ("decisions", case.name)
        if results.has(key, **case.asked):
            continue
        budget.check()
        summary = run_of(case, folder, "--realtime", "--slo", SLO, "--events")
        lines = (folder / "run" / "events.jsonl").read_bytes().splitlines()
        steps_s, chosen_s, calls = [], [], 0
        for _ in range(REPLAYS):
            steps_s.append(_replayed_s(lines))
            with _Timed() as timed:
                _replayed_s(lines)
            timed.check()
            calls = timed.calls
            chosen_s.append((timed.spent_ns - timed.calls * overhead_ns) / 1e9)
        plan, entries = read_log(lines)
        sent = [a for entry in entries for a in entry.actions if isinstance(a, Dispatch)]
        items = sum(len(a.items) for a in sent)
        row = {
            "policy": plan.policy.name,
            "candidates": [len(stage.candidates) for stage in plan.stages if stage.candidates],
            "workers": len(plan.workers),
            "items": items,
            "invocations": len(sent),
            "calls": calls,
            "choice_us": 1e6 * min(chosen_s) / items,
            "control_us": 1e6 * min(steps_s) / items,
            "share": min(chosen_s) / summary["cpu_s"],
            "control_share": min(steps_s) / summary["cpu_s"],
            "cpu_s": summary["cpu_s"],
        }
        results.add(key, row, **case.asked)
        print(f"{case.name}: {row['choice_us']:.1f} us an item, {row['share']:.2%} of the run's CPU", flush=True)


def simulated(results: Store, budget: Budget) -> None:
    """The same of scenarios with many candidates and workers, as they are simulated. Raises TimeUp."""
    overhead_ns = _overhead_ns()
    for name in NAMES:
        key = ("decisions", f"{name}, simulated")
        if results.has(key):
            continue
        budget.check()
        scenario = load_scenario(SCENARIOS / f"{name}.yaml").model_copy(update={"duration_s": SIMULATED_S})
        with _Timed() as timed:
            judged = judge(scenario)
        timed.check()
        items = sum(use.items for use in judged.stages)
        chosen_s = (timed.spent_ns - timed.calls * overhead_ns) / 1e9
        results.add(
            key,
            {
                "candidates": [len(stage.candidates) for stage in scenario.pipeline.stages if stage.candidates],
                "workers": sum(machine.workers for machine in scenario.machines),
                "items": items,
                "choice_us": 1e6 * chosen_s / items,
            },
        )
        print(f"{name}, simulated: {1e6 * chosen_s / items:.1f} us an item", flush=True)


def _replayed_s(lines: list[bytes]) -> float:
    plan, entries = read_log(lines)
    steps = list(entries)
    controller = Controller(plan)
    began_s = time.thread_time()
    for entry in steps:
        controller.step(entry.event, entry.t)
    return time.thread_time() - began_s


def report(cases: Sequence[Case], results: Store) -> Iterator[str]:
    """Markdown."""
    yield from head(
        *("case", ">candidates", ">workers", ">items", ">choice, us an item", ">share of the run's CPU"),
        *(">all of control, us an item", ">share"),
    )
    found = {case.name: results.get(("decisions", case.name), **case.asked) for case in cases}
    found |= {f"{name}, simulated": results.get(("decisions", f"{name}, simulated")) for name in NAMES}
    for name, row in found.items():
        if row is None:
            continue
        candidates = " and ".join(str(n) for n in row["candidates"]) or "none"
        whole = (
            f"{row['share']:.2%} | {row['control_us']:.1f} | {row['control_share']:.2%}" if "share" in row else "| |"
        )
        yield (f"| {name} | {candidates} | {row['workers']} | {row['items']:,} | {row['choice_us']:.1f} | {whole} |")
