"""How near a simulated run comes to the run itself: `python -m benchmarks.fidelity [--input CLIP] [--pipelines ...]`.

For every pipeline these are run for real: short calibrations with one worker, as fast as it goes and at the clip's pace
(what each stage takes, item by item, what each sink takes for a frame, and what is left of the processor's time), the
clip three times over as fast as it goes, and once at its own pace. The last two are then simulated: the same plan,
through the same control, with the calibration's times on as many cores as there are. Stages with a model take their
median from the catalogue where it has the variant. Printed are throughput and reserved cost of the first, and latencies
of the second, live and simulated. The cost is made of the throughput, the frames and the cores that there are, so it is
printed and does not count as a figure of its own. With --json every pipeline is kept as it comes.

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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from benchmarks.store import Store
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
INDEPENDENT = ("fps", "p50 ms", "p95 ms")  # figures of which none follows from another


Figures = dict[str, tuple[float, float]]
"""By name: live, simulated."""


@dataclass(frozen=True)
class Calibration:
    """What a frame takes, seconds of one core."""

    samples_s: dict[str, list[float]]  # by stage, an item each
    sinks_s: dict[str, list[float]]  # by sink, a frame each
    before_s: float  # reading, and what is neither a stage's nor a sink's
    around_s: float = 0.0  # of a whole run: loading, opening and closing


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
    sinks_s = writing_s(entries)
    before_s = max(decoding_s(clip), around_s - sum(map(statistics.median, sinks_s.values())))
    reserved_s = long["cost_core_s"] / min(read_machine().cores, 2.0)  # by a worker and what reads and writes
    return Calibration(samples(entries), sinks_s, before_s, reserved_s - long["frames"]["delivered"] / long["fps"])


def calibrate_paced(pipeline: str, clip: Path, folder: Path) -> Calibration:
    """A run in which frames come one by one, as they do from a camera: everything is asleep and cold when one does."""
    flags = ("--workers", "1", "--max-frames", str(CALIBRATION), "--realtime")
    _, _, entries = live(pipeline, clip, folder / "paced", *flags)
    before_s = [
        entry.t - captured_s
        for entry in entries
        if isinstance(entry.event, ev.FramesArrived)
        for captured_s in entry.event.captured_at_s
    ]
    return Calibration(samples(entries, paced=True), writing_s(entries), statistics.median(before_s))


def samples(entries: list[LogEntry], *, paced: bool = False) -> dict[str, list[float]]:
    """What each item took, without the first few: they warm up. ``paced``: with the way to its worker and back."""
    sent: dict[int, tuple[act.Dispatch, float, bool]] = {}
    found: dict[str, list[tuple[float, float | None]]] = {}  # an item's work, and its way where nothing else was out
    for entry in entries:
        if isinstance(entry.event, ev.InvocationDone) and entry.event.invocation in sent:
            dispatch, sent_s, alone = sent.pop(entry.event.invocation)
            parts = {name: part.busy_s for name, part in zip(dispatch.chain, entry.event.chain, strict=True)}
            way_s = entry.t - sent_s - sum(parts.values()) - entry.event.busy_s if alone else None
            n = len(dispatch.items)
            found.setdefault(dispatch.stage, []).extend(
                [(entry.event.busy_s / n, None if way_s is None else way_s / n)] * n
            )
            for stage, busy_s in parts.items():
                found.setdefault(stage, []).extend([(busy_s / n, 0.0)] * n)
        for action in entry.actions:
            if isinstance(action, act.Dispatch):
                sent[action.invocation] = (action, entry.t, not sent)
    ways_s = [way_s for items in found.values() for _, way_s in items if way_s]
    usual_s = statistics.median(ways_s) if ways_s else 0.0
    return {
        stage: [work_s + paced * (usual_s if way_s is None else way_s) for work_s, way_s in items][
            min(5, len(items) // 2) :
        ]
        for stage, items in found.items()
    }


def writing_s(entries: list[LogEntry]) -> dict[str, list[float]]:
    """What each sink takes for a frame: from when it had it, and the stream's sinks were done before, to its answer.

    A stream's sinks share a thread: what one of them waits for another is not its own work.
    """
    had_s: dict[tuple[str, str, int], float] = {}
    done: dict[tuple[str, str], int] = {}
    free: dict[str, float] = {}  # stream -> when its sinks were last done with something
    took_s: dict[str, list[float]] = {}
    for entry in entries:
        if isinstance(event := entry.event, ev.Committed):
            seq = done.get((event.stream, event.sink), -1)
            begun_s = max(free.get(event.stream, 0.0), had_s.get((event.stream, event.sink, seq + 1), entry.t))
            took_s.setdefault(event.sink, []).append((entry.t - begun_s) / max(1, event.seq - seq))
            done[event.stream, event.sink] = event.seq
            free[event.stream] = entry.t
        for action in entry.actions:
            if isinstance(action, act.Deliver):
                had_s[action.stream, action.sink, action.seq] = entry.t
    return {sink: times[min(5, len(times) // 2) :] for sink, times in took_s.items()}


def decoding_s(clip: Path) -> float:
    """Processor time of one frame's decoding."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        begun_s, count = time.process_time(), 0
        for count, _ in enumerate(container.decode(stream), 1):
            if count >= CALIBRATION:
                break
        return (time.process_time() - begun_s) / max(1, count)


