"""Plots as SVG that stands on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

COLOURS = ("#2a6fdb", "#b97a08", "#8a8a8a", "#2f8f4e", "#b03060")
_WIDTH, _HEIGHT = 320, 230
_LEFT, _BOTTOM, _TOP, _RIGHT = 46, 40, 26, 12


@dataclass(frozen=True)
class Line:
    """A line over x; with a band where ``low`` and ``high`` are given."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dots: bool = False  # draw points, joined by nothing


@dataclass(frozen=True)
class Panel:
    """One of several plots side by side."""

    title: str
    lines: Sequence[Line]
    across: str
    up: str
    least: tuple[float, float] = field(default=(0.0, 0.0))  # of both axes


def panels(drawn: Sequence[Panel], *, columns: int = 2) -> str:
    """All of them, with one legend below."""
    names = list(dict.fromkeys(line.name for panel in drawn for line in panel.lines))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    columns = max(1, min(columns, len(drawn)))
    rows = -(-len(drawn) // columns)
    width, height = columns * _WIDTH, rows * _HEIGHT + 30
    box = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {box}><rect width="100%" height="100%" fill="white"/>']
    for at, panel in enumerate(drawn):
        parts.append(f'<g transform="translate({at % columns * _WIDTH},{at // columns * _HEIGHT})">')
        parts += _panel(panel, colours)
        parts.append("</g>")
    x = 12
    for name in names:
        parts.append(f'<rect x="{x}" y="{height - 20}" width="14" height="4" fill="{colours[name]}"/>')
        parts.append(f'<text x="{x + 18}" y="{height - 14}">{escape(name)}</text>')
        x += 34 + 7 * len(name)
    return "".join([*parts, "</svg>\n"])


def _panel(panel: Panel, colours: dict[str, str]) -> list[str]:
    xs = [x for line in panel.lines for x in line.x]
    ys = [y for line in panel.lines for y in (*line.y, *line.high)]
    x0, y0 = panel.least
    x1, y1 = max(xs, default=1.0), 1.05 * max(ys, default=1.0)
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> str:
        across = (x - x0) / max(1e-9, x1 - x0)
        up = min(1.0, max(0.0, (y - y0) / max(1e-9, y1 - y0)))
        return f"{_LEFT + across * wide:.1f},{_TOP + (1 - up) * high:.1f}"

    parts = [f'<text x="{_LEFT}" y="16" font-weight="bold">{escape(panel.title)}</text>']
    for i in range(5):
        x, y = x0 + i / 4 * (x1 - x0), y0 + i / 4 * (y1 - y0)
        across, up = place(x, y0).split(",")[0], place(x0, y).split(",")[1]
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up}" y2="{up}" stroke="#eee"/>')
        parts.append(f'<text x="{across}" y="{_HEIGHT - 26}" text-anchor="middle" fill="#666">{x:.3g}</text>')
        parts.append(f'<text x="{_LEFT - 5}" y="{float(up) + 4:.1f}" text-anchor="end" fill="#666">{y:.3g}</text>')
    parts.append(f'<text x="{_LEFT + wide / 2}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(panel.across)}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="16" text-anchor="end" fill="#666">up: {escape(panel.up)}</text>')
    for line in panel.lines:
        colour = colours[line.name]
        if line.low:
            there = [place(x, y) for x, y in zip(line.x, line.high, strict=True)]
            back = [place(x, y) for x, y in zip(reversed(line.x), reversed(line.low), strict=True)]
            parts.append(f'<polygon points="{" ".join([*there, *back])}" fill="{colour}" opacity="0.15"/>')
        points = [place(x, y) for x, y in zip(line.x, line.y, strict=True)]
        if line.dots:
            for point in points:
                x_, y_ = point.split(",")
                parts.append(f'<circle cx="{x_}" cy="{y_}" r="2.5" fill="{colour}" opacity="0.7"/>')
        else:
            joined = " ".join(points)
            parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return parts
