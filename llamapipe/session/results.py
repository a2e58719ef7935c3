"""What a caller gets of each frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from llamapipe.data import Boxes, Events, Image
from llamapipe.errors import LlamapipeError, UsageError
from llamapipe.media.contract import Outcome, SinkItem
from llamapipe.spec.names import did_you_mean

if TYPE_CHECKING:
    import pandas
    import supervision

__all__ = ["FrameResult", "to_pandas"]


@dataclass(frozen=True, slots=True)
class FrameResult:
    """One frame's results. Boxes are in source pixels.

    A stage that was skipped for this frame (its ``when`` was false) has no entry; a frame that was not delivered has
    none at all, and says why.
    """

    stream: str
    frame: int  # from 0
    pts_s: float
    outcome: Outcome
    reason: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)  # "stage.port" -> Boxes, Events or Image
    stages: Sequence[str] = field(default=(), repr=False, compare=False)  # of the pipeline; empty: nobody has said

    @classmethod
    def from_item(cls, item: SinkItem) -> FrameResult:
        """From what sinks are given."""
        values = {_shown(selector): value for selector, value in item.values.items()}
        stages = _stages_of(tuple(item.selectors))
        return cls(item.stream, item.seq, item.pts_s, item.outcome, item.reason, values, stages)

    def __getitem__(self, key: str) -> Any:
        """``result["detect.boxes"]``, or ``result["detect"]`` where the stage has one output here."""
        if key in self.values:
            return self.values[key]
        found = [value for name, value in self.values.items() if name.split(".")[0] == key]
        if len(found) == 1:
            return found[0]
        if found:
            raise KeyError(
                f"stage {key!r} has several outputs: {', '.join(n for n in self.values if n.startswith(key))}"
            )
        raise KeyError(f"{key!r}: this frame has {', '.join(self.values) or 'no values'}")

    def __contains__(self, key: str) -> bool:
        return key in self.values or any(name.split(".")[0] == key for name in self.values)

    def boxes(self, stage: str) -> Boxes:
        """Boxes, tracks or classes of a stage; empty where it was skipped. UsageError for a stage without any."""
        found = self._of(stage)
        boxes = [value for value in found if isinstance(value, Boxes)]
        if found and not boxes:
            raise UsageError(f"stage {stage!r} gives no boxes", hint=f"this frame has {', '.join(self.values)}")
        return boxes[0] if boxes else Boxes.empty()

    def events(self, stage: str) -> Events:
        """Events of a stage; empty where it was skipped. UsageError for a stage without any."""
        found = self._of(stage)
        events = [value for value in found if isinstance(value, Events)]
        if found and not events:
            raise UsageError(f"stage {stage!r} gives no events", hint=f"this frame has {', '.join(self.values)}")
        return events[0] if events else Events()

    def _of(self, stage: str) -> list[Any]:
        """What the stage gave. Raises UsageError for a stage that the pipeline does not have."""
        found = [value for name, value in self.values.items() if name.split(".")[0] == stage]
        if not found and self.stages and stage not in self.stages:
            hint = did_you_mean(stage, self.stages, f"there are {', '.join(self.stages)}")
            raise UsageError(f"there is no stage {stage!r} that gives anything", hint=hint)
        return found

    def image(self, stage: str = "source") -> Image:
        """Picture of a stage, or the decoded one. Raises UsageError where there is none."""
        for name, value in self.values.items():
            if name.split(".")[0] == stage and isinstance(value, Image):
                return value
        raise UsageError(
            f"no picture of {stage!r} in this frame", hint=f"it has {', '.join(self.values) or 'no values'}"
        )

    def to_supervision(self, stage: str) -> supervision.Detections:
        """Boxes of a stage as ``supervision.Detections``."""
        return self.boxes(stage).to_supervision()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, pictures left out."""
        return {
            "stream": self.stream,
            "frame": self.frame,
            "pts_s": self.pts_s,
            "outcome": str(self.outcome),
            **({"reason": self.reason} if self.reason else {}),
            "values": {name: list(value) for name, value in self.values.items() if not isinstance(value, Image)},
        }


def _shown(selector: str) -> str:
    return selector.removeprefix("$ops.").removeprefix("$")


@lru_cache(maxsize=64)  # a run asks the same of every frame
def _stages_of(selectors: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_shown(selector).split(".")[0] for selector in selectors))


def to_pandas(results: Iterable[FrameResult]) -> pandas.DataFrame:
    """One row a box: stream, frame, pts_s, stage, label, score, x1, y1, x2, y2, track_id (-1: none).

    Raises LlamapipeError where pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise LlamapipeError("pandas is not installed", hint="pip install 'llamapipe[pandas]'") from error
    columns = ["stream", "frame", "pts_s", "stage", "label", "score", "x1", "y1", "x2", "y2", "track_id"]
    rows: list[tuple[Any, ...]] = []
    for result in results:
        for name, value in result.values.items():
            if not isinstance(value, Boxes):
                continue
            ids = value.track_id
            for i, label in enumerate(value.labels):
                place = (float(v) for v in value.xyxy[i])
                track = -1 if ids is None else int(ids[i])
                stage = name.split(".")[0]
                rows.append(
                    (result.stream, result.frame, result.pts_s, stage, label, float(value.score[i]), *place, track)
                )
    return pandas.DataFrame(rows, columns=columns)
