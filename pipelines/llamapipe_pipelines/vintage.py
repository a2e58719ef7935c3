"""A video like an old print: ``vintage.yaml`` in Python."""

from llamapipe import Pipeline
from llamapipe_operators import vintage

__all__ = ["pipeline"]

with Pipeline("vintage", description="Make a video look like an old print.") as pipeline:
    pipeline.sink("video", vintage(pipeline.frames), path="annotated.mp4")
