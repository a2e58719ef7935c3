"""Two runs side by side: objective, latency, throughput, cost, ledger, stages, and how far they found the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isnan
from pathlib import Path

import msgspec
import numpy as np

from llamapipe.accuracy import agreement
from llamapipe.data import Boxes
from llamapipe.errors import UsageError
from llamapipe.report import FrameCounts, RunSummary, StageSummary, StreamSummary
from llamapipe.session.labelled import Row, read_stages
from llamapipe.session.outputs import SUMMARY_FILE

__all__ = ["Comparison", "Figure", "SameBoxes", "StagePair", "compare_runs"]

_LATER = ("sample_fps", "min_score", "labels")  # knobs that summaries of earlier releases leave out
_SEED = 0  # of the intervals of agreements: the same two runs always compare alike


class Figure(msgspec.Struct, frozen=True):
    """One figure of both runs. None where a run does not have it; ``ratio`` is b / a."""

    name: str
    a: float | None
    b: float | None
    ratio: float | None = None


class StagePair(msgspec.Struct, frozen=True):
    """One stage of both runs. What a run does not have is empty."""

    name: str
    variants: tuple[list[str], list[str]]  # that served, the most items first
    figures: list[Figure]


class SameBoxes(msgspec.Struct, frozen=True):
    """How far the boxes of both runs are the same: F1 of b's with a's as reference, and its 95 % interval."""

    stream: str
    stage: str
    frames: int  # that both looked at
    boxes_a: int
    boxes_b: int
    f1: float | None  # None: neither found anything
    low: float | None
    high: float | None


class Comparison(msgspec.Struct, frozen=True):
    """Run ``a`` and run ``b``."""

    a: str
    b: str
    objectives: tuple[str, str]
    outcomes: tuple[str, str]
    units: tuple[str, str]  # of costs; unlike ones have no ratio
    warnings: list[str]
    figures: list[Figure]
    frames: list[Figure]  # by outcome of the ledger, all streams together
    stages: list[StagePair]
    agreement: list[SameBoxes]


def compare_runs(a: str | Path, b: str | Path) -> Comparison:
    """Compare two folders that ``llamapipe run`` wrote, or their run.json. Raises UsageError for anything else."""
    a, b = Path(a), Path(b)
    one, other = _summary(a), _summary(b)
    units = _unit(one), _unit(other)
    agreements, doubts = _agreements(a, one, b, other)
    return Comparison(
        a=str(a),
        b=str(b),
        objectives=(_objective(one), _objective(other)),
        outcomes=(one.outcome, other.outcome),
        units=units,
        warnings=[*_differences(one, other), *doubts],
        figures=_figures(one, other, same_unit=units[0] == units[1]),
        frames=_frames(one.frames, other.frames),
        stages=_stages(one, other, same_unit=units[0] == units[1]),
        agreement=agreements,
    )


def _file(path: Path) -> Path:
    return path if path.is_file() else path / SUMMARY_FILE


def _summary(path: Path) -> RunSummary:
    file = _file(path)
    hint = "expected the folder of a run that has ended: llamapipe run PIPELINE -i SOURCE -o DIR"
    try:
        return RunSummary.from_json(file.read_bytes())
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}", hint=hint) from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"{file} is no summary of a run: {error}", hint=hint) from error


def _unit(run: RunSummary) -> str:
    return "core-s" if run.cost is None else run.cost.unit


def _objective(run: RunSummary) -> str:
    slo = run.slo
    if slo is None:
        return "none"
    return f"{slo.objective} {('met' if slo.met else 'missed') if slo.judged else 'not judged'}"


def _figure(name: str, a: float | None, b: float | None, *, comparable: bool = True) -> Figure:
    known = comparable and a is not None and b is not None and a > 0
    return Figure(name, a, b, b / a if known and a is not None and b is not None else None)


def _figures(one: RunSummary, other: RunSummary, *, same_unit: bool) -> list[Figure]:
    def both(name: str, of: Callable[[RunSummary], float | None], *, comparable: bool = True) -> Figure:
        return _figure(name, of(one), of(other), comparable=comparable)

    same_cost = same_unit and (one.cost is None) == (other.cost is None)
    return [
        both("in time", lambda run: run.slo.attainment if run.slo is not None else None),
        both("latency p50 ms", lambda run: run.latency_ms.p50 if run.latency_ms is not None else None),
        both("latency p95 ms", lambda run: run.latency_ms.p95 if run.latency_ms is not None else None),
        both("latency p99 ms", lambda run: run.latency_ms.p99 if run.latency_ms is not None else None),
        both("frames a second", lambda run: run.fps),
        both("wall s", lambda run: run.wall_s),
        both("cost reserved", lambda run: run.cost.reserved if run.cost is not None else None, comparable=same_cost),
        both("cost marginal", lambda run: run.cost.marginal if run.cost is not None else None, comparable=same_cost),
        both(
            "cost a 1000 frames",
            lambda run: run.cost.reserved_per_1000_frames if run.cost is not None else None,
            comparable=same_cost,
        ),
        both("processor s", lambda run: run.cpu_s),
        both("accuracy", _accuracy, comparable=_scale(one) == _scale(other)),
    ]


def _accuracy(run: RunSummary) -> float | None:
    """Of what was tuned, all stages together; else of the stage that is the least right."""
    return min((stage.accuracy for stage in run.stages if stage.accuracy is not None), default=None)


def _scale(run: RunSummary) -> str:
    """What a run's accuracy is measured by. What was tuned is right at the sinks, what was not stage by stage."""
    if _accuracy(run) is None:
        return ""
    return f"{run.tuning.metric} at the sinks" if run.tuning is not None else "each stage by itself"


