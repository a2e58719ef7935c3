"""Frames a second of `llamapipe run` against programs written by hand for the same job.

    python -m benchmarks.throughput VIDEO MODEL.onnx [--rounds 5] [--backend onnxruntime]

The job: objects by YOLOX-nano (416 x 416, fp32) in every frame, JSON lines out. Every program runs in a process of its
own, the rounds are interleaved, and ratios are taken within a round: the machine's mood cancels out. Before the
timing, every program's boxes are compared with the naive program's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

SURE = 0.35  # boxes this sure must be found by all: clear of the threshold of 0.3
NEAR_PX = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("model", type=Path, help="yolox_nano.onnx")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        programs = {
            "naive": lambda out: _by_hand("naive", arguments, out),
            "best": lambda out: _by_hand("best", arguments, out),
            "llamapipe": lambda out: _llamapipe(arguments, out),
        }
        found: dict[str, dict[int, list[dict[str, object]]]] = {}
        for name, program in programs.items():
            output = Path(folder) / f"{name}-check"
            program(output)
            found[name] = _boxes(output)
        for name in ("best", "llamapipe"):
            share, total = _agreement(found["naive"], found[name])
            print(f"{name}: {share:.2%} of the naive program's {total} sure boxes within {NEAR_PX:g} px")
            if share < 0.98 or len(found[name]) != len(found["naive"]):
                print(f"{name}: the outputs differ, so no times are taken", file=sys.stderr)
                return 1
        rounds: list[dict[str, dict[str, float]]] = []
        for i in range(arguments.rounds):
            figures = {}
            for name, program in programs.items():
                figures[name] = program(Path(folder) / f"{name}-{i}")
            rounds.append(figures)
            print("  ".join(f"{name} {f['fps']:6.1f} fps" for name, f in figures.items()), flush=True)
    summary = {
        name: {
            "fps": statistics.median(r[name]["fps"] for r in rounds),
            "cpu_ms_per_frame": statistics.median(r[name]["cpu_ms"] for r in rounds),
            "of_naive": statistics.median(r[name]["fps"] / r["naive"]["fps"] for r in rounds),
            "of_best": statistics.median(r[name]["fps"] / r["best"]["fps"] for r in rounds),
        }
        for name in programs
    }
    print(f"\n{'program':<12}{'frames/s':>10}{'of naive':>10}{'of best':>10}{'CPU ms/frame':>14}")
    for name, row in summary.items():
        print(
            f"{name:<12}{row['fps']:>10.1f}{row['of_naive']:>10.2f}{row['of_best']:>10.2f}{row['cpu_ms_per_frame']:>14.2f}"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"video": arguments.video.name, "rounds": rounds, "median": summary}))
    return 0


def _by_hand(name: str, arguments: argparse.Namespace, output: Path) -> dict[str, float]:
    output.mkdir(parents=True)
    command = [sys.executable, "-m", f"benchmarks.handwritten.{name}", str(arguments.video), str(arguments.model)]
    done = subprocess.run([*command, str(output / "detections.jsonl")], check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout)
    return {
        "fps": figures["frames"] / figures["wall_s"],
        "cpu_ms": figures["cpu_s"] / figures["frames"] * 1000,
        "frames": figures["frames"],
    }


def _llamapipe(arguments: argparse.Namespace, output: Path) -> dict[str, float]:
    """Frames a second from the first frame's dispatch to the last one's commit; start-up is another benchmark's."""
    pipeline = Path(__file__).parent / "detect-objects.yaml"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "llamapipe", "run", str(pipeline), "-i", str(arguments.video), "-o", str(output)]
    command += ["--set", f"detect.backend={arguments.backend}", "-q"]
    subprocess.run(command, check=True, env={**os.environ, "LLAMAPIPE_ASSET_MIRROR": str(arguments.model.parent)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    summary = json.loads((output / "run.json").read_text())
    frames = summary["frames"]["delivered"]
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"fps": summary["fps"], "cpu_ms": cpu_s / frames * 1000, "frames": frames}


def _boxes(output: Path) -> dict[int, list[dict[str, object]]]:
    lines = (json.loads(line) for line in (output / "detections.jsonl").read_text().splitlines())
    return {line["frame"]: line["items"] for line in lines}


def _agreement(
    reference: dict[int, list[dict[str, object]]], other: dict[int, list[dict[str, object]]]
) -> tuple[float, int]:
    """(share of the reference's sure boxes that the other has, how many there are)."""
    hits = misses = 0
    for frame, items in reference.items():
        candidates = np.array([item["box"] for item in other.get(frame, [])], float).reshape(-1, 4)
        for item in items:
            if float(str(item["score"])) < SURE:
                continue
            near = len(candidates) and np.abs(candidates - np.array(item["box"])).max(1).min() <= NEAR_PX
            hits, misses = hits + bool(near), misses + (not near)
    return (hits / (hits + misses) if hits + misses else 1.0), hits + misses


if __name__ == "__main__":
    sys.exit(main())
