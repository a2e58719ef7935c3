"""How many items a stage gets of a frame, while the frame's own count is not known yet.

A mean would promise away time that a full frame needs: the estimate is an upper quantile of what frames had lately.
"""

from __future__ import annotations

__all__ = ["ItemsPerFrame"]

_RESCALE_AT = 1e12


class ItemsPerFrame:
    """Exponentially fading histogram of item counts: a frame ``memory`` frames ago weighs 1/e of the latest.

    A branch that was not taken counts as 0 items. Before anything was seen the estimate is ``prior``.
    """

    __slots__ = ("_counts", "_growth", "_prior", "_quantile", "_sum", "_total", "_value", "_weight")

    def __init__(self, *, prior: float = 1.0, quantile: float = 0.95, memory: int = 200, max_items: int = 64) -> None:
        self._prior = prior
        self._quantile = quantile
        self._counts = [0.0] * (max_items + 1)
        # Letting the newest weigh more is the same as fading all that came before, and touches one number.
        self._growth = 1.0 + 1.0 / memory
        self._weight = 1.0
        self._total = 0.0
        self._sum = 0.0
        self._value: float | None = None

    def saw(self, num_items: int) -> None:
        """A frame has had so many items."""
        at = min(max(num_items, 0), len(self._counts) - 1)
        self._counts[at] += self._weight
        self._total += self._weight
        self._sum += self._weight * at
        self._weight *= self._growth
        if self._weight > _RESCALE_AT:
            self._counts = [count / _RESCALE_AT for count in self._counts]
            self._total /= _RESCALE_AT
            self._sum /= _RESCALE_AT
            self._weight /= _RESCALE_AT
        self._value = None

    @property
    def mean(self) -> float:
        """Items a frame, on average of the frames that still count."""
        return self._sum / self._total if self._total else self._prior

    @property
    def upper(self) -> float:
        """The quantile of items a frame: a branch that is taken often enough to matter counts with all it costs."""
        if not self._total:
            return self._prior
        if self._value is None:
            wanted = self._quantile * self._total
            seen = 0.0
            at = 0
            while at < len(self._counts) - 1 and (seen := seen + self._counts[at]) < wanted:
                at += 1
            self._value = float(at)
        return self._value