def _frames(one: FrameCounts, other: FrameCounts) -> list[Figure]:
    def counts(frames: FrameCounts) -> dict[str, int]:
        found = {"decoded": frames.decoded, "delivered": frames.delivered}
        for outcome, by_reason in (
            ("filtered by", frames.filtered),
            ("dropped:", frames.dropped),
            ("failed:", frames.failed),
        ):
            found |= {f"{outcome} {reason}": count for reason, count in by_reason.items()}
        return found | ({"cancelled": frames.cancelled} if frames.cancelled else {})

    a, b = counts(one), counts(other)
    return [_figure(name, a.get(name, 0), b.get(name, 0)) for name in dict.fromkeys((*a, *b))]


def _stages(one: RunSummary, other: RunSummary, *, same_unit: bool) -> list[StagePair]:
    a, b = ({stage.name: stage for stage in run.stages} for run in (one, other))
    return [
        StagePair(
            name,
            (_variants(a.get(name)), _variants(b.get(name))),
            _stage_figures(a.get(name), b.get(name), same_unit=same_unit, same_scale=_scale(one) == _scale(other)),
        )
        for name in dict.fromkeys((*a, *b))
    ]


def _variants(stage: StageSummary | None) -> list[str]:
    if stage is None:
        return []
    served = sorted((s for s in stage.served_by if s.items), key=lambda s: -s.items)
    return [s.variant or stage.type for s in served] or [stage.variant or stage.type]


def _stage_figures(
    a: StageSummary | None, b: StageSummary | None, *, same_unit: bool, same_scale: bool
) -> list[Figure]:
    def both(name: str, of: Callable[[StageSummary], float | None], *, comparable: bool = True) -> Figure:
        return _figure(name, None if a is None else of(a), None if b is None else of(b), comparable=comparable)

    return [
        both("items", lambda stage: stage.items),
        both("invocations", lambda stage: stage.invocations),
        both("failed", lambda stage: stage.failed),
        both("items an invocation", lambda s: s.items / s.invocations if s.invocations else None),
        both("p50 ms", lambda stage: stage.latency_ms.p50 if stage.latency_ms is not None else None),
        both("p95 ms", lambda stage: stage.latency_ms.p95 if stage.latency_ms is not None else None),
        both("budget ms", lambda stage: stage.budget_ms),
        both("p95 there ms", lambda stage: stage.through_ms.p95 if stage.through_ms is not None else None),
        both("cost", lambda stage: stage.cost, comparable=same_unit),
        both("took a frame ms", lambda stage: stage.frame_ms),
        both("accuracy", lambda stage: stage.accuracy, comparable=same_scale),
    ]


