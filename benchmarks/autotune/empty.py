"""What empty stretches of a video cost against busy ones.

The whole clip is run as a job with its events recorded: as the pipeline is, with frames skipped in which nothing moves
(`skip_still` on the stages that look at the source's frames, everything else as before), and as `llamapipe tune` finds.
Every invocation's time is shared out to the frames that it was for. A frame is busy where the pipeline as it is found
something in it, or within a second of one in which it did; the floor is held against its results.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.autotune.cases import Case
from benchmarks.autotune.runs import started
from benchmarks.autotune.tables import head
from benchmarks.injection import lines_of
from benchmarks.store import Budget, Row, Store
from llamapipe.clock import system_env
from llamapipe.control import read_log
from llamapipe.control.actions import Dispatch
from llamapipe.control.events import InvocationDone
from llamapipe.session.comparing import compare_runs
from llamapipe.session.pinned import pin
from llamapipe.session.resolve import LoadedPipeline, load_pipeline
from llamapipe.session.trials import judged_results
from llamapipe.session.tunable import still_stages
from llamapipe.session.tune_request import TuneRequest
from llamapipe.session.tuning import tune
from llamapipe.spec import dump_yaml

CLIP = Case("", "one-by-one-person-detection.mp4")
PIPELINES = ("people", "traffic", "blur-faces")
NEAR = 10  # frames; a second of the clip
FLOOR = 0.9
SHARE = 0.004  # of the picture that must change
ASKED = {"clip": CLIP.clip, "floor": FLOOR, "share": SHARE, "near": NEAR}
WAYS = ("as it is", "still frames skipped", "tuned")


def measure(results: Store, folder: Path, budget: Budget, *, max_frames: int | None = None) -> None:
    """Run what is not there yet. Raises TimeUp."""
    limit = [] if max_frames is None else ["--max-frames", str(max_frames)]
    for name in PIPELINES:
        loaded = load_pipeline(name, env=system_env())
        path = folder / "pipelines" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump_yaml(loaded.spec.model_copy(update={"slo": None})))
        plain = folder / name / "as-it-is"
        for way in WAYS:
            key = ("still", name, way)
            if results.has(key, max_frames=max_frames):
                continue
            budget.check()
            options, settings = _options(way, loaded, path)
            output = folder / name / way.replace(" ", "-")
            summary = started([str(path), "-i", CLIP.source, "--events", *options, *limit], output)
            busy = _busy(plain)
            agreement = _agreement(loaded, plain, output) if output != plain else 1.0
            row = {"cpu_s": summary["cpu_s"], "settings": settings, "agreement": agreement, **_costs(output, busy)}
            row = results.add(key, row, max_frames=max_frames)
            print(
                f"{name}, {way}: {row['empty_ms']:.2f} ms an empty frame, {row['busy_ms']:.2f} ms a busy one, "
                f"agreement {agreement:.3f}; {settings or 'nothing set'}",
                flush=True,
            )


def _options(way: str, loaded: LoadedPipeline, path: Path) -> tuple[list[str], str]:
    """Flags of `llamapipe run`, and what they set that decides how often stages look."""
    if way == "still frames skipped":
        sets = [f"{stage}.skip_still={SHARE}" for stage in still_stages(loaded)]
        return [part for text in sets for part in ("--set", text)], ", ".join(sets)
    if way == "as it is":
        return [], ""
    request = TuneRequest(str(path), CLIP.source, min_accuracy=FLOOR, again=True)
    tuning = tune(request, env=system_env()).tuning
    config = path.with_suffix(".tuned.yaml")
    pin(tuning, config)
    often = {key: value for key, value in tuning.values.items() if key.endswith((".skip_still", ".sample_fps"))}
    return ["--config", str(config)], ", ".join(f"{key}={value}" for key, value in often.items())


def _busy(run: Path) -> Callable[[int], bool]:
    frames = lines_of(run)
    busy = np.zeros(max(frames) + 1, bool)
    for seq, lines in frames.items():
        if any('"box"' in line for line in lines):
            busy[max(0, seq - NEAR) : seq + NEAR + 1] = True
    return lambda seq: bool(busy[seq])


def _agreement(loaded: LoadedPipeline, plain: Path, run: Path) -> float:
    """F1 of all boxes together that the floor is about."""
    manifests = {op.name: loaded.registry.manifest(op.type) for op in loaded.spec.ops}
    judged = {result.split(".")[0] for result in judged_results(loaded.spec, manifests)}
    pairs = [pair for pair in compare_runs(plain, run).agreement if pair.stage in judged and pair.f1 is not None]
    boxes = [pair.boxes_a + pair.boxes_b for pair in pairs]
    found = sum((pair.f1 or 0.0) * n for pair, n in zip(pairs, boxes, strict=True))
    return found / sum(boxes) if sum(boxes) else 1.0


def _costs(run: Path, is_busy: Callable[[int], bool]) -> Row:
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
    busy: NDArray[np.bool_] = np.array([is_busy(seq) for seq in range(frames)])
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


def report(results: Store, *, max_frames: int | None = None) -> Iterator[str]:
    """Markdown."""
    yield from head(
        "pipeline",
        "run",
        ">frames, busy",
        ">empty frame, ms",
        ">busy frame, ms",
        ">empty over busy",
        ">empty over busy as it is",
        ">agreement",
        ">CPU s of the run",
        "saved most in empty frames",
    )
    for name in PIPELINES:
        plain = results.get(("still", name, WAYS[0]), max_frames=max_frames)
        for way in WAYS:
            row = results.get(("still", name, way), max_frames=max_frames)
            if row is None or plain is None:
                continue
            saved = sorted(row["by_stage"].items(), key=lambda entry: entry[1][0] - entry[1][1])[:2]
            told = ", ".join(f"{stage} {empty:.2f} of {busy:.2f} ms" for stage, (empty, busy) in saved)
            yield (
                f"| {name} | {way}{': ' if row['settings'] else ''}{row['settings']} | {row['frames']}, {row['busy']} "
                f"| {row['empty_ms']:.2f} | {row['busy_ms']:.2f} | {row['empty_ms'] / max(1e-9, row['busy_ms']):.2f} "
                f"| {row['empty_ms'] / max(1e-9, plain['busy_ms']):.2f} | {row['agreement']:.3f} "
                f"| {row['cpu_s']:.1f} | {told} |"
            )
