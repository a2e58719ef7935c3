"""Scaling with the load: llamapipe's own policy, static replicas of the best variant, and INFaaS's greedy one, live.

    python -m benchmarks.serving [--traces spike diurnal] [--rounds 1] [--store out/serving.jsonl] [--for-s 170]

The same queries at the same moments (same seed) go to each policy in turn, in an open loop. First is measured, live,
how many queries a second replicas of the cheapest variant that is right enough answer on all cores together, generator
and server beside them; the base rate is 0.2 and the peak 0.75 of that. Printed are attainment (answered in time, of all
sent) and reserved core-seconds (from the start of a replica until it is gone, idle or not).

``static-N`` is the cheapest variant that meets the query, with N replicas. Every run is kept, with what was asked for,
the code and the machine: call again to go on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.profiles import CLIPS, frames_of, profiles_for
from benchmarks.selection import agreement
from benchmarks.store import Store
from llamapipe.catalog import Profile
from llamapipe.clock import SystemClock
from llamapipe.media import BgrPicture
from llamapipe.session.load import LoadReport, generate_load
from llamapipe.session.serve import Session
from llamapipe.sim.arrivals import Rate, diurnal, poisson, spike

TASK = "person-detection"
NUM_CORES = len(os.sched_getaffinity(0))
POLICIES = ("llamapipe", f"static-{NUM_CORES}", "infaas", "static-1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", nargs="+", default=["spike", "diurnal"], choices=["spike", "diurnal"])
    parser.add_argument("--policies", nargs="+", default=list(POLICIES))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--duration-s", type=float, default=30.0)
    parser.add_argument("--latency-ms", type=float, default=200.0)
    parser.add_argument("--accuracy", type=float, help="agreement; left out: what a quarter of the variants reach")
    parser.add_argument("--store", type=Path, default=Path("out/serving/runs.jsonl"))
    parser.add_argument("--for-s", type=float, default=float("inf"), help="stop after so long; call again to go on")
    arguments = parser.parse_args()
    until_s = time.monotonic() + arguments.for_s
    profiles = profiles_for([TASK], arguments.store.parent / f"profiles-{TASK}.json", until_s)
    if profiles is None:
        print("profiling is not over; call again")
        return 0
    if arguments.accuracy is None:
        arguments.accuracy = float(np.quantile([agreement(profile) for profile in profiles], 0.75)) - 0.001
    best = cheapest(profiles, arguments.latency_ms / 1000, arguments.accuracy)
    kept = Store(arguments.store, clip=Path(CLIPS[TASK]).name, cores=NUM_CORES, best=best.variant.name)
    asked = {
        "duration_s": arguments.duration_s,
        "latency_ms": arguments.latency_ms,
        "accuracy": arguments.accuracy,
        "profiles": {profile.variant.name: agreement(profile) for profile in profiles},  # what policies choose among
    }
    pictures = [BgrPicture(picture.bgr()) for picture in frames_of(CLIPS[TASK], 24, 7)]
    row = kept.get(("capacity",))
    if row is None:
        row = kept.add(("capacity",), {"capacity": saturated(best, profiles, pictures)})
    capacity = float(row["capacity"])
    asked["capacity"] = capacity
    print(
        f"cheapest variant that does: {best.variant.name}; alone on a core {best.throughput(1):.0f} pictures a second, "
        f"{NUM_CORES} together {capacity:.0f} queries a second"
    )
    for number in range(arguments.rounds):
        for trace in arguments.traces:
            for policy in arguments.policies:
                key = ("run", trace, str(number), policy)
                if kept.has(key, **asked) or time.monotonic() > until_s:
                    continue
                rate = course(trace, capacity, arguments.duration_s)
                report = run(policy, rate, best, profiles, pictures, arguments, number)
                line = {"trace": trace, "round": number, "policy": policy, "report": msgspec.to_builtins(report)}
                show(kept.add(key, line, **asked))
    print()
    rows = kept.rows("run", **asked)
    for line in sorted(rows, key=lambda line: (line["trace"], line["round"], line["policy"])):
        show(line)
    for sentence in kept.footer():
        print(sentence)
    return 0


def course(trace: str, capacity: float, duration_s: float) -> Rate:
    """The rate over time."""
    low, high = 0.2 * capacity, 0.75 * capacity
    if trace == "spike":
        return spike(low, high, duration_s, start_s=duration_s / 3, length_s=duration_s / 3)
    return diurnal(low, high, duration_s, period_s=duration_s)


def saturated(best: Profile, profiles: Sequence[Profile], pictures: Sequence[BgrPicture]) -> float:
    """Queries a second that a replica on every core answers when there is always another query."""
    clock = SystemClock()
    static = {best.variant.name: NUM_CORES}
    with Session(workers="process", profiles=profiles, policy="static", static=static) as session:
        session.prepare(task=TASK)
        while len(session.processes()) < NUM_CORES:
            clock.sleep(0.05)
        waiting = deque(session.submit(pictures[i], variant=best.variant.name) for i in range(4 * NUM_CORES))
        began_s, done = clock.now_s(), 0
        while clock.now_s() - began_s < 4.0:
            waiting.popleft().result()
            done += 1
            waiting.append(session.submit(pictures[done % len(pictures)], variant=best.variant.name))
        return done / (clock.now_s() - began_s)


def cheapest(profiles: Sequence[Profile], latency_s: float, accuracy: float) -> Profile:
    """What somebody would deploy who knows all figures."""
    fitting = [
        profile for profile in profiles if profile.point(1).p95_s <= latency_s and agreement(profile) >= accuracy
    ]
    return min(fitting, key=lambda profile: profile.core_s_per_item(1))


def run(
    policy: str,
    rate: Rate,
    best: Profile,
    profiles: Sequence[Profile],
    pictures: Sequence[BgrPicture],
    arguments: argparse.Namespace,
    seed: int,
) -> LoadReport:
    """One policy under one load."""
    name, _, number = policy.partition("-")
    static = {best.variant.name: int(number)} if number else {}
    ask = {"task": TASK, "latency_ms": arguments.latency_ms, "accuracy": arguments.accuracy}
    with Session(workers="process", profiles=profiles, policy=name, static=static) as session:
        session.prepare(items_per_s=rate.at(0.0), **ask)  # nobody's first second counts loading
        return generate_load(session, poisson(rate, seed), None, pictures, clock=SystemClock(), **ask)


def show(line: dict[str, Any]) -> None:
    """One run in a line."""
    report = line["report"]
    print(
        f"{line['trace']:<8} {line['policy']:<10} sent {report['num_sent']:>5}  in time {report['attainment']:7.2%}  "
        f"p95 {report['p95_ms']:7.1f} ms  reserved {report['reserved_core_s']:6.1f} core-s in "
        f"{report['duration_s']:.0f} s  refused {report['refused'] or 0}  sent {report['sent_late_ms']:.1f} ms late",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
