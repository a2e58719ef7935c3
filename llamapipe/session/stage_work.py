"""What a stage did, such that a run that goes on from a checkpoint counts no frame's work twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from llamapipe.session.checkpoints import StageTally

__all__ = ["StageWork"]


@dataclass(slots=True)
class _Sum:
    items: int = 0
    invocations: int = 0
    failed: int = 0
    busy_s: float = 0.0

    def add(self, other: _Sum) -> None:
        self.items += other.items
        self.invocations += other.invocations
        self.failed += other.failed
        self.busy_s += other.busy_s


@dataclass(slots=True)
class _Stream:
    seq: int = 0  # of the first frame after its checkpoint
    open: dict[int, _Sum] = field(default_factory=dict)  # by frame, of those from there on


class StageWork:
    """Work of one stage before every stream's checkpoint. What lies after it is done again by who goes on from there.

    ``before`` is what earlier processes did; ``points`` the frame by stream that this one begins with, of all streams
    that can be gone on with. An invocation counts to its first item's frame, its time in equal parts to all of them.
    """

    def __init__(self, before: StageTally | None, points: dict[str, int]) -> None:
        self._kept = _Sum()
        if before is not None:
            self._kept = _Sum(before.items, before.invocations, before.failed, before.busy_s)
        self._streams = {stream: _Stream(seq) for stream, seq in points.items()}

    def did(self, items: Sequence[tuple[str, int, int]], failed: Collection[int], busy_s: float) -> None:
        """An invocation has been answered; ``failed`` are places among ``items`` (stream, seq, index)."""
        for i, (stream, seq, _) in enumerate(items):
            place = self._streams.get(stream)
            if place is None:
                continue
            part = _Sum(1, int(i == 0), int(i in failed), busy_s / len(items))
            if seq < place.seq:
                self._kept.add(part)
            else:
                place.open.setdefault(seq, _Sum()).add(part)

    def passed(self, stream: str, seq: int) -> None:
        """The stream has a checkpoint before frame ``seq``."""
        place = self._streams[stream]
        place.seq = seq
        for done in [done for done in place.open if done < seq]:
            self._kept.add(place.open.pop(done))

    def tally(self) -> StageTally:
        """What a checkpoint says of it."""
        kept = self._kept
        return StageTally(kept.items, kept.invocations, kept.failed, kept.busy_s)
