"""Lifecycles of serving as tables: a variant on its cores, and a query.

docs/architecture.md draws them; a test holds the drawing equal to these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

__all__ = ["QUERY", "VARIANT", "QueryState", "VariantState"]


class VariantState(StrEnum):
    """A variant in one place: a replica, or the want of one."""

    INACTIVE = "inactive"
    LOADING = "loading"
    ACTIVE = "active"
    OVERLOADED = "overloaded"  # more arrives than its replicas were measured to serve
    INTERFERED = "interfered"  # slower than it was measured, whatever arrives
    UNLOADING = "unloading"


class QueryState(StrEnum):
    """What became of a query."""

    WAITING = "waiting"
    SERVING = "serving"  # at least one of its items is with a replica
    ANSWERED = "answered"
    REFUSED = "refused"
    CANCELLED = "cancelled"


_GONE = frozenset({VariantState.UNLOADING, VariantState.INACTIVE})
VARIANT: Mapping[VariantState, frozenset[VariantState]] = {
    VariantState.INACTIVE: frozenset({VariantState.LOADING}),
    VariantState.LOADING: frozenset({VariantState.ACTIVE, *_GONE}),
    VariantState.ACTIVE: frozenset({VariantState.OVERLOADED, VariantState.INTERFERED, *_GONE}),
    VariantState.OVERLOADED: frozenset({VariantState.ACTIVE, VariantState.INTERFERED, *_GONE}),
    VariantState.INTERFERED: frozenset({VariantState.ACTIVE, VariantState.OVERLOADED, *_GONE}),
    VariantState.UNLOADING: frozenset({VariantState.INACTIVE}),
}

_ENDS = frozenset({QueryState.ANSWERED, QueryState.REFUSED, QueryState.CANCELLED})
QUERY: Mapping[QueryState, frozenset[QueryState]] = {
    QueryState.WAITING: frozenset({QueryState.SERVING, QueryState.REFUSED, QueryState.CANCELLED}),
    QueryState.SERVING: frozenset({QueryState.WAITING, *_ENDS}),
    QueryState.ANSWERED: frozenset(),
    QueryState.REFUSED: frozenset(),
    QueryState.CANCELLED: frozenset(),
}
