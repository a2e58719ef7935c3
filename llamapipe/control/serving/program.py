"""Which replicas serve the load at the least reserved cost: a small integer program.

Notation: v variants, i demands (queries alike in what they ask), h hosts.
n[v,h] replicas, x[i,v] items a second of demand i that variant v serves, u[i] items a second that nobody serves.
"""

from __future__ import annotations

import msgspec

__all__ = ["Option", "Demand", "Room", "Problem", "Solution"]


class Option(msgspec.Struct, frozen=True, array_like=True):
    """A variant that may run."""

    variant: str
    cores: int
    memory_bytes: int
    cost_per_s: float  # of one replica
    load_s: float
    running: dict[str, int] = {}  # replicas by host, those that load included


class Demand(msgspec.Struct, frozen=True, array_like=True):
    """Items a second of queries that ask alike."""

    items_per_s: float
    throughput: dict[str, float]  # items a second that one replica serves within what they ask, by variant


class Room(msgspec.Struct, frozen=True, array_like=True):
    """What a host has."""

    host: str
    cores: int
    memory_bytes: int
    devices: tuple[str, ...] = ("cpu",)


class Problem(msgspec.Struct, frozen=True):
    """All that the program looks at."""

    options: tuple[Option, ...]
    demands: tuple[Demand, ...]
    rooms: tuple[Room, ...]
    horizon_s: float = 10.0  # over which a replica that is started has to pay for its loading


class Solution(msgspec.Struct, frozen=True):
    """Replicas by (variant, host), none left out that should run."""

    replicas: dict[str, dict[str, int]]
    unserved: float = 0.0  # items a second
    cost_per_s: float = 0.0
