"""A search as SVG: how the best got cheaper, and what accuracy costs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from llamapipe.report.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, Axis, grid
from llamapipe.report.charts import WIDTH
from llamapipe.report.tuned import TriedRow

__all__ = ["best_so_far", "course", "front"]


def best_so_far(tried: Sequence[TriedRow]) -> list[tuple[float, float]]:
    """(trial from 1, core-ms a frame of the cheapest that fits so far); begins with the first that fits."""
    found: list[tuple[float, float]] = []
    best = float("inf")
    for number, one in enumerate(tried, 1):
        if one.fits and one.cost_core_ms is not None:
            best = min(best, one.cost_core_ms)
        if best < float("inf"):
            found.append((float(number), best))
    return found


def course(tried: Sequence[TriedRow]) -> str:
    """A dot a trial, and the cheapest that fits so far as a line of stairs."""
    measured = [(n, t, t.cost_core_ms) for n, t in enumerate(tried, 1) if t.cost_core_ms is not None]
    if not measured:
        return ""
    across = Axis([1.0, float(max(2, len(tried)))], LEFT, WIDTH - RIGHT, logarithmic=False)
    up = Axis([cost for _, _, cost in measured], HEIGHT - BOTTOM, TOP)
    ticks = [float(n) for n in range(1, len(tried) + 1, max(1, len(tried) // 12))]
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="cost by trial">']
    parts += grid(across, up, "trial", "core-ms", across_ticks=ticks)
    stairs = [(across.place(x), up.place(y)) for x, y in best_so_far(tried)]
    path = "".join(f"{'M' if i == 0 else f'H{x:.1f} L'}{x:.1f},{y:.1f} " for i, (x, y) in enumerate(stairs))
    if path:
        parts.append(f'<path d="{path}" fill="none" class="front"/>')
    parts += [_dot(across.place(n), up.place(cost), t, n) for n, t, cost in measured]
    return "".join([*parts, "</svg>"])


def front(tried: Sequence[TriedRow], floor: float) -> str:
    """A dot a trial: cost against accuracy with its interval, and the floor as a line."""
    known = [
        (n, t, t.cost_core_ms, t.accuracy)
        for n, t in enumerate(tried, 1)
        if t.cost_core_ms is not None and t.accuracy is not None
    ]
    if not known:
        return ""
    across = Axis([cost for _, _, cost, _ in known], LEFT, WIDTH - RIGHT)
    values: Sequence[float] = [floor, *(accuracy for _, _, _, accuracy in known)]
    up = Axis(values, HEIGHT - BOTTOM, TOP, logarithmic=False)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="accuracy against cost">']
    parts += grid(across, up, "core-ms a frame", "")
    y = up.place(floor)
    parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="limit"/>')
    for n, one, cost, accuracy in known:
        x = across.place(cost)
        low, high = (up.place(min(max(v or 0.0, up.low), up.high)) for v in (one.accuracy_low, one.accuracy_high))
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" class="interval"/>')
        parts.append(_dot(x, up.place(accuracy), one, n))
    return "".join([*parts, "</svg>"])


def _dot(x: float, y: float, tried: TriedRow, number: int) -> str:
    """Blue where it fits; what was chosen has a ring."""
    colour = "var(--accent)" if tried.fits else "var(--soft)"
    title = f"{number} {tried.what}: {tried.cost_core_ms or 0.0:.1f} core-ms {tried.differs}"
    dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"><title>{escape(title)}</title></circle>'
    ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="none" class="chosen"/>' if tried.chosen else ""
    return dot + ring
