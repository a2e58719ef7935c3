"""How good choices are: what llamapipe picks for a query, beside the cheapest variant that full measurement finds.

    python -m benchmarks.selection [--tasks person-detection] [--store out/selection] [--for-s 170]

1. Every variant of a task is measured in full (the oracle's sweep), apart from the profiles that llamapipe chooses by:
   what it costs by itself, and how long 99 of 100 answers of a session take that is asked for nothing else.
2. The front is printed: every variant that no other beats in latency, accuracy and cost together.
3. For each target of a grid of latencies and accuracies, live: which variant answered, the p95 of its answers, the
   share of queries that broke a constraint, and its measured cost over that of the oracle's choice.

A query that is refused though a variant was chosen for those before it counts as broken, like one that is late. The
oracle takes the cheapest of which 99 of 100 answers came in time. A hundred queries say little of one in a hundred:
hence their number.

The cost of a target is the mean over its answers, each at what the variant that gave it costs by the oracle's sweep: a
choice that is only made half of the time counts half. Targets at which all feasible variants cost within 1.3 x of each
other do not count: there any choice is a good one. Every step is kept under --store, with what was asked for, the code
and the machine: an interrupted sweep goes on where it was, and --for-s ends one early.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.profiles import CLIPS, frames_of, measured_again, profiles_for
from benchmarks.store import Store
from llamapipe.catalog import Profile
from llamapipe.errors import QueryRefused
from llamapipe.session.serve import Session

SPREAD = 1.3  # targets at which costs differ less do not count
NEAR = 1.1  # of the oracle's cost
ROUNDS = 3  # of which the oracle takes the medians
NUM_LATENCIES, NUM_ACCURACIES = 7, 6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["person-detection", "face-detection"])
    parser.add_argument("--store", type=Path, default=Path("out/selection"))
    parser.add_argument("--queries", type=int, default=300, help="at each target, and of the oracle to each variant")
    parser.add_argument("--for-s", type=float, default=float("inf"), help="stop after so long; call again to go on")
    arguments = parser.parse_args()
    until_s = time.monotonic() + arguments.for_s
    whole = True
    for task in arguments.tasks:
        profiles = profiles_for([task], arguments.store / f"profiles-{task}.json", until_s)
        if profiles is None:
            print(f"{task}: profiling is not over; call again")
            return 0
        kept = Store(
            arguments.store / f"oracle-{task}.jsonl", clip=Path(CLIPS[task]).name, rounds=ROUNDS, num=arguments.queries
        )
        oracle = swept(task, profiles, kept, arguments.queries, until_s)
        if oracle is None:
            print(f"{task}: the oracle's sweep is not over; call again")
            return 0
        show_front(task, profiles, oracle)
        for line in kept.footer():
            print(line)
        whole = sweep(task, profiles, oracle, arguments, until_s) and whole
    return 0


def swept(
    task: str, profiles: Sequence[Profile], kept: Store, num: int, until_s: float
) -> dict[str, dict[str, float]] | None:
    """Latency and cost by variant, measured again; None where time ran out."""
    known: dict[str, dict[str, float]] = {}
    frames = frames_of(CLIPS[task], 24, 7)
    for profile in profiles:
        name = profile.variant.name
        if (row := kept.get((name,))) is not None:
            known[name] = row
            continue
        if time.monotonic() > until_s:
            return None
        rounds = [measured_again(profile.variant, task, frames) for _ in range(ROUNDS)]
        median_s, p95_s = (float(np.median(times)) for times in zip(*rounds, strict=True))
        pictures = [frame.bgr() for frame in frames]
        with Session(workers="process", profiles=[profile]) as session:
            session.query(pictures[0], variant=name)
            answers = [session.query(pictures[i % len(pictures)], variant=name).latency_s for i in range(num)]
        line = {
            "median_s": median_s,
            "p95_s": p95_s,
            "answer_p99_s": float(np.percentile(answers, 99)),
            "cost": median_s * profile.variant.threads,
        }
        known[name] = kept.add((name,), line)
    return known


def show_front(task: str, profiles: Sequence[Profile], oracle: dict[str, dict[str, float]]) -> None:
    """Every variant, those first that no other beats."""
    figures = {profile.variant.name: (oracle[profile.variant.name], agreement(profile)) for profile in profiles}
    print(f"\n{task}: the front of {len(figures)} variants (* nobody beats it)")
    print(f"{'':2}{'variant':<52} {'p95 ms':>8} {'answer p99':>10} {'accuracy':>9} {'core-ms':>8}")
    for name, (cost, right) in sorted(figures.items(), key=lambda item: item[1][0]["cost"]):
        beaten = any(
            other["answer_p99_s"] <= cost["answer_p99_s"]
            and other["cost"] <= cost["cost"]
            and fits >= right
            and there != name
            for there, (other, fits) in figures.items()
        )
        print(
            f"{'' if beaten else '*':2}{name:<52} {cost['p95_s'] * 1e3:8.2f} "
            f"{cost['answer_p99_s'] * 1e3:10.2f} {right:9.3f} {cost['cost'] * 1e3:8.2f}",
            flush=True,
        )


def sweep(
    task: str,
    profiles: Sequence[Profile],
    oracle: dict[str, dict[str, float]],
    arguments: argparse.Namespace,
    until_s: float,
) -> bool:
    """Ask at every target, live; prints what came of it. Whether all targets were asked."""
    # What a session may choose among decides what it chooses. Its times do, too, but no two measurements are the same.
    asked_of = {profile.variant.name: agreement(profile) for profile in profiles}
    kept = Store(
        arguments.store / f"targets-{task}.jsonl",
        clip=Path(CLIPS[task]).name,
        num=arguments.queries,
        profiles=asked_of,
    )
    known: dict[tuple[float, float], dict[str, Any]] = {}
    right = {profile.variant.name: agreement(profile) for profile in profiles}
    times_ms = np.array([figure["p95_s"] for figure in oracle.values()]) * 1000
    latencies = np.geomspace(times_ms.min() * 1.3 + 2, times_ms.max() * 2 + 4, NUM_LATENCIES).round(1)
    accuracies = np.unique(np.quantile(list(right.values()), np.linspace(0, 1, NUM_ACCURACIES)).round(3) - 0.001)
    accuracies = np.maximum(accuracies, 0.0)
    targets = [(float(latency), round(float(floor), 4)) for latency in latencies for floor in accuracies]
    pictures = [picture.bgr() for picture in frames_of(CLIPS[task], 24, 7)]
    for latency_ms, floor in targets:
        key = (f"{latency_ms:g}", f"{floor:g}")
        if (row := kept.get(key)) is not None:
            known[latency_ms, floor] = row
        if row is not None or time.monotonic() > until_s:
            continue
        with Session(workers="process", profiles=profiles) as session:  # nothing is loaded that an earlier target chose
            line = asked(session, task, latency_ms, floor, pictures, arguments.queries)
        known[latency_ms, floor] = kept.add(key, line)
    report(task, [known[target] for target in targets if target in known], right, oracle, len(targets))
    for sentence in kept.footer():
        print(sentence)
    return len(known) >= len(targets)


def asked(
    session: Session, task: str, latency_ms: float, floor: float, pictures: Sequence[Any], num: int
) -> dict[str, Any]:
    """One target: a query after the other."""
    times_ms: list[float] = []
    variants: dict[str, int] = {}
    refused: dict[str, int] = {}
    for i in range(num):
        try:
            answer = session.query(pictures[i % len(pictures)], task=task, latency_ms=latency_ms, accuracy=floor)
        except QueryRefused as refusal:
            refused[refusal.why] = refused.get(refusal.why, 0) + 1
            if refusal.why == "constraint":
                break
            continue
        times_ms.append(answer.latency_s * 1000)
        variants[answer.variant] = variants.get(answer.variant, 0) + 1
    return {
        "latency_ms": latency_ms,
        "accuracy": floor,
        "variants": variants,
        "refused": refused,
        "p95_ms": float(np.percentile(times_ms, 95)) if times_ms else None,
        "late": sum(ms > latency_ms for ms in times_ms),
        "answered": len(times_ms),
    }


def report(
    task: str,
    targets: Sequence[dict[str, Any]],
    right: dict[str, float],
    oracle: dict[str, dict[str, float]],
    num_targets: int,
) -> None:
    """Each target that counts, and what they come to."""
    print(f"\n{task}: {len(targets)} of {num_targets} targets asked")
    print(
        f"{'latency':>9} {'accuracy':>9}  {'chosen most':<50} {'p95 ms':>8} {'right':>6} {'broken':>7} "
        f"{'cost/oracle':>12}"
    )
    counted = near = refused_wrongly = 0
    broken = {True: 0, False: 0}  # by whether the target counts
    for line in targets:
        feasible = {
            name: figure["cost"]
            for name, figure in oracle.items()
            if figure["answer_p99_s"] * 1000 <= line["latency_ms"] and right[name] >= line["accuracy"]
        }
        if not line["variants"]:
            refused_wrongly += bool(feasible)
            text = "refused" + (f", though {min(feasible, key=feasible.__getitem__)} fits" if feasible else "")
            print(f"{line['latency_ms']:9.1f} {line['accuracy']:9.3f}  {text}")
            continue
        chosen = max(line["variants"], key=line["variants"].__getitem__)
        wrong = sum(number for name, number in line["variants"].items() if right[name] < line["accuracy"])
        refused = sum(line["refused"].values())
        share = (line["late"] + wrong + refused) / (line["answered"] + refused)
        counts = len(feasible) > 1 and max(feasible.values()) > SPREAD * min(feasible.values())
        broken[counts] += share > 0.01
        ratio = mean_cost(line["variants"], oracle) / min(feasible.values()) if feasible else float("nan")
        if counts:
            counted += 1
            near += ratio <= NEAR
        print(
            f"{line['latency_ms']:9.1f} {line['accuracy']:9.3f}  {chosen:<50} {line['p95_ms']:8.2f} "
            f"{right[chosen]:6.3f} {share:7.1%} {ratio:12.2f}{'' if counts else '  (does not count)'}"
        )
    print(
        f"{task}: within {NEAR - 1:.0%} of the oracle's cost at {near} of {counted} targets that count"
        f" ({near / max(counted, 1):.0%}); a constraint broken by more than 1 % of queries at {broken[True]} of them"
        f" and at {broken[False]} others; refused though something fits at {refused_wrongly}",
        flush=True,
    )


def mean_cost(variants: Mapping[str, int], oracle: Mapping[str, Mapping[str, float]]) -> float:
    """Of an answer, core-seconds: over all answers, each at what its variant costs."""
    return sum(number * oracle[name]["cost"] for name, number in variants.items()) / sum(variants.values())


def agreement(profile: Profile) -> float:
    """How much the variant agrees with the best of its task."""
    return next((figure.value for figure in profile.accuracy if figure.kind == "agreement"), 0.0)


if __name__ == "__main__":
    sys.exit(main())