def from_catalogue(plan: RunPlan, known: Calibration, warm: Calibration) -> dict[str, list[float]]:
    """The samples of stages with a model, moved by what the catalogue's median is to the warm one."""
    found = known.samples_s
    env = system_env()
    scaled = dict(found)
    with open_catalogue(env) as catalogue:
        for stage in plan.stages:
            variant = stage.configuration.variant
            profile = catalogue.profile(variant.name) if variant is not None else None
            if profile is not None and profile.points and warm.samples_s.get(stage.name):
                factor = profile.point(1).median_s / statistics.median(warm.samples_s[stage.name])
                scaled[stage.name] = [factor * sample for sample in found[stage.name]]
    return scaled


def simulated(
    plan: RunPlan, entries: list[LogEntry], known: Calibration, warm: Calibration, cores: float
) -> tuple[SimResult, float]:
    """The same plan in virtual time, and how long it took from the first invocation on."""
    world = profile_of_log(plan, entries)
    paced = plan.streams[0].paced
    sources = {
        name: SourceTrace(
            tuple(pts_s - trace.pts_s[0] for pts_s in trace.pts_s) if paced else trace.pts_s,
            decode_s=known.before_s,
            paced=paced,
            begins_when_granted=paced,
            undecodable=trace.undecodable,
        )
        for name, trace in world.sources.items()
    }
    dispatched_s: list[float] = []

    def observe(now_s: float, event: ev.Event, actions: list[act.Action]) -> None:
        if not dispatched_s and any(isinstance(action, act.Dispatch) for action in actions):
            dispatched_s.append(now_s)

    result = simulate(
        plan,
        WorldProfile(
            service_s=world.service_s,
            samples_s=from_catalogue(plan, known, warm),
            sources=sources,
            # Threads share what they load: one of them does the work, and the others wait for it.
            load_s={stage: load_s / len(plan.workers) for stage, load_s in world.load_s.items()},
            sink_samples_s=known.sinks_s,
            outcomes=world.outcomes,
            cores=cores,
        ),
        observe=observe,
    )
    return result, result.wall_s - dispatched_s[0]


def compared(pipeline: str, clip: Path, cores: float) -> Figures:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calibration = calibrate(pipeline, clip, folder)
        paced = calibrate_paced(pipeline, clip, folder)
        fast, fast_plan, fast_entries = live(pipeline, clip, folder / "fast", "--loop", "3")
        slow, slow_plan, slow_entries = live(pipeline, clip, folder / "slow", "--realtime")
    _, running_s = simulated(fast_plan, fast_entries, calibration, calibration, cores)
    slow_sim, _ = simulated(slow_plan, slow_entries, paced, calibration, cores)
    reserved = min(cores, len(fast_plan.workers) + 1.0)
    return {
        "fps": (fast["fps"], fast["frames"]["delivered"] / running_s),
        "core-s": (fast["cost_core_s"], reserved * (running_s + calibration.around_s)),
        "p50 ms": (slow["latency_ms"]["p50"], 1000 * quantile(slow_sim.latencies_s, 0.5)),
        "p95 ms": (slow["latency_ms"]["p95"], 1000 * quantile(slow_sim.latencies_s, 0.95)),
    }


def quantile(values: list[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--pipelines", default=",".join(PIPELINES))
    parser.add_argument("--rounds", type=int, default=3, help="of which the medians are compared")
    parser.add_argument("--json", type=Path, help="keep the figures here, a line each; what is there is not run again")
    arguments = parser.parse_args()
    machine = read_machine()
    asked = {"clip": arguments.input.name, "rounds": arguments.rounds, "frames": CALIBRATION, "cores": machine.cores}
    store = Store(arguments.json, **asked)
    known: dict[str, Figures] = {}
    for pipeline in arguments.pipelines.split(","):
        row = store.get((pipeline,))
        if row is None:
            rounds = [compared(pipeline, arguments.input, machine.cores) for _ in range(arguments.rounds)]
            row = store.add((pipeline,), {"figures": medians(rounds)})
        known[pipeline] = {name: (real, sim) for name, (real, sim) in row["figures"].items()}
        show(pipeline, known[pipeline], header=len(known) == 1)
    errors = errors_of(known.values())
    print(f"\n{sum(error <= WITHIN for error in errors)} of {len(errors)} independent figures within {WITHIN:.0%}")
    for line in store.footer():
        print(line)
    return int(any(error > WITHIN for error in errors))


def medians(rounds: Sequence[Figures]) -> Figures:
    """Of each figure, live and simulated."""
    return {
        name: (statistics.median(one[name][0] for one in rounds), statistics.median(one[name][1] for one in rounds))
        for name in rounds[0]
    }


def errors_of(pipelines: Iterable[Figures]) -> list[float]:
    """Relative, of the figures that say something of their own."""
    return [abs(row[name][1] / row[name][0] - 1) for row in pipelines for name in INDEPENDENT if row[name][0]]


def show(pipeline: str, row: Figures, *, header: bool) -> None:
    if header:
        print("| pipeline | " + " | ".join(f"{name} live | simulated |" for name in row))
        print("|---|" + "--:|--:|" * len(row))
    cells = " | ".join(f"{real:.1f} | {sim:.1f} ({sim / real - 1:+.0%})" for real, sim in row.values())
    print(f"| {pipeline} | {cells} |", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
