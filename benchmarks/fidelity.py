"""How near a simulated run comes to the run itself: `python -m benchmarks.fidelity [--input CLIP] [--pipelines ...]`.

For every pipeline three things are run for real: a short calibration with one worker (what each stage takes, item by
item, and what reading and writing a frame takes of the processor), the whole clip as fast as it goes, and the clip at
its own pace. The last two are then simulated: the same plan, through the same control, with the calibration's times on
as many cores as there are. Stages with a model take their median from the catalogue where it has the variant. Printed
are throughput and reserved cost of the first, and latencies of the second, live and simulated.

Live runs are disturbed by whatever else the machine does: run it alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import msgspec

from llamapipe.clock import system_env
from llamapipe.control import LogEntry, RunPlan, read_log
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.inference import open_catalogue
from llamapipe.runtime import read_machine
from llamapipe.sim import SimResult, SourceTrace, WorldProfile, profile_of_log, simulate

PIPELINES = ("people", "blur-faces", "traffic", "vintage", "denoise", "toonify")
CALIBRATION = 120  # frames
WITHIN = 0.15


@dataclass(frozen=True)
class Calibration:
    """What a frame takes, seconds of one core."""

    samples_s: dict[str, list[float]]  # by stage, an item each
    decode_s: float
    rest_s: float  # the engine's and the sinks'
    start_s: float  # from enter until workers are ready


def live(pipeline: str, clip: Path, folder: Path, *flags: str) -> tuple[dict[str, Any], RunPlan, list[LogEntry]]:
    """Run it, and read what it wrote."""
    command = [sys.executable, "-m", "llamapipe", "run", pipeline, "-i", str(clip), "-o", str(folder), "--events", "-q"]
    ended = subprocess.run([*command, "--force", *flags], check=False, capture_output=True, text=True)
    if ended.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr}")
    plan, entries = read_log((folder / "events.jsonl").read_bytes().splitlines())
    return json.loads((folder / "run.json").read_text()), plan, list(entries)


def calibrate(pipeline: str, clip: Path, folder: Path) -> Calibration:
    """Two runs of different length: what they differ in is what frames take, loading left out."""
    short, _, _ = live(pipeline, clip, folder / "short", "--workers", "1", "--max-frames", str(CALIBRATION // 3))
    long, _, entries = live(pipeline, clip, folder / "long", "--workers", "1", "--max-frames", str(CALIBRATION))
    frames = long["frames"]["decoded"] - short["frames"]["decoded"]
    busy_s = sum(s["busy_s"] for s in long["stages"]) - sum(s["busy_s"] for s in short["stages"])
    around_s = max(0.0, long["cpu_s"] - short["cpu_s"] - busy_s) / max(1, frames)
    decode_s = min(decoding_s(clip), around_s)
    return Calibration(samples(entries), decode_s, around_s - decode_s, long["load_s"])


def samples(entries: list[LogEntry]) -> dict[str, list[float]]:
    """What each item took, without the first few: they warm up."""
    sent: dict[int, act.Dispatch] = {}
    found: dict[str, list[float]] = {}
    for entry in entries:
        if isinstance(entry.event, ev.InvocationDone) and entry.event.invocation in sent:
            dispatch = sent.pop(entry.event.invocation)
            found.setdefault(dispatch.stage, []).extend(
                [entry.event.busy_s / len(dispatch.items)] * len(dispatch.items)
            )
        for action in entry.actions:
            if isinstance(action, act.Dispatch):
                sent[action.invocation] = action
    return {stage: times[min(5, len(times) // 2) :] for stage, times in found.items()}


def decoding_s(clip: Path) -> float:
    """Processor time of one frame's decoding."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        begun_s, count = time.process_time(), 0
        for count, _ in enumerate(container.decode(stream), 1):
            if count >= CALIBRATION:
                break
        return (time.process_time() - begun_s) / max(1, count)


