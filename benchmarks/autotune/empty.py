"""What empty stretches of a video cost against busy ones.

The whole clip is run as a job with its events recorded. Every invocation's time is shared out to the frames that it
was for; a frame is busy where something was found in it, or within a second of one that is. With and without a motion
gate before the first stage.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.autotune.cases import Case
from benchmarks.autotune.runs import started
from benchmarks.autotune.store import Budget, Row, Store
from benchmarks.autotune.tables import head
from benchmarks.injection import lines_of
from llamapipe.clock import system_env
from llamapipe.control import read_log
from llamapipe.control.actions import Dispatch
from llamapipe.control.events import InvocationDone
from llamapipe.session.resolve import load_pipeline
from llamapipe.spec import OpSpec, PipelineSpec, dump_yaml

CLIP = Case("", "one-by-one-person-detection.mp4")
PIPELINES = ("people", "traffic", "blur-faces")
NEAR = 10  # frames; a second of the clip
GATE = "moving"


def gated(spec: PipelineSpec) -> PipelineSpec:
    """The pipeline behind a motion gate. Frames without motion end there."""
    source = "$source.frames"

    def behind(op: OpSpec) -> OpSpec:
        inputs = {
            port: tuple(f"$ops.{GATE}.frames" if selector == source else selector for selector in selectors)
            for port, selectors in op.inputs.items()
        }
        return op.model_copy(update={"inputs": inputs})

    gate = OpSpec(name=GATE, type="llamapipe/motion-gate@v1", inputs={"frames": (source,)})
    return spec.model_copy(update={"ops": (gate, *map(behind, spec.ops)), "slo": None})


def measure(results: Store, folder: Path, budget: Budget, *, max_frames: int | None = None) -> None:
    """Run what is not there yet. Raises TimeUp."""
    for name in PIPELINES:
        spec = load_pipeline(name, env=system_env()).spec.model_copy(update={"slo": None})
        for gate in (False, True):
            key = ("empty", name, "gated" if gate else "as it is")
            if key in results:
                continue
            budget.check()
            path = folder / "pipelines" / f"{name}{'-gated' if gate else ''}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dump_yaml(gated(spec) if gate else spec))
            options = [] if max_frames is None else ["--max-frames", str(max_frames)]
            summary = started([str(path), "-i", CLIP.source, "--events", *options], folder / "run")
            row = results.add(key, {"cpu_s": summary["cpu_s"], **_costs(folder / "run")})
            print(
                f"{name}{', gated' if gate else ''}: {row['empty_ms']:.2f} ms an empty frame, "
                f"{row['busy_ms']:.2f} ms a busy one",
                flush=True,
            )


def _costs(run: Path) -> Row:
    plan, entries = read_log((run / "events.jsonl").read_bytes().splitlines())
    sent: dict[int, list[int]] = {}
    spent: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    stages: dict[int, tuple[str, ...]] = {}
    frames = 0
    for entry in entries:
        for action in entry.actions:
            if isinstance(action, Dispatch):
                sent[action.invocation] = [item[1] for item in action.items]
                stages[action.invocation] = (action.stage, *action.chain)
        event = entry.event
        if not isinstance(event, InvocationDone) or event.invocation not in sent:
            continue
        of = sent[event.invocation]
        times = [event.busy_s, *(link.busy_s for link in event.chain)]
        for stage, busy_s in zip(stages[event.invocation], times, strict=False):
            for seq in of:
                spent[seq][stage] += busy_s / len(of)
                frames = max(frames, seq + 1)
    busy = np.zeros(frames, bool)
    for seq, lines in lines_of(run).items():
        if any('"box"' in line for line in lines):
            busy[max(0, seq - NEAR) : seq + NEAR + 1] = True
    cost = np.array([1000 * sum(spent[seq].values()) for seq in range(frames)])
    names = [stage.name for stage in plan.stages]
    return {
        "frames": frames,
        "busy": int(busy.sum()),
        "empty_ms": float(cost[~busy].mean()) if (~busy).any() else 0.0,
        "busy_ms": float(cost[busy].mean()) if busy.any() else 0.0,
        "by_stage": {
            name: [
                float(np.mean([1000 * spent[seq][name] for seq in range(frames) if busy[seq] == which] or [0.0]))
                for which in (False, True)
            ]
            for name in names
        },
    }


def report(results: Store) -> Iterator[str]:
    """Markdown."""
    yield from head(
        "pipeline",
        "motion gate",
        ">frames, busy",
        ">empty frame, ms",
        ">busy frame, ms",
        ">empty over busy",
        ">CPU s of the run",
        "saved most in empty frames",
    )
    for name in PIPELINES:
        for gate in ("as it is", "gated"):
            row = results.get(("empty", name, gate))
            if row is None:
                continue
            saved = sorted(row["by_stage"].items(), key=lambda entry: entry[1][0] - entry[1][1])[:2]
            told = ", ".join(f"{stage} {empty:.2f} of {busy:.2f} ms" for stage, (empty, busy) in saved)
            yield (
                f"| {name} | {'yes' if gate == 'gated' else 'no'} | {row['frames']}, {row['busy']} "
                f"| {row['empty_ms']:.2f} | {row['busy_ms']:.2f} | {row['empty_ms'] / max(1e-9, row['busy_ms']):.2f} "
                f"| {row['cpu_s']:.1f} | {told} |"
            )
