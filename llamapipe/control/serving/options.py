"""What may serve a query. Kept apart from the selector: compiled classes cannot be referred to weakly, this one is."""

from __future__ import annotations

from dataclasses import dataclass

from llamapipe.control.serving.actions import Nearest
from llamapipe.control.serving.offers import Offer

__all__ = ["Options"]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Options:
    """What can serve a query, the cheapest first; where nothing can, why, and what comes closest."""

    offers: tuple[Offer, ...] = ()
    names: frozenset[str] = frozenset()
    code: str = ""
    reason: str = ""
    nearest: Nearest | None = None
