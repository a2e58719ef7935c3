"""A video as a drawing: ``toonify.yaml`` in Python."""

from llamapipe import Pipeline
from llamapipe_operators import toonify

__all__ = ["pipeline"]

with Pipeline("toonify", description="Make a video look drawn.") as pipeline:
    pipeline.sink("video", toonify(pipeline.frames), path="annotated.mp4")
