"""What a user asks of a model: the task, and how fast, right and cheap."""

from __future__ import annotations

import msgspec

__all__ = ["Floor", "Query"]


class Floor(msgspec.Struct, frozen=True, array_like=True):
    """The least accuracy that will do, on one metric.

    ``metric`` "agreement" is F1 with the best variant of the task on this machine (a bare number means that);
    a named one ("coco_ap", "ap50") is compared only with figures of that metric.
    """

    value: float
    metric: str = "agreement"


class Query(msgspec.Struct, frozen=True):
    """One request for inference. One of ``task``, ``model``, ``variant`` is given; the rest are constraints.

    ``latency_s`` bounds the time from arrival to answer. ``max_cost`` bounds the reserved core-seconds an item (or its
    price, where prices are given). None: not constrained. Every constraint is honoured or the query is refused.
    """

    task: str | None = None
    model: str | None = None
    variant: str | None = None
    num_items: int = 1
    latency_s: float | None = None
    accuracy: Floor | None = None
    max_cost: float | None = None
    labels: tuple[str, ...] = ()
    min_score: float | None = None
    offline: bool = False  # takes only what nobody else wants
