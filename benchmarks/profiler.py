"""How well the profiler predicts what it does not measure: a full sweep of its grid, twice, beside its predictions.

    python -m benchmarks.profiler [--task person-detection] [--store out/profiler.jsonl] [--for-s 150]

The sweep is done in pieces: each call measures for ``--for-s`` seconds and stores every point as it comes; called again
it goes on. The order is shuffled, a variant at a time, so that a slow minute of the machine hits no model alone. When
all is there the errors are printed: predictions from what the profiler asks for (measured on their own, in processes of
their own) against the mean of the sweeps, for the points that it did not measure; and, as the measure of what can be
expected, a sweep against that same mean, which is half of what the two sweeps differ by.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.store import Key, Row, Store
from llamapipe.catalog import Variant
from llamapipe.clock import system_env
from llamapipe.inference import AssetStore, cache_root
from llamapipe.inference.measuring import Care, Measurement, measure
from llamapipe.inference.models import find_models
from llamapipe.inference.profiler import Candidate, Measure, candidates
from llamapipe.media import sample_frames
from llamapipe.tune import Figures, GridPoint, ProfileSearch

CLIP = "bikes.mp4"
SWEEPS = ("sweep 1", "sweep 2")


class Points:
    """Measured points of rounds: the two sweeps, and what the profiler asks for. ``asked`` is of the latter alone."""

    def __init__(self, store: Store, **asked: Any) -> None:
        self.store = store
        self._asked = asked

    def add(self, variant: Variant, round_: str, measurement: Measurement) -> None:
        """Store it, unless others disturbed it: then the next call measures it again."""
        if measurement.foreign > 0.05:
            return
        point = {
            "error": measurement.error,
            "median_s": measurement.median_s if measurement.seconds else None,
            "p95_s": measurement.p95_s if measurement.seconds else None,
            "core_s": measurement.core_s,
            "load_s": measurement.load_s,
            "peak_memory_bytes": measurement.peak_memory_bytes,
            "count": len(measurement.seconds),
            "foreign": measurement.foreign,
        }
        self.store.add(_key(variant, measurement.batch, round_), point, **self._of(round_))

    def get(self, variant: Variant, batch: int, round_: str) -> Row | None:
        """None where it was not measured yet."""
        return self.store.get(_key(variant, batch, round_), **self._of(round_))

    def is_none(self, variant: Variant, batch: int) -> bool:
        """Whether the batch was said not to exist: by this variant, or another of the model and library."""
        return batch > 1 and any(
            row["error"]
            and row["key"][2] == str(batch)
            and row["key"][1].split("/")[:2] == [variant.model, variant.backend]
            for row in self.store.rows()
        )

    def measurement(self, variant: Variant, batch: int, round_: str) -> Figures:
        """Raises KeyError for what was not measured."""
        p = self.get(variant, batch, round_)
        if p is None:
            raise KeyError(variant.name)
        return Figures(p["median_s"], p["p95_s"], p["core_s"], p["load_s"], p["peak_memory_bytes"], p["count"])

    def median_s(self, variant: Variant, batch: int, round_: str) -> float | None:
        point = self.get(variant, batch, round_)
        return None if point is None else point["median_s"]

    def _of(self, round_: str) -> dict[str, Any]:
        return {} if round_ in SWEEPS else self._asked


def _key(variant: Variant, batch: int, round_: str) -> Key:
    return (round_, variant.name, str(batch))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="person-detection")
    parser.add_argument("--store", type=Path, default=Path("out/profiler.jsonl"))
    parser.add_argument("--for-s", type=float, default=150.0, help="stop measuring after this many seconds")
    parser.add_argument("--share", type=float, default=0.15)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    until_s = time.monotonic() + arguments.for_s
    care = Care(least_s=0.25, least_calls=5, most_s=1.5)
    kept = Store(arguments.store, clip=CLIP, care=care)
    # What the profiler asks for hangs on what it was told: the same points are measured again where that is another.
    store = Points(kept, task=arguments.task, share=arguments.share, seed=arguments.seed)
    env = system_env()
    assets = AssetStore(cache_root(env), env=env)
    frames = sample_frames(assets.pull(CLIP))
    found = [c for model in find_models(arguments.task) for c in candidates(model)]
    measured = partial(measure, frames=frames, assets=assets, env=env, care=care)
    if not sweep("sweep 1", found, store, until_s, measured):
        return not_done(store, found)
    grid = [(c.variant, batch) for c in found for batch in c.batches if store.median_s(c.variant, batch, "sweep 1")]
    search = ProfileSearch(grid, share=arguments.share, seed=arguments.seed)
    while (asked := search.ask()) is not None:
        variant, batch = asked
        while store.get(variant, batch, "asked") is None:
            if time.monotonic() > until_s:
                return not_done(store, found)
            for measurement in measured(variant, [batch]):
                store.add(variant, "asked", measurement)
        search.tell(variant, batch, store.measurement(variant, batch, "asked"))
    done = sweep("sweep 2", found, store, until_s, measured)
    report(search, store, grid)
    for line in kept.footer():
        print(line)
    return 0 if done else not_done(store, found)


def sweep(round_: str, found: Sequence[Candidate], store: Points, until_s: float, measured: Measure) -> bool:
    """Measure what is left of a round; whether nothing is left."""
    for at in np.random.default_rng(int(round_[-1])).permutation(len(found)):
        variant, left = found[at].variant, missing(found[at], round_, store)
        for measurement in measured(variant, left) if left else ():
            store.add(variant, round_, measurement)
            if time.monotonic() > until_s:
                return False
    return not any(missing(candidate, round_, store) for candidate in found)


def missing(candidate: Candidate, round_: str, store: Points) -> list[int]:
    variant = candidate.variant
    return [b for b in candidate.batches if store.get(variant, b, round_) is None and not store.is_none(variant, b)]


def not_done(store: Points, found: Sequence[Candidate]) -> int:
    total = sum(len([b for b in c.batches if not store.is_none(c.variant, b)]) for c in found)
    print(f"{len(store.store.rows())} points are stored, a sweep has {total}; call again to go on")
    return 3


def half_difference(first: float, second: float) -> float:
    """Of two sweeps, relative to their mean: how far a measurement is from what predictions are compared with."""
    return (second - first) / (second + first)


def report(search: ProfileSearch, store: Points, grid: Sequence[GridPoint]) -> None:
    predicted = search.predict()
    rest = [point for point in grid if point not in search.measured]

    def swept(point: GridPoint) -> list[float]:
        return [s for r in SWEEPS if (s := store.median_s(*point, r)) is not None]

    print(f"{len(search.measured)} of {len(grid)} points measured ({len(search.measured) / len(grid):.1%})\n")
    print("| latency, relative | points | median | p95 | max |\n|---|--:|--:|--:|--:|")

    def row(name: str, errors: Sequence[float]) -> None:
        if errors:
            found = np.abs(errors)
            middle, tail, worst = np.median(found), np.percentile(found, 95), np.max(found)
            print(f"| {name} | {len(found)} | {middle:.1%} | {tail:.1%} | {worst:.1%} |")

    def errors(points: Sequence[GridPoint]) -> list[float]:
        return [predicted[p].median_s / float(np.mean(swept(p))) - 1 for p in points]

    row("predicted, not measured", errors(rest))
    row("all of the grid", errors(grid))
    twice = [swept(p) for p in grid if len(swept(p)) == 2]
    row("a sweep against the mean of both", [half_difference(first, second) for first, second in twice])
    row("measured by the profiler, against the sweeps", errors([point for point in grid if point in search.measured]))
    for model in dict.fromkeys(variant.model for variant, _ in grid):
        row(f"predicted, {model}", errors([point for point in rest if point[0].model == model]))
    outside = [abs(np.log(1 + e)) / predicted[p].deviation for p, e in zip(rest, errors(rest), strict=True)]
    print(f"\nwithin two of its own deviations: {np.mean(np.array(outside) <= 2):.0%} of predictions")
    print("\nthe worst:")
    for point in sorted(rest, key=lambda p: -abs(errors([p])[0]))[:8]:
        variant, batch = point
        print(
            f"  {variant.name} batch {batch}: predicted {predicted[point].median_s * 1e3:.2f} ms"
            f" (deviation {predicted[point].deviation:.1%}), sweeps "
            + ", ".join(f"{s * 1e3:.2f}" for s in swept(point))
        )


if __name__ == "__main__":
    sys.exit(main())
