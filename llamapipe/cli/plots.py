"""Charts of characters, for terminals and logs alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["plot"]

_MARKS = "abcdefghijklmnopqrstuvwxyz"
_SEVERAL = "+"  # where marks of several series meet


def plot(
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    *,
    across: str,
    up: str,
    width: int = 64,
    height: int = 14,
    log_up: bool = True,
) -> str:
    """Points of named series, marked a, b, c and so on, with a legend; the axis across is logarithmic.

    Empty where there is nothing to draw. Series beyond the alphabet are left out.
    """
    drawn = [(name, list(points)) for name, points in series[: len(_MARKS)] if points]
    xs = [x for _, points in drawn for x, _ in points]
    ys = [y for _, points in drawn for _, y in points]
    if not xs:
        return ""
    cells = [[" "] * width for _ in range(height)]
    for mark, (_, points) in zip(_MARKS, drawn, strict=False):
        for x, y in points:
            column = _cell(x, min(xs), max(xs), width, True)
            row = height - 1 - _cell(y, min(ys), max(ys), height, log_up)
            cells[row][column] = mark if cells[row][column] in (" ", mark) else _SEVERAL
    labels = [f"{max(ys):.3g}", *[""] * (height - 2), f"{min(ys):.3g}"]
    margin = max(len(label) for label in (*labels, up))
    lines = [up.rjust(margin)]
    lines += [f"{label.rjust(margin)} |{''.join(row).rstrip()}" for label, row in zip(labels, cells, strict=True)]
    lines.append(f"{' ' * margin} +{'-' * width}")
    low, high = f"{min(xs):.3g}", f"{max(xs):.3g}"
    lines.append(f"{' ' * margin}  {low}{across.center(width - len(low) - len(high))}{high}")
    lines += [f"  {mark}  {name}" for mark, (name, _) in zip(_MARKS, drawn, strict=False)]
    return "\n".join(lines)


def _cell(value: float, low: float, high: float, num: int, logarithmic: bool) -> int:
    if low == high:
        return num // 2
    if logarithmic and low > 0:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return round((value - low) / (high - low) * (num - 1))