def _differences(one: RunSummary, other: RunSummary) -> list[str]:
    """Why the two may not be compared like with like."""
    found: list[str] = []
    if one.pipeline != other.pipeline:
        found.append(f"the pipelines differ: {one.pipeline}, {other.pipeline}")
    elif [(s.name, s.type) for s in one.stages] != [(s.name, s.type) for s in other.stages]:
        found.append(f"the stages of pipeline {one.pipeline} differ")
    elif changed := [
        a.name for a, b in zip(one.stages, other.stages, strict=True) if not _are_alike(a.params, b.params)
    ]:
        found.append(f"parameters differ of stages {', '.join(changed)}")
    if (sources := _sources(one)) != (theirs := _sources(other)):
        differing = sorted(name for name in {*sources, *theirs} if sources.get(name) != theirs.get(name))
        found.append(f"the sources differ: {', '.join(differing)}")
    flags = sorted(
        name
        for name in {*one.fingerprint, *other.fingerprint}
        if name.startswith("--") and one.fingerprint.get(name) != other.fingerprint.get(name)
    )
    if flags and one.fingerprint and other.fingerprint:
        told = (f"{flag} {one.fingerprint.get(flag)} and {other.fingerprint.get(flag)}" for flag in flags)
        found.append(f"the runs were asked for differently: {', '.join(told)}")
    if one.hardware and other.hardware and one.hardware != other.hardware:
        found.append(f"the machines differ: {one.hardware}, {other.hardware}")
    if _unit(one) != _unit(other):
        found.append(f"costs are in {_unit(one)} and {_unit(other)}")
    elif one.cost is not None and other.cost is not None and one.cost.price_per_s != other.cost.price_per_s:
        found.append("prices differ")
    scales = _scale(one), _scale(other)
    if all(scales) and scales[0] != scales[1]:
        found.append(f"accuracies are of two kinds: {scales[0]}, and {scales[1]}")
    elif one.tuning is not None and other.tuning is not None and one.tuning.video != other.tuning.video:
        found.append(f"they were tuned on two videos: {one.tuning.video}, {other.tuning.video}")
    for name, run in (("first", one), ("second", other)):
        if run.outcome != "done":
            found.append(f"the {name} run has {run.outcome}" + (f": {run.error}" if run.error else ""))
    return found


def _are_alike(a: Mapping[str, object], b: Mapping[str, object]) -> bool:
    unknown = {name for name in _LATER if name not in a or name not in b}
    one, other = ({name: v for name, v in params.items() if name not in unknown} for params in (a, b))
    return _plain(one) == _plain(other)


