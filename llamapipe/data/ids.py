"""Identifiers as types."""

from __future__ import annotations

from typing import NamedTuple, NewType

__all__ = ["InvocationId", "ItemKey", "ReplicaId", "SinkName", "StageName", "StreamId", "WorkerId"]

StreamId = NewType("StreamId", str)
StageName = NewType("StageName", str)
SinkName = NewType("SinkName", str)
WorkerId = NewType("WorkerId", str)
ReplicaId = NewType("ReplicaId", str)
InvocationId = NewType("InvocationId", int)


class ItemKey(NamedTuple):
    """One item on a port: ``index`` counts the items of a frame (0 where a frame has one)."""

    stream: StreamId
    seq: int
    index: int = 0
