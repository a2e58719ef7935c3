"""Frames a second of `llamapipe run` against programs written by hand for the same job.

    python -m benchmarks.throughput VIDEO MODEL.onnx [--rounds 5] [--job lines|video] [--loop 10] [--end SECONDS]

The job: objects by YOLOX-nano (416 x 416, fp32) in every frame, JSON lines out; with ``--job video`` the boxes drawn
into an H.264 file as well, encoded with the same settings by all. Every program runs in a process of its own, the
rounds are interleaved, and ratios are taken within a round: the machine's mood cancels out. Before the timing, every
program's boxes are compared with the naive program's. Every line is printed as soon as its program has ended. A round
takes (loop + 1) passes of each program: ``--end`` shortens the video where that is more than there is time for.

frames/s leaves start-up out (from the first frame's work to the last one's end). CPU a frame is what one frame more
costs: each program also runs over one pass of the video, and the difference is taken. Start-up takes a second of CPU
and differs by a tenth of that from run to run, which over five hundred frames more is 0.2 ms of each: so the passes are
many. "first" is from the start of the run to the first frame written; llamapipe's has interpreter and imports in it,
the hand-written ones' has not. For llamapipe it is read from the event log of a run of its own in every round, which
has no other use: logging costs a little, and what is timed by the other runs is without it.
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
import time
from pathlib import Path

import numpy as np

from benchmarks.injection import Log

SURE = 0.35  # boxes this sure must be found by all: clear of the threshold of 0.3
NEAR_PX = 2.0
ENCODER = {"preset": "ultrafast", "x264-params": "cabac=1:deblock=0,0:8x8dct=1:bframes=3:b-adapt=0", "crf": "23"}
BY_HAND = ("naive", "best")
PROGRAMS = (*BY_HAND, "thread", "process")
FIRST_FRAMES = 30  # of a run that is started for its first one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("model", type=Path, help="yolox_nano.onnx")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop", type=int, default=10, help="passes over the video in each timed run")
    parser.add_argument("--end", type=float, metavar="SECONDS", help="look at the video's beginning only")
    parser.add_argument("--job", choices=("lines", "video"), default="lines")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--processes", type=int, default=0, help="worker processes; 0: llamapipe's own choice")
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    names = arguments.programs.split(",")
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name in dict.fromkeys(["naive", *names]):
            output = Path(folder) / f"{name}-check"
            run(name, arguments, output, 1)
            found[name] = _boxes(output)
            share, total = _agreement(found["naive"], found[name])
            print(
                f"{name}: {share:.2%} of the naive program's {total} sure boxes within {NEAR_PX:g} px, "
                f"{len(found[name])} frames",
                flush=True,
            )
            if share < 0.98 or len(found[name]) != len(found["naive"]):
                print(f"{name}: the outputs differ, so no times are taken", file=sys.stderr)
                return 1
        rounds: list[dict[str, dict[str, float]]] = []
        for i in range(arguments.rounds):
            figures = {}
            for name in names:
                short = run(name, arguments, Path(folder) / f"{name}-{i}-short", 1)
                long = run(name, arguments, Path(folder) / f"{name}-{i}", arguments.loop)
                if name in BY_HAND:
                    long.setdefault("first_s", float("nan"))
                else:
                    long["first_s"] = first_s(name, arguments, Path(folder) / f"{name}-{i}-first")
                extra = long["frames"] - short["frames"]
                long["cpu_ms"] = (long["cpu_s"] - short["cpu_s"]) / extra * 1000 if extra else float("nan")
                figures[name] = long
                print(f"{i + 1}: {name:<8} {long['fps']:6.1f} frames/s {long['cpu_ms']:6.2f} ms a frame", flush=True)
            rounds.append(figures)
    summary = {name: _summary(name, rounds) for name in names}
    print(
        f"\n{'program':<10}{'frames/s':>10}{'of naive':>10}{'of best':>10}{'CPU ms/frame':>14}{'over best':>11}"
        f"{'first s':>9}"
    )
    for name, row in summary.items():
        print(
            f"{name:<10}{row['fps']:>10.1f}{row['of_naive']:>10.2f}{row['of_best']:>10.2f}{row['cpu_ms']:>14.2f}"
            f"{row['over_best_ms']:>11.2f}{row['first_s']:>9.2f}"
        )
    if arguments.json is not None:
        record = {"video": arguments.video.name, "job": arguments.job, "rounds": rounds, "median": summary}
        arguments.json.write_text(json.dumps(record, indent=1))
    return 0


def _summary(name: str, rounds: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    def median(of: list[float]) -> float:
        return statistics.median(of) if of else float("nan")

    return {
        "fps": median([r[name]["fps"] for r in rounds]),
        "of_naive": median([r[name]["fps"] / r["naive"]["fps"] for r in rounds if "naive" in r]),
        "of_best": median([r[name]["fps"] / r["best"]["fps"] for r in rounds if "best" in r]),
        "cpu_ms": median([r[name]["cpu_ms"] for r in rounds]),
        "over_best_ms": median([r[name]["cpu_ms"] - r["best"]["cpu_ms"] for r in rounds if "best" in r]),
        "first_s": median([r[name]["first_s"] for r in rounds]),
    }


def run(name: str, arguments: argparse.Namespace, output: Path, loop: int) -> dict[str, float]:
    """Run one program; frames, fps, cpu_s (of the process and its children); first_s of those by hand that tell."""
    if name in BY_HAND:
        return _by_hand(name, arguments, output, loop)
    return _llamapipe(name, arguments, output, loop)


def _by_hand(name: str, arguments: argparse.Namespace, output: Path, loop: int) -> dict[str, float]:
    output.mkdir(parents=True)
    command = [sys.executable, "-m", f"benchmarks.handwritten.{name}", str(arguments.video), str(arguments.model)]
    command += [str(output / "detections.jsonl"), "--loop", str(loop), *_end(arguments)]
    if arguments.job == "video":
        command += ["--annotated", str(output / "annotated.mp4"), "--encoder", json.dumps(ENCODER)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures = json.loads(done.stdout)
    return {**figures, "fps": figures["frames"] / figures["wall_s"]}


def _llamapipe(workers: str, arguments: argparse.Namespace, output: Path, loop: int) -> dict[str, float]:
    command = [*_command(workers, arguments, output), "--loop", str(loop), *_end(arguments)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, env=_env(arguments))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    summary = json.loads((output / "run.json").read_text())
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"frames": summary["frames"]["delivered"], "fps": summary["fps"], "cpu_s": cpu_s}


def first_s(workers: str, arguments: argparse.Namespace, output: Path) -> float:
    """From the start of the process to when some sink had the first frame. Both are read from the same clock."""
    began_s = time.monotonic()
    command = [*_command(workers, arguments, output), "--max-frames", str(FIRST_FRAMES), "--events"]
    subprocess.run(command, check=True, env=_env(arguments))
    return next(t for _, t, _ in Log.of(output).events("Committed")) - began_s


def _env(arguments: argparse.Namespace) -> dict[str, str]:
    return {**os.environ, "LLAMAPIPE_ASSET_MIRROR": str(arguments.model.parent)}


def _command(workers: str, arguments: argparse.Namespace, output: Path) -> list[str]:
    pipeline = Path(__file__).parent / ("detect-objects.yaml" if arguments.job == "lines" else "detect-and-draw.yaml")
    if workers == "process" and arguments.processes:
        workers = f"process:{arguments.processes}"
    command = [sys.executable, "-m", "llamapipe", "run", str(pipeline), "-i", str(arguments.video), "-o", str(output)]
    return [*command, "--set", f"detect.backend={arguments.backend}", "--workers", workers, "-q"]


def _end(arguments: argparse.Namespace) -> list[str]:
    return [] if arguments.end is None else ["--end", str(arguments.end)]


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
