"""What a search may choose from: knobs with few values each, and the points that exist."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

import numpy as np
from numpy.typing import NDArray

from llamapipe.errors import UsageError

__all__ = ["Knob", "Point", "Scale", "Space", "Value"]

Value = int | float | str
"""Of one knob."""

Point = tuple[Value, ...]
"""One value for every knob, in the order of the space's knobs."""


class Scale(StrEnum):
    """When two values of a knob are alike."""

    LINEAR = "linear"  # by their difference
    LOG = "log"  # by their ratio
    CATEGORY = "category"  # never: any two differ as much


@dataclass(frozen=True, slots=True)
class Knob:
    """Something to choose, with all its values."""

    name: str
    values: tuple[Value, ...]
    scale: Scale = Scale.LINEAR


class Space:
    """Knobs and the points that exist: all combinations, or those given. Raises UsageError where there are none."""

    def __init__(self, knobs: Sequence[Knob], points: Sequence[Point] | None = None) -> None:
        self.knobs = tuple(knobs)
        chosen = product(*(knob.values for knob in self.knobs)) if points is None else points
        self.points: tuple[Point, ...] = tuple(dict.fromkeys(tuple(point) for point in chosen))
        if not self.knobs or not self.points:
            raise UsageError("a search space needs a knob, and a value for each")
        for knob in self.knobs:
            if knob.scale is not Scale.CATEGORY and not all(isinstance(v, int | float) for v in knob.values):
                raise UsageError(f"knob {knob.name}: expected numbers, got {knob.values}", hint="make it a category")
            if knob.scale is Scale.LOG and not all(isinstance(v, int | float) and v > 0 for v in knob.values):
                raise UsageError(f"knob {knob.name}: expected numbers above zero, got {knob.values}")
        self.index = {point: at for at, point in enumerate(self.points)}
        self.coordinates = self.encode(self.points)
        """float64 (points, columns), see `encode`."""

    def encode(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """Coordinates in which near points are alike: float64 (points, columns).

        A number takes one column from 0 (its least value) to 1; a category one column a value, such that two
        different ones are at a distance of 1. Raises UsageError for a value that no knob has.
        """
        columns: list[NDArray[np.float64]] = []
        for at, knob in enumerate(self.knobs):
            values = [point[at] for point in points]
            if knob.scale is Scale.CATEGORY:
                unknown = [value for value in values if value not in knob.values]
                if unknown:
                    raise UsageError(f"knob {knob.name}: expected one of {knob.values}, got {unknown[0]!r}")
                if len(knob.values) > 1:
                    columns += [
                        np.array([value == one for value in values], np.float64) / math.sqrt(2) for one in knob.values
                    ]
                continue
            numbers = np.array([float(value) for value in values])
            known = np.array([float(value) for value in knob.values])
            if knob.scale is Scale.LOG:
                numbers, known = np.log(numbers), np.log(known)
            low, high = known.min(), known.max()
            if high > low:
                columns.append((numbers - low) / (high - low))
        return np.stack(columns, axis=1) if columns else np.zeros((len(points), 1))
