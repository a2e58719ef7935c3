"""The last lines of a run: what came out, whether the objective was met, where the files are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llamapipe.cli.terminal import Terminal

if TYPE_CHECKING:
    from llamapipe.report import FrameCounts, RunSummary, StageSummary

__all__ = ["show_decisions", "show_summary"]


_UNDECIDED = "nothing to decide: as planned, as frames come"


def show_summary(summary: RunSummary, terminal: Terminal, output: Path | None) -> None:
    """Print it on stderr; what went wrong even under -q. ``output`` is the run's folder."""
    frames = summary.frames
    noun = "frame" if frames.decoded == 1 else "frames"
    terminal.note(
        f"{summary.outcome}: {frames.delivered} of {frames.decoded} {noun} delivered in {summary.wall_s:.1f} s, "
        f"{summary.fps:.1f} fps" + (f", {summary.x_realtime:.2f} x realtime" if summary.x_realtime else "")
    )
    for text in _losses(frames):
        terminal.note(f"  {text}")
    if summary.latency_ms is not None:
        latency = summary.latency_ms
        terminal.note(f"latency: p50 {latency.p50:.0f} ms, p95 {latency.p95:.0f} ms, p99 {latency.p99:.0f} ms")
    if summary.cost is not None:
        cost = summary.cost
        terminal.note(f"cost: {cost.reserved:.4g} {cost.unit} reserved, {cost.marginal:.4g} of invocations")
    for stage in summary.stages:
        terminal.detail(f"stage {stage.name}: {_worked(stage)}")
    if summary.slo is not None:
        slo = summary.slo
        verdict = ("met" if slo.met else "missed") if slo.judged else "not judged"
        unit = "s" if slo.objective.startswith("deadline") else "ms"
        value = f", it was {slo.value:.4g} {unit}" if slo.value is not None else ""
        text = f"SLO {slo.objective}: {verdict}{value}" + (f" ({slo.reason})" if slo.reason else "")
        (terminal.warning if slo.judged and not slo.met else terminal.note)(text)
    for variant, count in summary.observed.items():
        terminal.detail(f"the profile of {variant} was refined by {count} invocations")
    for held in summary.cores:
        terminal.detail(str(held))
    for change in summary.changes:
        (terminal.warning if change.error else terminal.note)(str(change))
    good = str(summary.shadow) if summary.shadow is not None and summary.shadow.judged else None
    for note in summary.notes:  # that a configuration has held is nothing to be warned of
        (terminal.note if note == good else terminal.warning)(note)
    for stream in summary.streams:
        if stream.joined_s:
            terminal.note(f"{stream.name}: joined {stream.joined_s:.1f} s after the run began")
        if stream.offline_s:
            times = {0: "never", 1: "once"}.get(stream.reconnects, f"{stream.reconnects} times")
            terminal.note(f"{stream.name}: came back {times}, {stream.offline_s:.1f} s without pictures")
        if stream.error and len(summary.streams) > 1:
            terminal.error(f"{stream.name}: {stream.error}")
    reports = [] if output is None else [output / "report.html", output / "run.json"]
    for file in [*summary.outputs, *(str(report) for report in reports if report.exists())]:
        terminal.note(f"wrote {file}")
    if summary.error and len(summary.streams) <= 1:
        terminal.error(summary.error)


def show_decisions(summary: RunSummary, terminal: Terminal) -> None:
    """Print on stdout how the invocations of every stage were decided upon, and its share of the objective."""
    rows: list[tuple[str, str, str, str]] = []
    for stage in summary.stages:
        rows += [(stage.name, d.runs or "-", str(d.times), d.why) for d in stage.decisions]
        if not stage.decisions:
            rows.append((stage.name, stage.variant or stage.type, str(stage.invocations), _UNDECIDED))
    terminal.data("")
    terminal.table(("operation", "runs", "times", "why"), rows, title="decisions")
    budgets = [
        (stage.name, f"{stage.budget_ms:.1f}", f"{stage.through_ms.p50:.1f}", f"{stage.through_ms.p95:.1f}")
        for stage in summary.stages
        if stage.budget_ms is not None and stage.through_ms is not None
    ]
    if budgets:
        terminal.data("")
        terminal.table(("operation", "budget ms", "p50 there ms", "p95 there ms"), budgets)
    shares = [
        (stage.name, f"{stage.budget_ms:.1f}", f"{stage.frame_ms:.1f}")
        for stage in summary.stages
        if stage.budget_ms is not None and stage.frame_ms is not None
    ]
    if shares:
        terminal.data("")
        terminal.table(("operation", "budget ms a frame", "took ms a frame"), shares)
    if summary.cores:
        terminal.data("")
        held = [(f"{held.at_s:.1f}", str(held.cores), held.why) for held in summary.cores]
        terminal.table(("from s", "cores", "why"), held)


def _worked(stage: StageSummary) -> str:
    facts = [
        stage.variant or stage.type,
        f"{stage.items} items in {stage.invocations} invocations",
        f"busy {stage.busy_s:.2f} s, loading {stage.load_s:.2f} s in {stage.replicas} workers",
    ]
    if stage.latency_ms is not None:
        facts.append(f"p50 {stage.latency_ms.p50:.1f} ms, p95 {stage.latency_ms.p95:.1f} ms")
    return ", ".join(facts)


def _losses(frames: FrameCounts) -> list[str]:
    return [
        *(f"{count} filtered by {stage}" for stage, count in frames.filtered.items()),
        *(f"{count} dropped: {reason}" for reason, count in frames.dropped.items()),
        *(f"{count} failed: {reason}" for reason, count in frames.failed.items()),
        *([f"{frames.cancelled} cancelled"] if frames.cancelled else []),
    ]
