"""A full sweep of the tuner's own space on held frames: what every point would cost and find.

Costs are processor time of the whole engine a frame, read from the process, so that other programs matter little. A
network is loaded before its time is taken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.autotune.cases import Case, Choices, assets, choices_of, worded
from benchmarks.store import Budget, Row, Store
from llamapipe.clock import SystemClock, system_env
from llamapipe.inference import AssetStore, cache_root
from llamapipe.session.execute import run_held
from llamapipe.session.labelled import read_truths
from llamapipe.session.pinned import as_sets
from llamapipe.session.request import RunRequest
from llamapipe.session.results import FrameResult
from llamapipe.session.stretches import HeldVideo, Stretches, decode_stretches
from llamapipe.session.trials import Judge, LoadedNetworks, judged_results
from llamapipe.tune import Point

FRAMES, STRETCHES = 96, 4
COST_DEVIATION = 0.03  # relative, of a repeated measurement
ASKED = {"frames": FRAMES, "stretches": STRETCHES}


def key_of(case: Case, point: Point) -> tuple[str, ...]:
    """Of a row of this sweep."""
    return ("held", case.name, *(str(value) for value in point))


def sweep(cases: Sequence[Case], store: Store, budget: Budget) -> None:
    """Measure what is not there yet. Raises TimeUp."""
    for case in cases:
        choices = choices_of(case)
        points = choices.configurations(rates=True)
        left = [point for point in points if not store.has(key_of(case, point), **case.asked)]
        print(f"{case.name}: {len(points) - len(left)} of {len(points)} configurations measured", flush=True)
        if not left:
            continue
        held = Held(choices)
        try:
            held.measure(choices.tunable.reference)  # what the others are compared with
            for point in sorted(left, key=lambda p: (p != choices.tunable.reference, points.index(p))):
                budget.check()
                store.add(key_of(case, point), held.measure(point), **case.asked)
        finally:
            held.close()


class Held:
    """Runs configurations on the same frames. The first one is the reference."""

    def __init__(self, choices: Choices) -> None:
        env = system_env()
        self._choices = choices
        case, spec = choices.case, choices.loaded.spec
        manifests = {op.name: choices.loaded.registry.manifest(op.type) for op in spec.ops}
        count = 10_000 if case.labels else FRAMES
        self._stretches: Stretches = decode_stretches(
            choices.source, choices.info, count, 1 if case.labels else STRETCHES, clock=SystemClock()
        )
        self._spec = spec.model_copy(update={"slo": None, "accuracy": None})
        self._judge = Judge(judged_results(spec, manifests))
        self._labels = None
        if case.labels:
            rows, labelled, _ = read_truths(assets() / case.labels)
            wanted = set(self._stretches.indices) & labelled
            truths = {index: [row for row in rows if row.frame == index] for index in sorted(wanted)}
            self._labels = Judge([f"{case.labels_stage}.boxes"], truths)
        self._networks = LoadedNetworks(AssetStore(cache_root(env), env=env))

    def close(self) -> None:
        """Let go of the networks."""
        self._networks.close()

    def measure(self, point: Point) -> Row:
        """One configuration."""
        choice = self._choices.tunable.choices[point]
        self._networks.keep_of(choice)
        found: dict[int, FrameResult] = {}

        def take(result: FrameResult) -> None:
            found[self._stretches.indices[result.frame]] = result

        request = RunRequest(self._spec, [self._choices.case.source], sets=as_sets(choice))
        clock = SystemClock()
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        summary = run_held(
            request,
            HeldVideo(self._stretches, clock=clock),
            take,
            interrupt=threading.Event(),
            clock=clock,
            env=system_env(),
        )
        cpu_s, wall_s = time.process_time() - began_cpu_s, time.monotonic() - began_s
        frames = len(self._stretches.frames)
        busy = {stage.name: stage.busy_s / frames for stage in summary.stages}
        scale = cpu_s / frames / max(1e-9, sum(busy.values()))
        score = self._judge.score(found)
        labelled = None if self._labels is None else self._labels.score(found)
        row: Row = {
            "values": dict(choice),
            "cpu_ms": 1000 * cpu_s / frames,
            "wall_s": wall_s,
            "fps": frames / wall_s,
            "frames": frames,
            # Stages are timed by the clock, which runs on while others have the cores: their shares are what counts.
            "by_stage": {name: scale * busy_s for name, busy_s in busy.items()},
            "items": {stage.name: stage.items / frames for stage in summary.stages},
            "accuracy": None if score is None else [float(np.round(value, 5)) for value in score],
            "ap50": None if labelled is None else [float(np.round(value, 5)) for value in labelled],
        }
        told = "" if score is None else f", agreement {score[0]:.3f}"
        told += "" if labelled is None else f", AP {labelled[0]:.3f}"
        print(f"  {worded(choice)}: {row['cpu_ms']:.2f} core-ms a frame{told}", flush=True)
        return row
