"""Boxes with labels and scores, as struct of arrays.

Notation: n boxes; xyxy are left, top, right, bottom in pixels, right and bottom exclusive, origin top left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import supervision

    from llamapipe.data.frames import Placement

__all__ = ["Boxes", "Classes", "Tracks"]


class Boxes:
    """What was found in one picture (or, after a join, in one frame).

    ``xyxy`` (n, 4) float32 pixels; ``score`` (n,) float32 in 0..1; ``label`` (n,) int32, an index into ``names``;
    ``track_id`` (n,) int64, or None where nothing was tracked (-1: this box has no track yet).
    """

    __slots__ = ("label", "names", "score", "track_id", "xyxy")

    def __init__(
        self,
        xyxy: NDArray[np.float32],
        score: NDArray[np.float32],
        label: NDArray[np.int32],
        names: Sequence[str],
        track_id: NDArray[np.int64] | None = None,
    ) -> None:
        self.xyxy = np.asarray(xyxy, np.float32).reshape(-1, 4)
        self.score = np.asarray(score, np.float32).reshape(-1)
        self.label = np.asarray(label, np.int32).reshape(-1)
        self.names = tuple(names)
        self.track_id = None if track_id is None else np.asarray(track_id, np.int64).reshape(-1)
        n = len(self.xyxy)
        for name, array in (("score", self.score), ("label", self.label), ("track_id", self.track_id)):
            if array is not None and len(array) != n:
                raise ValueError(f"{name} has {len(array)} entries for {n} boxes")

    @classmethod
    def empty(cls, names: Sequence[str] = ()) -> Self:
        """No boxes."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32), names)

    @classmethod
    def concat(cls, parts: Sequence[Boxes]) -> Self:
        """All boxes of ``parts`` in order; label tables are merged. Tracks survive if any part has them."""
        if len(parts) == 1 and type(parts[0]) is cls:
            return parts[0]
        names: dict[str, int] = {}
        labels: list[NDArray[np.int32]] = []
        for part in parts:
            table = np.array([names.setdefault(name, len(names)) for name in part.names], np.int32)
            labels.append(table[part.label] if len(part) else part.label)
        if not parts:
            return cls.empty()
        tracked = any(part.track_id is not None for part in parts)
        return cls(
            np.concatenate([part.xyxy for part in parts]),
            np.concatenate([part.score for part in parts]),
            np.concatenate(labels),
            tuple(names),
            np.concatenate([p.track_id if p.track_id is not None else np.full(len(p), -1, np.int64) for p in parts])
            if tracked
            else None,
        )

    def __len__(self) -> int:
        return len(self.xyxy)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """One plain dict a box: box, label, score, and track_id where there is one."""
        for i in range(len(self)):
            item: dict[str, Any] = {
                "box": [round(float(v), 2) for v in self.xyxy[i]],
                "label": self.names[self.label[i]],
                "score": round(float(self.score[i]), 4),
            }
            if self.track_id is not None and self.track_id[i] >= 0:
                item["track_id"] = int(self.track_id[i])
            yield item

    def __repr__(self) -> str:
        counts = {name: int((self.label == i).sum()) for i, name in enumerate(self.names)}
        found = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        return f"{type(self).__name__}({found or 'none'})"

    @property
    def labels(self) -> list[str]:
        """The label of each box as text."""
        return [self.names[i] for i in self.label]

    def select(self, keep: NDArray[Any] | slice) -> Self:
        """The boxes that a boolean mask, an index array or a slice picks."""
        return type(self)(
            self.xyxy[keep],
            self.score[keep],
            self.label[keep],
            self.names,
            None if self.track_id is None else self.track_id[keep],
        )

    def to_source(self, placement: Placement) -> Self:
        """The same boxes in source pixels, given that they are in those of a picture so placed."""
        return self if placement.is_identity else self._moved(placement.to_source(self.xyxy))

    def from_source(self, placement: Placement) -> Self:
        """The same boxes in the pixels of a picture so placed, given that they are in source pixels."""
        return self if placement.is_identity else self._moved(placement.from_source(self.xyxy))

    def _moved(self, xyxy: NDArray[np.float32]) -> Self:
        return type(self)(xyxy, self.score, self.label, self.names, self.track_id)

    def to_supervision(self) -> supervision.Detections:
        """The same as ``supervision.Detections`` (class_id indexes ``names``; data["class_name"] is set)."""
        import supervision

        return supervision.Detections(
            xyxy=self.xyxy,
            confidence=self.score,
            class_id=self.label.astype(int),
            tracker_id=None if self.track_id is None else self.track_id.astype(int),
            data={"class_name": np.array(self.labels, dtype=object)},
        )


class Tracks(Boxes):
    """Boxes that carry track ids."""

    __slots__ = ()


class Classes(Boxes):
    """What a classifier says: one entry a picture, ``xyxy`` being the picture's place."""

    __slots__ = ()
