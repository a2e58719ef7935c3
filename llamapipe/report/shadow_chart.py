"""Agreement of a configuration with its reference over the video, as SVG."""

from __future__ import annotations

from html import escape
from math import ceil, floor

from llamapipe.report.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, Axis, grid
from llamapipe.report.charts import WIDTH
from llamapipe.report.shadowed import BELOW, REFERENCE, RETUNED, THIN, ShadowSummary, ShadowWindow

__all__ = ["shadow_chart"]

_COLOURS = {BELOW: "var(--bad)", THIN: "var(--soft)"}


def shadow_chart(shadow: ShadowSummary) -> str:
    """A dot a window with its interval, the floor as a line across, and a line down wherever the run was changed."""
    seen = [(w, w.agreement) for w in shadow.windows if w.agreement is not None and w.verdict != RETUNED]
    if not seen:
        return ""
    times = [window.at_s for window in shadow.windows]
    across = Axis([min(times), max(times)], LEFT, WIDTH - RIGHT, logarithmic=False)
    # Of a few boxes the lower end says nothing: drawn in full, it would press all others into a strip at the top.
    values = [shadow.floor, 1.0, *(value for _, value in seen)]
    values += [w.low for w, _ in seen if w.low is not None and w.verdict != THIN]
    up = Axis(values, HEIGHT - BOTTOM, TOP, logarithmic=False)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="agreement with the reference over the video">'
    ]
    parts += grid(across, up, "seconds of the video", "", across_ticks=_ticks(across))
    y = up.place(shadow.floor)
    parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="limit"/>')
    for window in shadow.windows:
        if window.verdict in (REFERENCE, RETUNED):
            x = across.place(window.at_s)
            title = f"{window.at_s:.1f} s, frame {window.frame}: {window.verdict}, {window.ran} runs"
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="front">'
                f"<title>{escape(title)}</title></line>"
            )
    for window, value in seen:
        x = across.place(window.at_s)
        low, high = (up.place(min(max(v or 0.0, up.low), up.high)) for v in (window.low, window.high))
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" class="interval"/>')
        parts.append(_dot(x, up.place(value), window))
    return "".join([*parts, "</svg>"])


def _dot(x: float, y: float, window: ShadowWindow) -> str:
    colour = _COLOURS.get(window.verdict, "var(--accent)")
    title = f"{window.at_s:.1f} s, frame {window.frame}: {window.verdict}, {window.agreement or 0.0:.3f}"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"><title>{escape(title)}</title></circle>'


def _ticks(across: Axis) -> list[float]:
    """Round seconds, eight at most: videos are of seconds and of days."""
    span = across.high - across.low
    step = next(m * 10.0**n for n in range(-3, 12) for m in (1, 2, 5) if span / (m * 10.0**n) <= 8)
    return [step * i for i in range(ceil(across.low / step), floor(across.high / step) + 1)]