def from_catalogue(plan: RunPlan, found: dict[str, list[float]]) -> dict[str, list[float]]:
    """The samples of stages with a model, moved to the median that the catalogue knows of it."""
    env = system_env()
    scaled = dict(found)
    with open_catalogue(env) as catalogue:
        for stage in plan.stages:
            variant = stage.configuration.variant
            profile = catalogue.profile(variant.name) if variant is not None else None
            if profile is not None and profile.points and found.get(stage.name):
                factor = profile.point(1).median_s / statistics.median(found[stage.name])
                scaled[stage.name] = [factor * sample for sample in found[stage.name]]
    return scaled


def simulated(plan: RunPlan, entries: list[LogEntry], known: Calibration, cores: float, fps: float) -> SimResult:
    """The same plan in virtual time."""
    world = profile_of_log(plan, entries)
    paced = plan.streams[0].paced
    sources = {
        name: SourceTrace(
            tuple(known.start_s + pts_s - trace.pts_s[0] for pts_s in trace.pts_s) if paced else trace.pts_s,
            decode_s=known.decode_s,
            paced=paced,
            undecodable=trace.undecodable,
        )
        for name, trace in world.sources.items()
    }
    return simulate(
        plan,
        WorldProfile(
            service_s=world.service_s,
            samples_s=from_catalogue(plan, known.samples_s),
            sources=sources,
            load_s=world.load_s,
            sink_s=known.rest_s,
            outcomes=world.outcomes,
            cores=cores,
        ),
    )


def quantile(values: list[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--pipelines", default=",".join(PIPELINES))
    parser.add_argument("--json", type=Path, help="add the figures here; pipelines that are there are left out")
    arguments = parser.parse_args()
    machine = read_machine()
    known = json.loads(arguments.json.read_text()) if arguments.json is not None and arguments.json.exists() else {}
    names = [name for name in arguments.pipelines.split(",") if name not in known]
    for pipeline in names:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            calibration = calibrate(pipeline, arguments.input, folder)
            fast, fast_plan, fast_entries = live(pipeline, arguments.input, folder / "fast")
            slow, slow_plan, slow_entries = live(pipeline, arguments.input, folder / "slow", "--realtime")
        fps = fast["streams"][0]["fps"] or 25.0
        fast_sim = simulated(fast_plan, fast_entries, calibration, machine.cores, fps)
        slow_sim = simulated(slow_plan, slow_entries, calibration, machine.cores, fps)
        running_s = fast_sim.wall_s - max(fast_plan_load(fast_entries), 0.0)
        cores = min(machine.cores, len(fast_plan.workers) + 1.0)
        known[pipeline] = {
            "fps": (fast["fps"], fast["frames"]["delivered"] / running_s),
            "core-s": (fast["cost_core_s"], cores * fast_sim.wall_s),
            "p50 ms": (slow["latency_ms"]["p50"], 1000 * quantile(slow_sim.latencies_s, 0.5)),
            "p95 ms": (slow["latency_ms"]["p95"], 1000 * quantile(slow_sim.latencies_s, 0.95)),
        }
        show(pipeline, known[pipeline], header=pipeline == names[0])
        if arguments.json is not None:
            arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(known), indent=1))
    errors = [abs(sim / real - 1) for row in known.values() for real, sim in row.values() if real]
    print(f"\n{sum(error <= WITHIN for error in errors)} of {len(errors)} figures within {WITHIN:.0%}")
    return int(any(error > WITHIN for error in errors))


def fast_plan_load(entries: list[LogEntry]) -> float:
    """When the run's own first invocation was sent, on the simulation's clock: after the longest load."""
    loads = [entry.event.load_s for entry in entries if isinstance(entry.event, ev.ReplicaLoaded)]
    return max(loads, default=0.0)


def show(pipeline: str, row: dict[str, tuple[float, float]], *, header: bool) -> None:
    if header:
        print("| pipeline | " + " | ".join(f"{name} live | simulated |" for name in row))
        print("|---|" + "--:|--:|" * len(row))
    cells = " | ".join(f"{real:.1f} | {sim:.1f} ({sim / real - 1:+.0%})" for real, sim in row.values())
    print(f"| {pipeline} | {cells} |", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