def _plain(params: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(params, enc_hook=str, order="deterministic")


def _sources(run: RunSummary) -> dict[str, str]:
    """What tells one source from another: the digest that the run kept of it, else its address."""
    known = {name.removeprefix("source "): v for name, v in run.fingerprint.items() if name.startswith("source ")}
    return known or {stream.name: stream.source for stream in run.streams}


def _agreements(a: Path, one: RunSummary, b: Path, other: RunSummary) -> tuple[list[SameBoxes], list[str]]:
    """How far they found the same, and what there is to doubt about it."""
    streams = {stream.name: stream for stream in other.streams}
    pairs = [(s, streams[s.name]) for s in one.streams if s.name in streams]
    if not pairs and len(one.streams) == len(other.streams) == 1:  # the same video under two names
        pairs = [(one.streams[0], other.streams[0])]
    found: list[SameBoxes] = []
    doubts: list[str] = []
    for mine, theirs in pairs:
        (first, doubt), (second, another) = _boxes_file(a, one, mine), _boxes_file(b, other, theirs)
        doubts += [f"the {which} run's boxes {text}" for which, text in (("first", doubt), ("second", another)) if text]
        if first is not None and second is not None:
            found += _stages_of(mine.name, first, second)
    return found, doubts


def _stages_of(stream: str, first: Path, second: Path) -> Iterator[SameBoxes]:
    (found_a, frames_a), (found_b, frames_b) = read_stages(first), read_stages(second)
    frames = sorted(frames_a & frames_b)
    for stage in found_a:
        if stage in found_b:
            yield _same_boxes(stream, stage, frames, found_a[stage], found_b[stage])


def _boxes_file(named: Path, run: RunSummary, stream: StreamSummary) -> tuple[Path | None, str]:
    """The stream's JSON lines, and what there is to doubt about them.

    They are looked for in the run's folder as it was named, which may have been moved since: where it was written to,
    another run's may be by now. Only what a sink was told to write elsewhere is read from there.
    """
    summary = _file(named)
    for recorded in (Path(output) for output in stream.outputs if output.endswith(".jsonl")):
        for file in _places(summary.parent, run, stream, recorded):
            if file.is_file():
                return file, ""
        if not recorded.is_absolute() or not recorded.is_file() or _belongs_inside(summary.parent, run, recorded):
            continue
        if recorded.stat().st_mtime > summary.stat().st_mtime:
            return None, f"are not compared: {recorded}, outside of its folder, was written to after that run"
        return recorded, f"are those of {recorded}, outside of its folder: they may be another run's"
    return None, ""


def _places(folder: Path, run: RunSummary, stream: StreamSummary, recorded: Path) -> Sequence[Path]:
    """Where in the folder what a sink wrote to ``recorded`` may be."""
    if run.folder and recorded.is_relative_to(run.folder):
        inside = recorded.relative_to(run.folder)
        return [] if ".." in inside.parts else [folder / inside]
    if run.folder and recorded.is_absolute():
        return []
    # Of earlier releases, and where a run was gone on with under another name of its folder: as much of the path as
    # there is, so that of two files of one name the right one is taken.
    base = folder if len(run.streams) == 1 else folder / stream.name
    tails = [recorded.parts[i:] for i in range(1 if recorded.is_absolute() else 0, len(recorded.parts))]
    return [base.joinpath(*tail) for tail in tails if ".." not in tail]


def _belongs_inside(folder: Path, run: RunSummary, recorded: Path) -> bool:
    """Whether a sink wrote into the run's folder: what is there now is not to be taken for it."""
    if run.folder:
        return recorded.is_relative_to(run.folder)
    # Of earlier releases nobody knows; but what lies in another run's folder is that one's.
    here = folder.resolve()
    return any((above / SUMMARY_FILE).is_file() and above.resolve() != here for above in recorded.parents)


def _same_boxes(stream: str, stage: str, frames: list[int], rows_a: list[Row], rows_b: list[Row]) -> SameBoxes:
    names = tuple(sorted({row.label for row in (*rows_a, *rows_b)}))
    a, b = _by_frame(rows_a, names), _by_frame(rows_b, names)
    nothing = Boxes.empty(names)
    found = agreement(
        [b.get(frame, nothing) for frame in frames],
        [a.get(frame, nothing) for frame in frames],
        rng=np.random.default_rng(_SEED),
    )
    f1, low, high = (None if isnan(value) else value for value in (found.f1, found.low, found.high))
    return SameBoxes(stream, stage, len(frames), found.num_reference, found.num_found, f1, low, high)


def _by_frame(rows: list[Row], names: tuple[str, ...]) -> dict[int, Boxes]:
    places = {name: i for i, name in enumerate(names)}
    frames: dict[int, list[Row]] = {}
    for row in rows:
        frames.setdefault(row.frame, []).append(row)
    return {
        frame: Boxes(
            xyxy=np.array([row.box for row in found], np.float32).reshape(-1, 4),
            score=np.array([row.score for row in found], np.float32),
            label=np.array([places[row.label] for row in found], np.int32),
            names=names,
        )
        for frame, found in frames.items()
    }
