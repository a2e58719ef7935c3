"""How many streams one machine serves: 25 frames a second each, FastestDet, p95 under 200 ms, nothing dropped.

    python -m benchmarks.streams VIDEO MODEL.onnx [--from 4] [--to 24] [--loop 2]

Every stream is the same video, paced at its own rate. For each number of streams the hand-written program and llamapipe
run one after the other; a program is out when it has missed the bound twice at a number. The largest number that each
held is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

BOUND_MS = 200.0
TRIES = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("model", type=Path, help="FastestDet.onnx")
    parser.add_argument("--from", type=int, default=4, dest="first")
    parser.add_argument("--to", type=int, default=32)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--loop", type=int, default=2, help="passes over the video in each run")
    parser.add_argument("--programs", default="handwritten,thread")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    alive = arguments.programs.split(",")
    held = dict.fromkeys(alive, 0)
    record = []
    with tempfile.TemporaryDirectory() as folder:
        for count in range(arguments.first, arguments.to + 1, arguments.step):
            for name in list(alive):
                for attempt in range(TRIES):
                    figures = run(name, arguments, count, Path(folder) / f"{name}-{count}-{attempt}")
                    record.append({"program": name, "streams": count, **figures})
                    good = figures["p95_ms"] <= BOUND_MS and not figures["lost"]
                    print(
                        f"{count:>3} streams  {name:<12} p95 {figures['p95_ms']:7.1f} ms  lost {figures['lost']:.0f}  "
                        f"CPU {figures['cpu_ms']:.2f} ms a frame  {'held' if good else 'missed'}",
                        flush=True,
                    )
                    if good:
                        held[name] = count
                        break
                else:
                    alive.remove(name)
            if not alive:
                break
    for name, count in held.items():
        print(f"{name}: {count} streams")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"held": held, "runs": record}, indent=1))
    return 0


def run(name: str, arguments: argparse.Namespace, streams: int, output: Path) -> dict[str, float]:
    """p95_ms, lost frames, cpu_ms a frame."""
    output.mkdir(parents=True)
    if name == "handwritten":
        command = [sys.executable, "-m", "benchmarks.handwritten.streams", str(arguments.video), str(arguments.model)]
        command += [str(output), "--streams", str(streams), "--loop", str(arguments.loop)]
        figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return {"p95_ms": figures["p95_ms"], "lost": 0, "cpu_ms": figures["cpu_s"] / figures["frames"] * 1000}
    pipeline = Path(__file__).parent / "detect-fast.yaml"
    command = [sys.executable, "-m", "llamapipe", "run", str(pipeline), "-o", str(output), "--realtime", "-q"]
    command += ["--workers", name, "--loop", str(arguments.loop), "--drop-policy", "drop-oldest"]
    for _ in range(streams):
        command += ["-i", str(arguments.video)]
    subprocess.run(command, check=True, env={**os.environ, "LLAMAPIPE_ASSET_MIRROR": str(arguments.model.parent)})
    summary = json.loads((output / "run.json").read_text())
    frames = summary["frames"]
    return {
        "p95_ms": summary["latency_ms"]["p95"],
        "lost": frames["decoded"] - frames["delivered"],
        "cpu_ms": summary["cpu_s"] / frames["decoded"] * 1000,
    }


if __name__ == "__main__":
    sys.exit(main())
