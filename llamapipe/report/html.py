"""The HTML report: one file, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from llamapipe.report.charts import budget_chart, candidates_chart, latency_chart, timeline
from llamapipe.report.search_charts import course
from llamapipe.report.shadow_chart import shadow_chart
from llamapipe.report.summary import RunSummary
from llamapipe.report.trace import LatencyTrace, PictureStrip, TraceRecorder
from llamapipe.report.tuned import shown
from llamapipe.report.written import write_whole

__all__ = ["environment", "render_report", "write_report_html"]


def write_report_html(
    path: Path,
    summary: RunSummary,
    *,
    trace: TraceRecorder,
    latency: LatencyTrace,
    pictures: PictureStrip,
    graph: str,
) -> None:
    """Write the report; ``graph`` is the pipeline as text. Raises OutputError."""
    html = render_report(summary, trace=trace, latency=latency, pictures=pictures, graph=graph)
    write_whole(path, html.encode())


def render_report(
    summary: RunSummary, *, trace: TraceRecorder, latency: LatencyTrace, pictures: PictureStrip, graph: str
) -> str:
    """The report as text. Everything that comes from outside is escaped."""
    stages = [stage.name for stage in summary.stages]
    limit_ms = (
        summary.slo.limit
        if summary.slo is not None and summary.slo.judged and "p" in summary.slo.objective[:1]
        else None
    )
    template = environment().get_template("report.html")
    text: str = template.render(
        run=summary,
        colours=_colours(stages),
        timeline=timeline(trace.spans, _colours(stages), summary.wall_s),
        kept_share=trace.kept_share,
        latency_chart=latency_chart(latency.points, limit_ms) if summary.latency_ms is not None else None,
        pictures=[(caption, base64.b64encode(jpeg).decode()) for caption, jpeg in pictures.pictures],
        ledger=_ledger(summary),
        decisions=[(stage.name, decided) for stage in summary.stages for decided in stage.decisions],
        budgets=budget_chart(summary.stages, _colours(stages)),
        served=_served(summary, trace),
        busiest=max((stage.busy_s for stage in summary.stages), default=0.0) or 1.0,
        graph=graph,
        tuning=summary.tuning,
        rows=summary.tuning.tried if summary.tuning is not None else [],
        course=course(summary.tuning.tried) if summary.tuning is not None else "",
        against=_against(summary),
        shadowed=shadow_chart(summary.shadow) if summary.shadow is not None else "",
    )
    return text


def environment() -> Any:
    """What fills in the templates: everything that comes from outside is escaped."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("llamapipe.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["seconds"] = _seconds
    made.filters["figure"] = _figure
    made.filters["shown"] = shown
    return made


def _against(summary: RunSummary) -> list[tuple[str, str, str, str]]:
    """(figure, predicted, actual, what to bear in mind) of a tuned run."""
    tuning = summary.tuning
    if tuning is None or tuning.predicted is None:
        return []
    p, latency, shadow = tuning.predicted, summary.latency_ms, summary.shadow
    own_rate = "the run kept to its sources' own rate" if latency is not None else ""
    late = "the search had no latency to meet, and measured none" if p.p95_ms is None else ""
    late = "read as fast as it can be: frames have no latency" if latency is None else late
    rows = [
        ("latency p95, ms", _figure(p.p95_ms), _figure(latency.p95 if latency is not None else None), late),
        ("cost, core-ms a frame", _figure(p.cost_core_ms), _figure(tuning.cost_core_ms), ""),
        ("frames a second", f"{_figure(p.frames_per_s)} at most", _figure(summary.fps), own_rate),
    ]
    if p.accuracy is not None:
        interval = f"{p.accuracy:.3f} ({_figure(p.accuracy_low, 3)} to {_figure(p.accuracy_high, 3)})"
        least = shadow.least if shadow is not None else None
        seen = f"{least:.3f} at least" if least is not None else "–"
        remark = "not measured: --shadow looks at it while it runs" if tuning.metric == "agreement" else ""
        remark = "measured while it ran" if least is not None else remark
        rows.append((tuning.metric, interval, seen, remark))
    return rows


def _colours(stages: Sequence[str]) -> Mapping[str, str]:
    """A colour a stage, evenly around the circle and told apart in light and dark."""
    return {name: f"hsl({(210 + 360 * i // max(1, len(stages))) % 360} 62% 52%)" for i, name in enumerate(stages)}


def _served(summary: RunSummary, trace: TraceRecorder) -> list[dict[str, Any]]:
    """For every stage that had a choice: who served it when."""
    found: list[dict[str, Any]] = []
    for stage in summary.stages:
        spans = [span for span in trace.spans if span.stage == stage.name]
        if len(stage.served_by) < 2 or not spans:
            continue
        names = [served.variant or stage.type for served in stage.served_by]
        place = {served.choice: i for i, served in enumerate(stage.served_by)}
        spans = [msgspec.structs.replace(span, choice=place[span.choice]) for span in spans]
        shades = _shades(len(names))
        chart = candidates_chart(spans, names, shades, summary.wall_s)
        found.append(
            {"stage": stage.name, "chart": chart, "who": list(zip(names, shades, stage.served_by, strict=True))}
        )
    return found


def _shades(number: int) -> list[str]:
    """Colours of candidates, away from red, which says that something is wrong."""
    return [f"hsl({150 + 170 * i // max(1, number)} 58% {58 - 10 * (i % 2)}%)" for i in range(number)]


def _ledger(summary: RunSummary) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for stream in summary.streams:
        frames = stream.frames
        rows.append(
            {
                "stream": stream,
                "reasons": [
                    *(("filtered", reason, n) for reason, n in frames.filtered.items()),
                    *(("dropped", reason, n) for reason, n in frames.dropped.items()),
                    *(("failed", reason, n) for reason, n in frames.failed.items()),
                ],
                "filtered": sum(frames.filtered.values()),
                "dropped": sum(frames.dropped.values()),
                "failed": sum(frames.failed.values()),
            }
        )
    return rows


def _seconds(value: float) -> str:
    # The unit goes by the figure as it is shown: rounded up, one may reach the next.
    if round(value * 1000) < 1000:
        return f"{value * 1000:.0f} ms"
    if round(value, 2) < 60:
        return f"{value:.2f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds} s"


def _figure(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
