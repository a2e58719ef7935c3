"""Simulated runs as a page, a table and a sheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from html import escape

from llamapipe.report.html import environment
from llamapipe.sim.judge import Judgement

__all__ = ["COLUMNS", "render_simulation", "simulation_csv", "simulation_rows"]

COLUMNS = (
    "policy",
    "in time",
    "met",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "accuracy",
    "cost used",
    "cost reserved",
    "busy",
    "dropped",
    "failed",
)
_WIDTH, _LEFT, _RIGHT, _HEIGHT, _BOTTOM = 1000, 70, 10, 240, 24


def simulation_rows(judgements: Sequence[Judgement], bound: float) -> list[tuple[str, ...]]:
    """A row a policy, in `COLUMNS`, and the offline bound of cost."""
    rows = [
        (
            j.policy,
            f"{j.attainment:.2%}",
            "yes" if j.met else "no",
            _ms(j.p50_s),
            _ms(j.p95_s),
            _ms(j.p99_s),
            f"{j.accuracy:.3f}",
            f"{j.cost_used:.4g}",
            f"{j.cost_reserved:.4g}",
            f"{j.utilisation:.0%}",
            str(j.dropped),
            str(j.failed),
        )
        for j in judgements
    ]
    return [*rows, ("oracle (bound)", "", "", "", "", "", "", f"{bound:.4g}", "", "", "", "")]


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f}"


def simulation_csv(judgements: Sequence[Judgement]) -> str:
    """Every policy's course over time: a line a moment."""
    text = io.StringIO()
    sheet = csv.writer(text, lineterminator="\n")
    sheet.writerow(["scenario", "policy", "at_s", "frames", "p95_s", "busy_s", "variant", "items"])
    for judgement in judgements:
        for moment in judgement.moments:
            head = [
                judgement.scenario,
                judgement.policy,
                f"{moment.at_s:.3f}",
                moment.frames,
                "" if moment.p95_s is None else f"{moment.p95_s:.6f}",
                f"{moment.busy_s:.6f}",
            ]
            for variant, items in sorted(moment.by_variant.items()) or [("", 0)]:
                sheet.writerow([*head, variant, items])
    return text.getvalue()


def render_simulation(
    judgements: Sequence[Judgement], bound: float, *, limit_s: float | None, description: str, facts: Mapping[str, str]
) -> str:
    """One page, nothing loaded from elsewhere. Everything that comes from outside is escaped."""
    colours = {
        j.policy: f"hsl({(210 + 360 * i // max(1, len(judgements))) % 360} 62% 52%)" for i, j in enumerate(judgements)
    }
    latency = {j.policy: [(m.at_s, m.p95_s) for m in j.moments if m.p95_s is not None] for j in judgements}
    busy = {j.policy: [(m.at_s, m.busy_s / (2 * j.moments[0].at_s)) for m in j.moments] for j in judgements}
    template = environment().get_template("simulation.html")
    page: str = template.render(
        name=judgements[0].scenario,
        description=description,
        facts=facts,
        columns=COLUMNS,
        rows=simulation_rows(judgements, bound),
        colours=colours,
        latency=_lines(latency, colours, "95th percentile of latency, seconds", limit_s),
        busy=_lines(busy, colours, "workers busy", None),
        decisions=[(j.policy, _decisions(j)) for j in judgements],
        stages=[(j.policy, use) for j in judgements for use in j.stages],
    )
    return page


def _lines(
    series: Mapping[str, Sequence[tuple[float, float]]], colours: Mapping[str, str], label: str, limit: float | None
) -> str:
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    end = max(x for x, _ in points) or 1.0
    # One bad moment of one policy must not flatten all others.
    top = 1.1 * max(sorted(y for _, y in points)[int(0.99 * (len(points) - 1))], limit or 0.0, 1e-9)
    across, up = (_WIDTH - _LEFT - _RIGHT) / end, (_HEIGHT - _BOTTOM - 6) / top
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">']
    for i in range(5):
        y = _HEIGHT - _BOTTOM - i / 4 * top * up
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{i / 4 * top:.3g}</text>')
        x = _LEFT + i / 4 * end * across
        anchor = "middle" if i < 4 else "end"
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{i / 4 * end:.3g} s</text>')
    if limit is not None:
        y = _HEIGHT - _BOTTOM - limit * up
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="limit"/>')
    for name, line in series.items():
        path = " ".join(f"{_LEFT + x * across:.1f},{_HEIGHT - _BOTTOM - min(y, top) * up:.1f}" for x, y in line)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="1.8">'
            f"<title>{escape(name)}</title></polyline>"
        )
    return "".join([*parts, "</svg>"])


def _decisions(judgement: Judgement) -> str:
    """Items by variant over time, one on top of the other."""
    names = sorted({name for moment in judgement.moments for name in moment.by_variant})
    if not names:
        return ""
    top = max(sum(moment.by_variant.values()) for moment in judgement.moments) or 1
    height = 150
    width = (_WIDTH - _LEFT - _RIGHT) / len(judgement.moments)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height + 22 * len(names)}" role="img" aria-label="items by variant">']
    for i, moment in enumerate(judgement.moments):
        y = float(height)
        for k, name in enumerate(names):
            tall = moment.by_variant.get(name, 0) / top * (height - 6)
            if tall:
                y -= tall
                x = _LEFT + i * width
                colour = _shade(k, len(names))
                parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{tall:.1f}" fill="{colour}"/>')
    for k, name in enumerate(names):
        y = height + 16 + 22 * k
        parts.append(f'<rect x="{_LEFT}" y="{y - 10}" width="11" height="11" fill="{_shade(k, len(names))}"/>')
        parts.append(f'<text x="{_LEFT + 18}" y="{y}">{escape(name)}</text>')
    return "".join([*parts, "</svg>"])


def _shade(index: int, of: int) -> str:
    return f"hsl({(30 + 360 * index // max(1, of)) % 360} 58% 50%)"
