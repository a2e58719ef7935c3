"""A video with less noise: ``denoise.yaml`` in Python."""

from llamapipe import Pipeline
from llamapipe_operators import denoise

__all__ = ["pipeline"]

with Pipeline("denoise", description="Take sensor noise out of a video.") as pipeline:
    pipeline.sink("video", denoise(pipeline.frames), path="annotated.mp4")
