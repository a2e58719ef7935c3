"""Two axes of a chart as SVG: where values are, and lines and labels that say so."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llamapipe.report.charts import WIDTH

__all__ = ["BOTTOM", "HEIGHT", "LEFT", "RIGHT", "TOP", "Axis", "grid"]

LEFT, RIGHT, TOP, BOTTOM, HEIGHT = 80, 20, 10, 44, 340


class Axis:
    """Places values between two pixels, with room at both ends."""

    def __init__(self, values: Sequence[float], begin: float, end: float, *, logarithmic: bool = True) -> None:
        low, high = min(values), max(values)
        self._logarithmic = logarithmic and low > 0
        if self._logarithmic:
            self.low, self.high = low / 1.15, high * 1.15
        else:
            room = max((high - low) * 0.1, 0.01)
            self.low, self.high = max(0.0, low - room), high + room
        self._begin, self._end = begin, end

    def place(self, value: float) -> float:
        """Pixels of a value."""
        low, high = self.low, self.high
        if self._logarithmic:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self._begin + (value - low) / (high - low) * (self._end - self._begin)

    def ticks(self) -> list[float]:
        """Round values: 1, 2, 5 of every power of ten, or at most six evenly."""
        if self._logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [m * 10.0**n for n in powers for m in (1, 2, 5)]
            inside = [value for value in found if self.low <= value <= self.high]
            return inside if len(inside) > 1 else [float(f"{v:.2g}") for v in (self.low * 1.1, self.high / 1.1)]
        step = next(
            s for s in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1e9) if (self.high - self.low) / s <= 6
        )
        return [step * n for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def grid(
    across: Axis, up: Axis, across_unit: str, up_unit: str, across_ticks: Sequence[float] | None = None
) -> list[str]:
    """Lines and labels of two axes, as SVG."""
    parts = []
    for tick in across.ticks() if across_ticks is None else across_ticks:
        x = across.place(tick)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    for tick in up.ticks():
        y = up.place(tick)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        label = f"{tick:g} {up_unit}".strip()
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{across_unit}</text>')
    return parts
