"""The full sweep of static configurations, live: every variant of every stage, batch, and one core or all.

Each is run twice in a process of its own: at the video's own rate for its p95 latency, and as a job for its time. What
it finds is compared with what the reference finds in the same stretch, and with labels where there are some.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.autotune.cases import Case, Choices, assets, choices_of, combined, worded
from benchmarks.autotune.drawing import Line, Panel, panels
from benchmarks.autotune.runs import figures, least_disturbed, pipeline_with, run_of, sets_of
from benchmarks.autotune.tables import head
from benchmarks.store import Budget, Row, Store
from llamapipe.session.comparing import compare_runs
from llamapipe.session.scoring import evaluate
from llamapipe.session.trials import judged_results
from llamapipe.tune import Point

KINDS = ("stream", "job")
COSTS = {"reserved": "reserved core-s", "cpu": "CPU core-s"}
"""How they are headed. Reserved: workers, decoders and encoders by the time that they are there. CPU: what the run's
processes used of the processors, loading included; what waits for a core uses none."""


def time_of(kind: str, quantile: int = 95) -> tuple[str, str]:
    """What counts as fast: the field of the figures, and how it is headed."""
    return (f"p{quantile}_ms", f"p{quantile} ms") if kind == "stream" else ("since_asked_s", "s since asked")


def key_of(case: Case, point: Point, workers: int) -> tuple[str, ...]:
    """Of a row of this sweep."""
    return ("oracle", case.name, *(str(value) for value in point), str(workers))


def sweep(cases: Sequence[Case], store: Store, folder: Path, budget: Budget) -> None:
    """Measure what is not there yet. Raises TimeUp."""
    for case in cases:
        choices = choices_of(case)
        points = combined(choices.configurations())
        left = [entry for entry in points if not store.has(key_of(case, *entry), **case.asked)]
        print(f"{case.name}: {len(points) - len(left)} of {len(points)} configurations measured", flush=True)
        if not left:
            continue
        reference_of(choices, folder)
        for point, workers in left:
            budget.check()
            choice = choices.tunable.choices[point]
            row: Row = {"values": dict(choice), "workers": workers}
            options = [*sets_of(choice), *held_on(workers)]
            for kind in KINDS:
                row[kind] = least_disturbed(partial(measured, choices, folder, kind, *options))
            store.add(key_of(case, point, workers), row, **case.asked)
            stream = row["stream"]
            print(
                f"  {worded(choice, workers)}: p95 {stream['p95_ms']:.0f} ms, job {row['job']['wall_s']:.1f} s, "
                f"reserved {stream['reserved']:.1f} and {row['job']['reserved']:.1f} core-s",
                flush=True,
            )


def held_on(workers: int) -> list[str]:
    """One worker has a core, with all that the run does; several have all there are."""
    return ["--workers", str(workers), "--cores", "1" if workers == 1 else "all"]


def measured(
    choices: Choices,
    folder: Path,
    kind: str,
    *options: str,
    floor: float | None = None,
    env: Mapping[str, str] | None = None,
) -> Row:
    """One run, with how right it was; of one that was refused, why."""
    case = choices.case
    paced = ["--realtime"] if kind == "stream" else []
    pipeline = pipeline_with(case, folder / "pipelines", floor=floor)
    summary = run_of(case, folder, *paced, *options, pipeline=pipeline, env=env)
    if "refused" in summary:
        return summary
    return {**figures(summary), **accuracy_of(choices, folder / "run", folder)}


def reference_of(choices: Choices, folder: Path) -> Path:
    """Folder of what the reference finds in the stretch; run where it is not there."""
    case = choices.case
    part = f"{case.name.replace('/', '-')}-{case.start_s:g}-{case.length_s:g}"
    kept = folder / "references" / part
    if not (kept / "run.json").is_file():
        pipeline = pipeline_with(case, folder / "pipelines", floor=None)
        run_of(case, folder, *sets_of(choices.tunable.choices[choices.tunable.reference]), pipeline=pipeline)
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / "run", kept)
    return kept


def accuracy_of(choices: Choices, run: Path, folder: Path) -> dict[str, Any]:
    """Agreement with the reference, of all results that are judged together as tuning has it; AP where labelled."""
    case, spec = choices.case, choices.loaded.spec
    manifests = {op.name: choices.loaded.registry.manifest(op.type) for op in spec.ops}
    judged = {name.partition(".")[0] for name in judged_results(spec, manifests)}
    if not judged:
        return {"agreement": None, "ap50": None}
    same = [s for s in compare_runs(reference_of(choices, folder), run).agreement if s.stage in judged]
    boxes = sum(s.boxes_a + s.boxes_b for s in same)

    def together(values: Iterable[float | None]) -> float:
        """F1 is linear in matched boxes: each result counts by the boxes that there are of it."""
        parts = [(value or 0.0) * (s.boxes_a + s.boxes_b) for value, s in zip(values, same, strict=True)]
        return sum(parts) / boxes if boxes else 1.0

    return {
        "agreement": together(s.f1 for s in same),
        "agreement_low": together(s.low for s in same),
        "ap50": _ap(case, run) if case.labels else None,
    }


def _ap(case: Case, run: Path) -> float:
    """Labelled cases begin with their clip, so that frames have the numbers of the labels."""
    judged = evaluate(run / "detections.jsonl", assets() / case.labels, stage=case.labels_stage)
    return float(judged.ap["0.5"])


def rows_of(case: Case, store: Store) -> list[Row]:
    """All of the case that could be run."""
    return [
        row
        for row in store.rows("oracle", case.name, **case.asked)
        if all("refused" not in row[kind] for kind in KINDS)
    ]


def right(row: Row, kind: str, floor: float, by: str = "agreement") -> bool:
    """Whether the row's run agreed enough with the reference; ``by`` ``agreement_low``, whether that is proved."""
    agreement = row[kind]["agreement"]
    return agreement is None or row[kind].get(by, agreement) >= floor


