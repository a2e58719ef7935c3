"""Auto-tuning against a full sweep of what there is.

    python -m benchmarks.autotune quick [--for-s 600]     what needs no quiet machine
    python -m benchmarks.autotune live [--for-s 3600]     what is measured by the clock: leave the machine alone
    python -m benchmarks.autotune STEP ... [--cases people/TUD-Stadtmitte ...]
    python -m benchmarks.autotune report [--plots docs/images]

Every figure is kept under --store as it comes, with what was asked for, the code and the machine. A call that is
interrupted, or ended by --for-s, is gone on with by the same call; what is there already is not measured again. What
another question or machine gave is left out; below a table stands how much of it is of other code. `report` prints all
tables, in Markdown, and draws the plots.

    held         quick   every point of the tuner's space on held frames: processor time, agreement, AP where labelled
    search       quick   the tuner's search against random and a grid, over what `held` has stored
    ablation     quick   each mechanism of the policy off, simulated on mixed hardware
    decisions    quick   what a decision costs
    oracle       live    every static configuration, paced and as a job: the front
    targets      live    objectives from that front: llamapipe, the best static configuration, what is typed first;
                         the first round of whoever searches is cold, with --fresh all are; p99 with --quantile 99
    ablation-live  live  each mechanism off, in real runs
    empty        live    empty stretches of a video against busy ones
    faults       live    an objective while invocations fail or are slow and workers are killed
    drift        live    a video that changes: when --shadow notices, what it goes over to, and what that costs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from benchmarks.autotune import (
    ablation,
    decisions,
    drift,
    empty,
    faults,
    floor,
    held,
    judging,
    oracle,
    search,
    targets,
)
from benchmarks.autotune.cases import Case, cases
from benchmarks.store import Budget, Store, TimeUp

QUICK = ("held", "search", "ablation", "decisions")
LIVE = ("oracle", "targets", "ablation-live", "empty", "faults", "drift")
WITH_MODELS = ("people", "traffic", "blur-faces")
ASKED: dict[str, dict[str, Any]] = {
    "held": held.ASKED,
    "search": search.ASKED,
    "ablation": ablation.ASKED,
    "ablation-live": ablation.ASKED_LIVE,
    "decisions": decisions.ASKED,
    "targets": targets.ASKED,
    "empty": empty.ASKED,
    "faults": faults.ASKED,
    "drift": drift.ASKED,
}
"""By step, what all of its rows are asked for."""


class Bench:
    """Where everything is kept."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        folder: Path = arguments.store
        self.folder = folder.resolve()
        self.cases: list[Case] = cases(arguments.cases)
        if arguments.length_s is not None:
            self.cases = [replace(case, length_s=arguments.length_s) for case in self.cases]
        self.live = [case for case in self.cases if case.is_live]
        self.held = [case for case in self.cases if case.pipeline in WITH_MODELS]
        self.choosing = [case for case in self.live if case.pipeline in WITH_MODELS]
        self.labelled = [case for case in self.cases if case.labels]
        self.cost: str = arguments.cost
        self.quantile: int = arguments.quantile
        self.fresh: bool = arguments.fresh
        self.budget = Budget(arguments.for_s)
        self._stores: dict[str, Store] = {}

    def store(self, name: str) -> Store:
        """Rows of a step."""
        if name not in self._stores:
            self._stores[name] = Store(self.folder / f"{name}.jsonl", **ASKED.get(name, {}))
        return self._stores[name]

    def do(self, step: str) -> None:
        """Go on with a step. Raises TimeUp."""
        steps: dict[str, Callable[[], None]] = {
            "held": lambda: held.sweep(self.held, self.store("held"), self.budget),
            "search": lambda: search.run(self.held, self.store("held"), self.store("search"), self.budget),
            "ablation": lambda: ablation.simulate(self.store("ablation"), self.budget),
            "decisions": self._decisions,
            "oracle": lambda: oracle.sweep(self.live, self.store("oracle"), self.folder / "oracle", self.budget),
            "targets": lambda: targets.run(
                self.live,
                self.store("oracle"),
                self.store("targets"),
                self.folder / "oracle",
                self.cost,
                self.budget,
                quantile=self.quantile,
                fresh=self.fresh,
            ),
            "ablation-live": lambda: ablation.live(
                self.choosing, self.store("ablation-live"), self.folder / "ablation-live", self.budget
            ),
            "empty": lambda: empty.measure(self.store("empty"), self.folder / "empty", self.budget),
            "faults": lambda: faults.measure(self.store("faults"), self.folder / "faults", self.budget),
            "drift": lambda: drift.measure(self.store("drift"), self.folder / "drift", self.budget),
        }
        steps[step]()

    def _decisions(self) -> None:
        decisions.measure(self.choosing, self.store("decisions"), self.folder / "decisions", self.budget)
        decisions.simulated(self.store("decisions"), self.budget)

    def report(self) -> Iterator[str]:
        """All tables, in the order of the steps."""
        cost, quantile = self.cost, self.quantile
        swept, results = self.store("oracle"), self.store("targets")
        parts: list[tuple[str, str, Iterator[str]]] = [
            ("Oracle", "oracle", oracle.report(self.live, swept, cost, quantile)),
            ("Targets", "targets", judging.report(self.live, swept, results, cost, quantile)),
            ("Floor", "held", floor.report(self.labelled, self.store("held"))),
            ("Search", "search", search.report(self.held, self.store("search"))),
            ("Ablation, simulated", "ablation", ablation.report_sim(self.store("ablation"))),
            ("Ablation, live", "ablation-live", ablation.report_live(self.choosing, self.store("ablation-live"))),
            ("Empty stretches", "empty", empty.report(self.store("empty"))),
            ("Decisions", "decisions", decisions.report(self.choosing, self.store("decisions"))),
            ("Faults", "faults", faults.report(self.store("faults"))),
            ("Drift", "drift", drift.report(self.store("drift"))),
        ]
        for title, step, lines in parts:
            yield f"\n## {title}\n"
            yield from lines
            for line in self.store(step).footer():
                yield f"\n{line}"

    def plot(self, folder: Path) -> None:
        """Everything that there are figures for."""
        folder.mkdir(parents=True, exist_ok=True)
        plots = {
            "autotuning-search.svg": search.plot(self.held, self.store("search")),
            "autotuning-floor.svg": floor.plot(self.labelled, self.store("held")),
            "autotuning-fronts.svg": oracle.plot(self.live, self.store("oracle"), self.cost, self.quantile),
        }
        for name, text in plots.items():
            if text:
                (folder / name).write_text(text)
                print(f"wrote {folder / name}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="+", choices=("quick", "live", "report", *QUICK, *LIVE), metavar="STEP")
    parser.add_argument("--cases", nargs="+", default=[], metavar="PIPELINE/CLIP", help="these alone")
    parser.add_argument("--store", type=Path, default=Path("out/autotune"))
    parser.add_argument("--for-s", type=float, default=inf, help="stop after so long; call again to go on")
    parser.add_argument("--length-s", type=float, help="of the stretches, to try it out; take another --store then")
    parser.add_argument("--cost", choices=tuple(oracle.COSTS), default="reserved", help="what targets go by")
    parser.add_argument("--quantile", type=int, choices=(95, 99), default=95, help="of the latency of streams' targets")
    parser.add_argument("--fresh", action="store_true", help="targets: every round in a cache without earlier ones")
    parser.add_argument("--plots", type=Path, help="folder for plots, with `report`")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    wanted: list[str] = []
    for step in arguments.steps:
        wanted += QUICK if step == "quick" else LIVE if step == "live" else [step]
    try:
        for step in wanted:
            if step != "report":
                print(f"{step}:", flush=True)
                bench.do(step)
    except TimeUp:
        print("the time is up; the same call goes on", flush=True)
        return 0
    if "report" in wanted:
        for line in bench.report():
            print(line)
        if arguments.plots is not None:
            bench.plot(arguments.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
