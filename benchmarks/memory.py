"""What memory a long run takes, against a short one: `--loop 20` and one pass of the same clip.

    python -m benchmarks.memory [--input sample:bikes] [--pipeline people] [--loop 20] [--workers 2,process:2]

Memory is the proportional set size (PSS) of every process of the run, so that what they share counts once, and what
lies in files in memory (the picture slots) counts where it is mapped. It is read from smaps_rollup five times a second.
Printed are the median of the last half of each run and the greatest of all of it; compared are the greatest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.injection import children, start

EVERY_S = 0.2


@dataclass
class Usage:
    """Of one run, in MB."""

    workers: str
    loop: int
    median_mb: float  # of the last half
    peak_mb: float
    shared_mb: float  # greatest share of memory files among it
    processes: int
    wall_s: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", default="sample:bikes")
    parser.add_argument("--pipeline", default="people")
    parser.add_argument("--loop", type=int, default=20)
    parser.add_argument("--workers", default="2,process:2")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    usages = []
    worst = 0.0
    print(
        "| workers | passes | median | peak | of it picture slots | processes | wall |\n|---|--:|--:|--:|--:|--:|--:|"
    )
    for workers in arguments.workers.split(","):
        pair = [measure(arguments.pipeline, arguments.input, workers, loop) for loop in (1, arguments.loop)]
        usages += pair
        for usage in pair:
            print(
                f"| {workers} | {usage.loop} | {usage.median_mb:.0f} MB | {usage.peak_mb:.0f} MB "
                f"| {usage.shared_mb:.0f} MB | {usage.processes} | {usage.wall_s:.1f} s |",
                flush=True,
            )
        worst = max(worst, pair[1].peak_mb / pair[0].peak_mb - 1)
    print(f"\n{arguments.loop} passes take {worst:+.1%} at the peak, at most")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(usage) for usage in usages], indent=1))
    return int(worst > 0.1)


def measure(pipeline: str, source: str, workers: str, loop: int) -> Usage:
    """Run it and look."""
    with tempfile.TemporaryDirectory() as folder:
        began_s = time.monotonic()
        run = start(pipeline, Path(folder), "-i", source, "--workers", workers, "--loop", str(loop), events=False)
        samples: list[tuple[float, float, int]] = []
        while run.poll() is None:
            samples.append(_tree_mb(run.pid))
            time.sleep(EVERY_S)
        if run.returncode:
            raise SystemExit(f"the run ended with {run.returncode}")
        wall_s = time.monotonic() - began_s
    last = samples[len(samples) // 2 :]
    return Usage(
        workers,
        loop,
        statistics.median(total for total, _, _ in last),
        max(total for total, _, _ in samples),
        max(shared for _, shared, _ in samples),
        max(number for _, _, number in samples),
        wall_s,
    )


def _tree_mb(pid: int) -> tuple[float, float, int]:
    """(PSS, of it in memory files, processes) of a process and all below."""
    total = shared = 0
    left, number = [pid], 0
    while left:
        one = left.pop()
        left += children(one)
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        sizes = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
        total += sizes["Pss:"]
        shared += sizes.get("Pss_Shmem:", 0)
        number += 1
    return total / 1024, shared / 1024, number


if __name__ == "__main__":
    sys.exit(main())
