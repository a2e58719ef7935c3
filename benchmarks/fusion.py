"""CPU a frame of pipelines whose chains of cheap stages are run in one invocation, against stage by stage.

    python -m benchmarks.fusion CLIPS [--rounds 5] [--loop 3] [--end SECONDS] [--workers thread] [--pipelines NAMES]

CLIPS is the folder with the sample clips and models. Every run is a process of its own; fused and unfused runs are
interleaved, and the saving is taken within a round: the machine's mood cancels out. As in `benchmarks.throughput`, CPU
a frame is what one frame more costs: the difference of a run over several passes of the clip and of one over a single
pass, which leaves start-up out. What both write is compared byte by byte first. "chains" are invocations that ran
more than one stage, of all.

    pass        three stages that give the picture on, video
    looks       resize to 384, vintage, toonify, video
    clean       resize to 384, vintage, denoise by median (which remembers, so that the chain is two), video
    blur-faces  the ready pipeline
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from llamapipe.spec import OpSpec, PipelineSpec, SinkSpec, dump_yaml

CARS, STREET = "car-detection.mp4", "TUD-Stadtmitte.mp4"
OPERATORS = '''
from llamapipe.data import Image
from llamapipe.operator import operator


@operator("benchmark/pass@v1", inputs={"frames": "frames"}, outputs={"frames": "frames"})
def give_on(frames: Image) -> Image:
    """The picture that came."""
    return frames
'''
ROWS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "pass": [("benchmark/pass@v1", {})] * 3,
    "looks": [("llamapipe/resize@v1", {"width": 384}), ("llamapipe/vintage@v1", {}), ("llamapipe/toonify@v1", {})],
    "clean": [
        ("llamapipe/resize@v1", {"width": 384}),
        ("llamapipe/vintage@v1", {}),
        ("llamapipe/denoise@v1", {"method": "median"}),
    ],
}
SCRIPT = """
import json, resource, sys
from pathlib import Path
from llamapipe.session import RunRequest, run
options = json.loads(sys.argv[1])
options["ops_files"] = [Path(file) for file in options["ops_files"]]
summary = run(RunRequest(output=Path(options.pop("output")), **options))
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
cpu_s = sum(usage.ru_utime + usage.ru_stime for usage in used)
print(json.dumps({"frames": summary.frames.delivered, "cpu_s": cpu_s, "outcome": summary.outcome}))
"""


def in_a_row(name: str) -> PipelineSpec:
    """The pipeline of that name, into a video."""
    before, ops = "$source.frames", []
    for i, (kind, params) in enumerate(ROWS[name]):
        ops.append(OpSpec(name=f"stage{i}", type=kind, inputs={"frames": (before,)}, params=params))
        before = f"$ops.stage{i}.frames"
    sink = SinkSpec(name="video", type="llamapipe/video@v1", inputs=(before,), path="out.mp4")
    return PipelineSpec(name=name, ops=tuple(ops), sinks=(sink,))


class Bench:
    """Runs pipelines, each in a process of its own."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self._arguments = arguments
        self._folder = folder
        self._operators = folder / "operators.py"
        self._operators.write_text(OPERATORS)
        self._number = 0

    def run(self, name: str, *, fuse: bool, loop: int, events: bool = False) -> tuple[dict[str, Any], Path]:
        """Frames and CPU seconds of a run, and its folder."""
        self._number += 1
        output = self._folder / f"{name}-{self._number}"
        pipeline = name
        if name in ROWS:
            pipeline = str(self._folder / f"{name}.yaml")
            Path(pipeline).write_text(dump_yaml(in_a_row(name)))
        options = {
            "pipeline": pipeline,
            "sources": [str(self._arguments.clips / (CARS if name in ROWS else STREET))],
            "output": str(output),
            "ops_files": [str(self._operators)],
            "workers": self._arguments.workers,
            "loop": loop,
            "end_s": self._arguments.end,
            "without": () if fuse else ("fusing",),
            "record_events": events,
        }
        env = {**os.environ, "LLAMAPIPE_ASSET_MIRROR": str(self._arguments.clips), "LLAMAPIPE_PROFILES": "off"}
        command = [sys.executable, "-c", SCRIPT, json.dumps(options)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
        return json.loads(done.stdout.splitlines()[-1]), output

    def cpu_ms(self, name: str, *, fuse: bool) -> float:
        """What one frame more costs."""
        short, _ = self.run(name, fuse=fuse, loop=1)
        long, _ = self.run(name, fuse=fuse, loop=self._arguments.loop)
        return float((long["cpu_s"] - short["cpu_s"]) / (long["frames"] - short["frames"]) * 1000)

    def check(self, name: str) -> str:
        """Compare what both write; how many invocations were chains. Raises SystemExit where they differ."""
        files = []
        for fuse in (False, True):
            _, output = self.run(name, fuse=fuse, loop=1, events=True)
            wanted = [path for path in sorted(output.iterdir()) if path.suffix in (".mp4", ".jsonl")]
            files.append({path.name: path.read_bytes() for path in wanted if path.name != "events.jsonl"})
        if files[0] != files[1]:
            raise SystemExit(f"{name}: the outputs differ, so no times are taken")
        lines = (output / "events.jsonl").read_text().splitlines()[1:]
        sent = [a for line in lines for a in json.loads(line)["actions"] if a["type"] == "Dispatch"]
        return f"{sum('chain' in a for a in sent)} of {len(sent)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop", type=int, default=3, help="passes over the clip in each timed run")
    parser.add_argument("--end", type=float, metavar="SECONDS", help="look at the clip's beginning only")
    parser.add_argument("--workers", default="thread")
    parser.add_argument("--pipelines", default=",".join([*ROWS, "blur-faces"]))
    arguments = parser.parse_args()
    names = arguments.pipelines.split(",")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, Path(folder))
        for name in names:
            chains = bench.check(name)
            alone: list[float] = []
            fused: list[float] = []
            for i in range(arguments.rounds):
                # Which comes first changes from round to round.
                for fuse in (False, True) if i % 2 else (True, False):
                    (fused if fuse else alone).append(bench.cpu_ms(name, fuse=fuse))
                print(f"{i + 1}: {name:<11} {alone[-1]:6.2f} ms a frame, fused {fused[-1]:6.2f}", flush=True)
            saved = statistics.median(a - f for a, f in zip(alone, fused, strict=True))
            ratio = statistics.median(f / a for a, f in zip(alone, fused, strict=True))
            rows.append((name, chains, statistics.median(alone), statistics.median(fused), saved, ratio))
    print(f"\n{'pipeline':<12}{'chains':>14}{'CPU ms/frame':>14}{'fused':>8}{'saved':>8}{'fused/not':>11}")
    for name, chains, alone_ms, fused_ms, saved_ms, ratio in rows:
        print(f"{name:<12}{chains:>14}{alone_ms:>14.2f}{fused_ms:>8.2f}{saved_ms:>8.2f}{ratio:>11.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
