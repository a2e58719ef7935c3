"""The page of a tuning: what was tried, how the best got cheaper, and what was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from llamapipe.report.charts import WIDTH
from llamapipe.report.html import environment
from llamapipe.report.profiles import Axis, grid
from llamapipe.report.written import PAGE, check_replaceable, write_whole
from llamapipe.tune import Tried, Tuning

__all__ = ["best_so_far", "difference", "shown", "write_tuning_html"]

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 80, 20, 10, 44, 340


def best_so_far(tuning: Tuning) -> list[tuple[float, float]]:
    """(trial from 1, core-ms a frame of the cheapest that fits so far); begins with the first that fits."""
    found: list[tuple[float, float]] = []
    best = float("inf")
    for number, tried in enumerate(tuning.tried, 1):
        if tried.fits and tried.predicted is not None:
            best = min(best, tried.predicted.cost_core_ms)
        if best < float("inf"):
            found.append((float(number), best))
    return found


def write_tuning_html(path: Path, tuning: Tuning) -> None:
    """One page; nothing is loaded from elsewhere. Raises OutputError."""
    text = (
        environment()
        .get_template("tuning.html")
        .render(
            tuning=tuning,
            course=_course(tuning),
            front=_front(tuning),
            chosen=[(key, shown(value)) for key, value in tuning.values.items()],
            rows=[(number, tried, difference(tried, tuning)) for number, tried in enumerate(tuning.tried, 1)],
        )
    )
    check_replaceable(path, PAGE, "page")
    write_whole(path, text.encode())


def difference(tried: Tried, tuning: Tuning) -> str:
    """What a configuration has other than the reference, in words."""
    keys = dict.fromkeys([*tuning.reference, *tried.values])
    return " ".join(
        f"{key}={shown(tried.values[key])}" if key in tried.values else f"{key}=as it is"
        for key in keys
        if tried.values.get(key) != tuning.reference.get(key)
    )


def shown(value: object) -> str:
    """A knob's value as people read it."""
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _course(tuning: Tuning) -> str:
    """A dot a trial, and the cheapest that fits so far as a line of stairs."""
    measured = [(n, t) for n, t in enumerate(tuning.tried, 1) if t.predicted is not None]
    if not measured:
        return ""
    across = Axis([1.0, float(max(2, len(tuning.tried)))], _LEFT, WIDTH - _RIGHT, logarithmic=False)
    up = Axis([_core_ms(t) for _, t in measured], _HEIGHT - _BOTTOM, _TOP)
    ticks = [float(n) for n in range(1, len(tuning.tried) + 1, max(1, len(tuning.tried) // 12))]
    parts = [f'<svg viewBox="0 0 {WIDTH} {_HEIGHT}" role="img" aria-label="cost by trial">']
    parts += grid(across, up, "trial", "core-ms", across_ticks=ticks)
    stairs = [(across.place(x), up.place(y)) for x, y in best_so_far(tuning)]
    path = "".join(f"{'M' if i == 0 else f'H{x:.1f} L'}{x:.1f},{y:.1f} " for i, (x, y) in enumerate(stairs))
    if path:
        parts.append(f'<path d="{path}" fill="none" class="front"/>')
    parts += [_dot(across.place(n), up.place(_core_ms(t)), t, n, tuning) for n, t in measured]
    return "".join([*parts, "</svg>"])


def _front(tuning: Tuning) -> str:
    """A dot a trial: cost against accuracy with its interval, and the floor as a line."""
    known = [
        (n, t, t.predicted)
        for n, t in enumerate(tuning.tried, 1)
        if t.predicted is not None and t.predicted.accuracy is not None
    ]
    if not known:
        return ""
    across = Axis([_core_ms(t) for _, t, _ in known], _LEFT, WIDTH - _RIGHT)
    values: Sequence[float] = [tuning.floor, *(p.accuracy or 0.0 for _, _, p in known)]
    up = Axis(values, _HEIGHT - _BOTTOM, _TOP, logarithmic=False)
    parts = [f'<svg viewBox="0 0 {WIDTH} {_HEIGHT}" role="img" aria-label="accuracy against cost">']
    parts += grid(across, up, "core-ms a frame", "")
    y = up.place(tuning.floor)
    parts.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="limit"/>')
    for n, tried, p in known:
        x = across.place(_core_ms(tried))
        low, high = (up.place(min(max(v or 0.0, up.low), up.high)) for v in (p.accuracy_low, p.accuracy_high))
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" class="interval"/>')
        parts.append(_dot(x, up.place(p.accuracy or 0.0), tried, n, tuning))
    return "".join([*parts, "</svg>"])


def _dot(x: float, y: float, tried: Tried, number: int, tuning: Tuning) -> str:
    colour = "var(--accent)" if tried.fits else "var(--soft)"
    title = f"{number} {tried.what}: {_core_ms(tried):.1f} core-ms {difference(tried, tuning)}"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"><title>{escape(title)}</title></circle>'


def _core_ms(tried: Tried) -> float:
    return tried.predicted.cost_core_ms if tried.predicted is not None else 0.0
