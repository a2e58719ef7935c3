"""Built-in operators."""

from llamapipe.operator import Operator
from llamapipe_operators.detection import Classify, Detect
from llamapipe_operators.drawing import Annotate
from llamapipe_operators.geometry import Crop, Resize
from llamapipe_operators.hiding import Blur, Pixelate
from llamapipe_operators.holding import Hold
from llamapipe_operators.selection import MotionGate, Sample
from llamapipe_operators.tracking import Track

__all__ = [
    "OPERATORS",
    "Annotate",
    "Blur",
    "Classify",
    "Crop",
    "Detect",
    "Hold",
    "MotionGate",
    "Pixelate",
    "Resize",
    "Sample",
    "Track",
]

OPERATORS: tuple[type[Operator], ...] = (
    Annotate,
    Blur,
    Classify,
    Crop,
    Detect,
    Hold,
    MotionGate,
    Pixelate,
    Resize,
    Sample,
    Track,
)
"""What this package registers."""
