"""Charts as SVG: what each worker did when, and latency over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from llamapipe.report.summary import StageSummary
from llamapipe.report.trace import Span

__all__ = ["WIDTH", "budget_chart", "candidates_chart", "latency_chart", "timeline"]

WIDTH = 1000
_LEFT, _RIGHT = 90, 10
_ROW, _GAP = 22, 6
_CHARACTER = 8  # width of the widest in a label
_MOST_BARS = 4000
_BUCKETS = 100  # of the run's time


def _ticks(span: float, most: int = 10) -> list[float]:
    """Round values from 0 to ``span``."""
    if span <= 0:
        return [0.0]
    step = 10 ** len(str(int(span)))
    for divisor in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000):
        candidate = 10 ** len(str(int(span))) / divisor
        if span / candidate > most:
            break
        step = candidate
    return [i * step for i in range(int(span / step) + 1)]


def _number(value: float, span: float | None = None) -> str:
    """A tick's value without an exponent; with ``span``, as exact as can be seen on an axis that long."""
    if span is not None and span > 0:
        value = round(value, 3 - math.floor(math.log10(span)))
    return f"{value:.12g}"


def _time_label(x: float, y: float, text: str) -> str:
    """A label under ``x``; one that would stick out at the right ends there."""
    if x + len(text) * _CHARACTER / 2 > WIDTH:
        return f'<text x="{WIDTH}" y="{y:g}" text-anchor="end">{text}</text>'
    return f'<text x="{x:.1f}" y="{y:g}" text-anchor="middle">{text}</text>'


def timeline(spans: Sequence[Span], colours: Mapping[str, str], wall_s: float) -> str:
    """A row a worker, a bar an invocation; bars of a stage that touch are drawn as one."""
    workers = sorted({span.worker for span in spans})
    if not workers:
        return ""
    height = len(workers) * (_ROW + _GAP) + 24
    scale = (WIDTH - _LEFT - _RIGHT) / max(wall_s, 1e-9)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="invocations per worker over time">']
    for tick in _ticks(wall_s):
        x = _LEFT + tick * scale
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 20}" class="grid"/>')
        parts.append(_time_label(x, height - 6, f"{_number(tick)} s"))
    for row, worker in enumerate(workers):
        y = row * (_ROW + _GAP) + 2
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(worker)}</text>')
        for span in _merged([s for s in spans if s.worker == worker], 0.7 / scale, _MOST_BARS // len(workers)):
            x, width = _LEFT + span.start_s * scale, max(0.6, (span.end_s - span.start_s) * scale)
            colour = "var(--bad)" if span.failed else colours.get(span.stage, "gray")
            title = f"{span.stage}: {(span.end_s - span.start_s) * 1000:.1f} ms, {span.items} items"
            parts.append(
                f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{_ROW}" fill="{colour}">'
                f"<title>{escape(title)}</title></rect>"
            )
    return "".join([*parts, "</svg>"])


def _merged(spans: Sequence[Span], gap_s: float, most: int) -> list[Span]:
    """Neighbours of one stage closer than ``gap_s`` as one; with more than ``most`` left, a wider gap."""
    ordered = sorted(spans, key=lambda span: span.start_s)
    while True:
        merged: list[Span] = []
        for span in ordered:
            last = merged[-1] if merged else None
            if last is not None and last.stage == span.stage and span.start_s - last.end_s <= gap_s:
                merged[-1] = Span(
                    last.worker,
                    last.stage,
                    last.start_s,
                    max(last.end_s, span.end_s),
                    last.items + span.items,
                    last.first_seq,
                    last.failed + span.failed,
                )
            else:
                merged.append(span)
        if len(merged) <= most:
            return merged
        if len(merged) == len(ordered):  # no two neighbours are of one stage: keep the longest
            return sorted(sorted(merged, key=lambda s: s.start_s - s.end_s)[:most], key=lambda s: s.start_s)
        ordered, gap_s = merged, gap_s * 2


def latency_chart(points: Sequence[tuple[float, float]], limit_ms: float | None) -> str:
    """A dot a frame: when it left, and how old it was; the objective as a line."""
    if not points:
        return ""
    height, bottom = 220, 24
    begin = min(at_s for at_s, _ in points)  # they are in the order of being known, which is about that of time
    end = max(begin + 1e-9, max(at_s for at_s, _ in points))
    top_ms = max(max(latency for _, latency in points) * 1000, limit_ms or 0) * 1.1
    across, up = (WIDTH - _LEFT - _RIGHT) / (end - begin), (height - bottom - 6) / top_ms
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="latency over time">']
    for tick in _ticks(top_ms, 5):
        y = height - bottom - tick * up
        parts.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)} ms</text>')
    for tick in _ticks(end - begin):
        x = _LEFT + tick * across
        parts.append(_time_label(x, height - 6, f"{_number(begin + tick, end - begin)} s"))
    late = limit_ms if limit_ms is not None else float("inf")
    for at_s, latency_s in points:
        x, y = _LEFT + (at_s - begin) * across, height - bottom - latency_s * 1000 * up
        colour = "var(--bad)" if latency_s * 1000 > late else "var(--accent)"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>')
    if limit_ms is not None:
        y = height - bottom - limit_ms * up
        parts.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="limit"/>')
    return "".join([*parts, "</svg>"])


