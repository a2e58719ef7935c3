"""Built-in operators: classes for the registry, functions for pipelines in Python.

The functions are imported when they are first asked for: workers have no use for them, nor for all that they import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llamapipe.operator import Operator
from llamapipe_operators.denoising import Denoise
from llamapipe_operators.detection import Classify, Detect
from llamapipe_operators.drawing import Annotate
from llamapipe_operators.gates import MotionGate, Sample
from llamapipe_operators.geometry import Crop, Resize
from llamapipe_operators.hiding import Blur, Pixelate
from llamapipe_operators.holding import Hold
from llamapipe_operators.looks import Toonify, Vintage
from llamapipe_operators.motion import Motion
from llamapipe_operators.places import LineCrossing, Zones
from llamapipe_operators.selection import Select
from llamapipe_operators.tracking import Track

if TYPE_CHECKING:
    from llamapipe_operators.stages import (
        annotate,
        blur,
        classify,
        crop,
        denoise,
        detect,
        hold,
        line_crossing,
        motion,
        motion_gate,
        pixelate,
        resize,
        sample,
        select,
        toonify,
        track,
        vintage,
        zones,
    )

__all__ = [
    "OPERATORS",
    "Annotate",
    "Blur",
    "Classify",
    "Crop",
    "Denoise",
    "Detect",
    "Hold",
    "LineCrossing",
    "Motion",
    "MotionGate",
    "Pixelate",
    "Resize",
    "Sample",
    "Select",
    "Toonify",
    "Track",
    "Vintage",
    "Zones",
    "annotate",
    "blur",
    "classify",
    "crop",
    "denoise",
    "detect",
    "hold",
    "line_crossing",
    "motion",
    "motion_gate",
    "pixelate",
    "resize",
    "sample",
    "select",
    "toonify",
    "track",
    "vintage",
    "zones",
]

OPERATORS: tuple[type[Operator], ...] = (
    Annotate,
    Blur,
    Classify,
    Crop,
    Denoise,
    Detect,
    Hold,
    LineCrossing,
    Motion,
    MotionGate,
    Pixelate,
    Resize,
    Sample,
    Select,
    Toonify,
    Track,
    Vintage,
    Zones,
)
"""What this package registers."""


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.stages"), name)
