"""Operators that run a model: detect, classify."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import cleandoc
from typing import ClassVar

from llamapipe.data import Boxes, Classes, Image
from llamapipe.errors import OperatorError
from llamapipe.operator import Context, Inputs, Manifest, Operator, Outputs, Port, PortKind, Predictor

__all__ = ["Classify", "Detect"]


class _ModelOperator(Operator):
    """Pictures through the predictor that the runtime hands over, a batch at a time."""

    output: ClassVar[str]

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if context.predictor is None:
            raise OperatorError(
                f"{self.manifest.type} needs a model, got none",
                hint="outside a run, hand one over: Context(predictor=...)",
            )
        self._predictor: Predictor = context.predictor

    def process(self, inputs: Inputs) -> Outputs:
        """A batch of one."""
        return self.process_batch([inputs])[0]

    def process_batch(self, batch: Sequence[Inputs]) -> Sequence[Outputs]:
        """One call of the model for all pictures."""
        images: list[Image] = [inputs["frames"] for inputs in batch]
        return [{self.output: self._converted(found)} for found in self._predictor.predict(images)]

    def _converted(self, found: Boxes) -> Boxes:
        return found


class Detect(_ModelOperator):
    """Find things in pictures: boxes with labels and scores.

    Say what to find with `task` (`person-detection`, `face-detection`, `object-detection`, ...) and llamapipe picks a
    model that does it, or name a `model`, or give the path of your own ONNX file. `min_score` drops what the model is
    less sure of, `labels` keeps only those named. See `llamapipe models list`.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/detect@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={"frames": Port(PortKind.FRAMES, "where to look: frames, or crops of them")},
        outputs={"boxes": Port(PortKind.BOXES, "what was found, best score first")},
        uses_model=True,
    )
    output = "boxes"


class Classify(_ModelOperator):
    """Say what a picture shows: one label and its score a picture.

    Mostly put behind `crop`, so that it names what a detector found. The result keeps the place of the picture, so
    it can be drawn like a box.
    """

    manifest: ClassVar[Manifest] = Manifest(
        type="llamapipe/classify@v1",
        doc=cleandoc(__doc__ or ""),
        inputs={"frames": Port(PortKind.FRAMES, "what to name: frames, or crops of them")},
        outputs={"classes": Port(PortKind.CLASSES, "the best label of each picture, with the picture's place")},
        uses_model=True,
    )
    output = "classes"

    def _converted(self, found: Boxes) -> Classes:
        if isinstance(found, Classes):
            return found
        return Classes(found.xyxy, found.score, found.label, found.names)
