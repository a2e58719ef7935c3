"""How far two detectors find the same: F1 of their boxes, with an interval.

Notation: per frame, d boxes of the one that is judged, r of the reference, t pairs of one label that overlap enough
(IoU, each box in one pair at most). F1 = 2 * sum t / (sum d + sum r). It is no accuracy: the reference errs too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray

from llamapipe.accuracy.matching import match
from llamapipe.data import Boxes

__all__ = ["Agreement", "agreement"]

_RESAMPLES = 1000
_Z = 1.96  # of a 95 % interval


@dataclass(frozen=True, slots=True)
class Agreement:
    """F1 with its 95 % interval, all in 0..1; nan where neither of the two found anything."""

    f1: float
    low: float
    high: float
    num_found: int
    num_reference: int
    num_frames: int

    def __str__(self) -> str:
        return f"F1 {self.f1:.3f} ({self.low:.3f} to {self.high:.3f}) of {self.num_reference} boxes"


def agreement(
    found: Sequence[Boxes], reference: Sequence[Boxes], *, rng: np.random.Generator, min_iou: float = 0.5
) -> Agreement:
    """Compare frame by frame, label by label.

    The interval is the wider one of two: a bootstrap over frames (boxes of one frame err together), and Wilson's of as
    many boxes (frames that all agree say nothing of how many more would).
    """
    counts = np.array([_counts(a, b, min_iou) for a, b in zip(found, reference, strict=True)], float).reshape(-1, 3)
    pairs, num_found, num_reference = (int(n) for n in counts.sum(0))
    if not num_found + num_reference:
        return Agreement(nan, nan, nan, 0, 0, len(counts))
    f1 = 2 * pairs / (num_found + num_reference)
    weights = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=_RESAMPLES)
    sums: NDArray[np.float64] = weights @ counts
    sizes = sums[:, 1] + sums[:, 2]
    resampled = 2 * sums[sizes > 0, 0] / sizes[sizes > 0]
    low, high = np.quantile(resampled, [0.025, 0.975])
    wilson_low, wilson_high = _wilson(f1, (num_found + num_reference) / 2)
    return Agreement(
        f1, min(float(low), wilson_low), max(float(high), wilson_high), num_found, num_reference, len(counts)
    )


def _counts(found: Boxes, reference: Boxes, min_iou: float) -> tuple[int, int, int]:
    pairs = 0
    table = {name: i for i, name in enumerate(reference.names)}
    own = np.array([table.get(name, -1) for name in found.names], int)
    label = own[found.label] if len(found) else np.empty(0, int)
    for wanted in np.intersect1d(label, reference.label):
        a, b = label == wanted, reference.label == wanted
        pairs += int(match(found.xyxy[a], found.score[a], reference.xyxy[b], min_iou).sum())
    return pairs, len(found), len(reference)


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's interval of a share of n (Wilson, 1927)."""
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)