def budget_chart(stages: Sequence[StageSummary], colours: Mapping[str, str]) -> str:
    """A row a stage with a share of the objective: how long frames were there, to p50 and to p95, and the share.

    Of a deadline: what workers spent on a frame there.
    """
    rows = [found for stage in stages if (found := _against_budget(stage)) is not None]
    if not rows:
        return ""
    left = max(_LEFT, 16 + _CHARACTER * max(len(name) for name, *_ in rows))
    height = len(rows) * (_ROW + _GAP) + 24
    top_ms = 1.05 * max(max(budget_ms, most_ms) for _, budget_ms, _, most_ms, _ in rows)
    scale = (WIDTH - left - _RIGHT) / max(top_ms, 1e-9)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="time at each stage against its share">']
    for tick in _ticks(top_ms):
        x = left + tick * scale
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 20}" class="grid"/>')
        parts.append(_time_label(x, height - 6, f"{_number(tick)} ms"))
    for row, (name, budget_ms, usual_ms, most_ms, title) in enumerate(rows):
        y, colour = row * (_ROW + _GAP) + 2, colours.get(name, "gray")
        parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<g><title>{escape(title)}</title><rect x="{left}" y="{y + 5}" width="{most_ms * scale:.1f}" '
            f'height="{_ROW - 10}" fill="{colour}" opacity="0.45"/><rect x="{left}" y="{y}" '
            f'width="{usual_ms * scale:.1f}" height="{_ROW}" fill="{colour}"/></g>'
        )
        x = left + budget_ms * scale
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 2}" y2="{y + _ROW + 2}" class="limit"/>')
    return "".join([*parts, "</svg>"])


def _against_budget(stage: StageSummary) -> tuple[str, float, float, float, str] | None:
    """(name, share, full bar, pale bar: all milliseconds, what it says) of a stage that has a share."""
    budget_ms, there = stage.budget_ms, stage.through_ms
    if budget_ms is None:
        return None
    if there is not None:
        title = f"{stage.name}: p50 {there.p50:.1f} ms, p95 {there.p95:.1f} ms of {budget_ms:.1f} ms"
        return stage.name, budget_ms, there.p50, there.p95, title
    if stage.frame_ms is None:
        return None
    title = f"{stage.name}: {stage.frame_ms:.1f} ms a frame of {budget_ms:.1f} ms"
    return stage.name, budget_ms, stage.frame_ms, stage.frame_ms, title


def candidates_chart(spans: Sequence[Span], names: Sequence[str], colours: Sequence[str], wall_s: float) -> str:
    """Of one stage: a column a hundredth of the run, as high as items were worked on, by who served them.

    ``names`` and ``colours`` are those of its candidates, in their order.
    """
    if not spans:
        return ""
    height, bottom = 140, 24
    width_s = max(wall_s, 1e-9) / _BUCKETS
    items = [[0] * len(names) for _ in range(_BUCKETS)]
    for span in spans:
        items[min(_BUCKETS - 1, int(span.start_s / width_s))][span.choice] += span.items
    most = max(sum(bucket) for bucket in items)
    across, up = (WIDTH - _LEFT - _RIGHT) / _BUCKETS, (height - bottom - 6) / max(1, most)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="who served the stage over time">']
    for tick in _ticks(wall_s):
        parts.append(_time_label(_LEFT + tick / width_s * across, height - 6, f"{_number(tick)} s"))
    parts.append(f'<text x="{_LEFT - 8}" y="18" text-anchor="end">{most / width_s:.3g} /s</text>')
    for place, bucket in enumerate(items):
        y = float(height - bottom)
        for choice, number in enumerate(bucket):
            if number:
                y -= number * up
                title = f"{place * width_s:.2f} s: {number} items by {names[choice]}"
                parts.append(
                    f'<rect x="{_LEFT + place * across:.2f}" y="{y:.2f}" width="{across - 0.6:.2f}" '
                    f'height="{number * up:.2f}" fill="{colours[choice]}"><title>{escape(title)}</title></rect>'
                )
    parts.append(
        f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{height - bottom}" y2="{height - bottom}" class="grid"/>'
    )
    return "".join([*parts, "</svg>"])
