"""How long one choice takes among 500 variants and 50 replicas: bound to 100 us at the median, 500 us at p99.

    python -m benchmarks.selector [--variants 500] [--replicas 50] [--queries 20000]

``known``: queries that ask like an earlier one (64 of them in turn), as a service sees them. ``new``: every query asks
for what nobody asked before. ``arrival``: a whole step of the controller for a query that comes, the choice included;
it has no bound of its own. The bound holds for the thread's CPU time; wall clock is printed beside it, and is more
where others use the machine.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable

import numpy as np

from llamapipe.catalog import AccuracyFigure, BatchPoint, Floor, Profile, Query, Variant
from llamapipe.control.serving import Host, ServingController, ServingPlan
from llamapipe.control.serving import actions as act
from llamapipe.control.serving import events as ev
from llamapipe.control.serving.selector import Live, Selector

MEDIAN_US = 100.0
P99_US = 500.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=500)
    parser.add_argument("--replicas", type=int, default=50)
    parser.add_argument("--queries", type=int, default=20000)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    profiles = [profile(number, generator) for number in range(arguments.variants)]
    selector = Selector(lambda device: 1.0)
    selector.update(profiles)
    offers = list(selector.offers.values())
    live = [
        Live(f"r{number}", offers[int(generator.integers(len(offers)))], float(generator.uniform(-0.1, 0.2)))
        for number in range(arguments.replicas)
    ]
    pool = [query(generator) for _ in range(64)]
    fresh = [query(generator) for _ in range(arguments.queries)]
    missed = False
    figures = {
        "known": timed(lambda k: selector.select(pool[k % len(pool)], live, 0.0), arguments.queries),
        "new": timed(lambda k: selector.select(fresh[k], live, 0.0), arguments.queries),
        "arrival": arrivals(profiles, pool, arguments.replicas, arguments.queries),
    }
    for label, (cpu, wall) in figures.items():
        median, p99 = np.percentile(cpu, [50, 99])
        held = median < MEDIAN_US and p99 < P99_US
        missed |= label != "arrival" and not held
        verdict = "" if label == "arrival" else "held" if held else "MISSED"
        wall_median, wall_p99 = np.percentile(wall, [50, 99])
        print(
            f"{label:8} CPU median {median:7.1f} us, p99 {p99:7.1f} us   "
            f"wall median {wall_median:7.1f} us, p99 {wall_p99:7.1f} us   {verdict}"
        )
    return int(missed)


class Watch:
    """Microseconds of CPU and of wall clock, call by call."""

    def __init__(self) -> None:
        self.took: tuple[list[float], list[float]] = ([], [])

    def begin(self) -> None:
        self._wall, self._cpu = time.perf_counter_ns(), time.thread_time_ns()

    def end(self) -> None:
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        self.took[0].append((cpu - self._cpu) / 1e3)
        self.took[1].append((wall - self._wall) / 1e3)


def timed(call: Callable[[int], object], count: int) -> tuple[list[float], list[float]]:
    for k in range(min(count, 200)):  # warm
        call(k)
    gc.collect()
    gc.freeze()
    watch = Watch()
    for k in range(count):
        watch.begin()
        call(k)
        watch.end()
    return watch.took


def arrivals(profiles: list[Profile], pool: list[Query], replicas: int, count: int) -> tuple[list[float], list[float]]:
    """A controller with so many replicas, each query of which is answered before the next comes."""
    plan = ServingPlan((Host("local", tuple(range(replicas * 8)), 2**40),), linger_s=1e9, scale_down_s=1e9)
    control = ServingController(plan, profiles)
    now_s = 0.0
    loaded = 0
    while loaded < replicas:
        for action in control.step(ev.Prepare(-1 - loaded, Query(variant=profiles[loaded].variant.name)), now_s):
            if isinstance(action, act.StartReplica):
                control.step(ev.ReplicaReady(action.replica, 0.1), now_s)
        loaded += 1
        now_s += 0.1
    watch = Watch()
    for k in range(count):
        now_s += 0.002
        watch.begin()
        actions = control.step(ev.QueryArrived(k, pool[k % len(pool)]), now_s)
        watch.end()
        waiting = list(actions)
        while waiting:
            action = waiting.pop()
            if isinstance(action, act.Serve):
                waiting += control.step(ev.BatchDone(action.batch_id, 0.001), now_s + 0.001)
            elif isinstance(action, act.StartReplica):
                waiting += control.step(ev.ReplicaReady(action.replica, 0.1), now_s + 0.001)
            elif isinstance(action, act.StopReplica):
                waiting += control.step(ev.ReplicaStopped(action.replica), now_s + 0.001)
            elif isinstance(action, act.Solve):
                waiting += control.step(ev.Solved(action.solve_id, None), now_s + 0.001)
    return watch.took


def profile(number: int, generator: np.random.Generator) -> Profile:
    seconds = float(generator.uniform(0.002, 0.2))
    threads = int(generator.integers(1, 5))
    points = tuple(BatchPoint(n, seconds * n**0.9, seconds * n**0.9 * 1.1, 0.0, 10, 0.02) for n in (1, 2, 4, 8, 16))
    accuracy = (
        AccuracyFigure("f1", float(generator.uniform(0.5, 1.0)), "clip", "agreement"),
        AccuracyFigure("coco_ap", float(generator.uniform(0.2, 0.5)), "coco", "published"),
    )
    return Profile(
        Variant(f"model{number // 8}", "onnxruntime", precision=f"p{number % 8}", threads=threads),
        "here",
        load_s=float(generator.uniform(0.1, 2.0)),
        peak_memory_bytes=2**26,
        points=points,
        accuracy=accuracy,
        tasks=("people" if number % 4 else "faces",),
    )


def query(generator: np.random.Generator) -> Query:
    floor = Floor(float(generator.uniform(0.5, 0.95)))
    return Query(task="people", latency_s=float(generator.uniform(0.05, 0.5)), accuracy=floor)


if __name__ == "__main__":
    raise SystemExit(main())
