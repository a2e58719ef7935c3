"""What flows through a pipeline: pictures, boxes, events, and the references that stand for them."""

from llamapipe.data.boxes import Boxes, Classes, Tracks
from llamapipe.data.events import Event, Events
from llamapipe.data.frames import FrameRef, Image, Native, Placement
from llamapipe.data.planes import Planes

__all__ = [
    "Boxes",
    "Classes",
    "Event",
    "Events",
    "FrameRef",
    "Image",
    "Native",
    "Placement",
    "Planes",
    "Tracks",
]