def front(rows: Sequence[Row], kind: str, cost: str, quantile: int = 95) -> list[Row]:
    """Those that no other one beats in time, cost and accuracy, the fastest first."""
    time = time_of(kind, quantile)[0]

    def place(row: Row) -> tuple[float, float, float]:
        return row[kind][time], row[kind][cost], -(row[kind]["agreement"] or 0.0)

    found = [
        row
        for row in rows
        if not any(
            all(b <= a for a, b in zip(place(row), place(other), strict=True)) and place(other) != place(row)
            for other in rows
        )
    ]
    return sorted(found, key=place)


def report(cases: Sequence[Case], store: Store, cost: str, quantile: int = 95) -> Iterator[str]:
    """Markdown: the front of every case."""
    for case in cases:
        rows = rows_of(case, store)
        if not rows:
            continue
        other = next(name for name in COSTS if name != cost)
        for kind in KINDS:
            time, heading = time_of(kind, quantile)
            best = front(rows, kind, cost, quantile)
            yield f"**{case.name}**, {kind}: {len(best)} of {len(rows)} configurations are on the front"
            yield ""
            yield from head(
                "configuration", f">{heading}", f">{COSTS[cost]}", f">{COSTS[other]}", ">agreement", ">AP@0.5"
            )
            for row in best:
                it = row[kind]
                yield (
                    f"| {worded(row['values'], row['workers'])} | {it[time]:.4g} | {it[cost]:.2f} | {it[other]:.2f} "
                    f"| {_share(it['agreement'])} | {_share(it['ap50'])} |"
                )
            yield ""


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def plot(cases: Sequence[Case], store: Store, cost: str, quantile: int = 95) -> str:
    """Cost over time: every configuration, and the front."""
    drawn = []
    for case in cases:
        rows = rows_of(case, store)
        for kind in KINDS:
            if not rows:
                continue
            time, heading = time_of(kind, quantile)
            lines = [
                Line(name, [row[kind][time] for row in some], [row[kind][cost] for row in some], dots=True)
                for name, some in (("every configuration", rows), ("front", front(rows, kind, cost, quantile)))
            ]
            drawn.append(Panel(f"{case.name}, {kind}", lines, heading, COSTS[cost]))
    return panels(drawn) if drawn else ""
