"""Find people and follow them: ``people.yaml`` in Python."""

from llamapipe import Pipeline
from llamapipe_operators import annotate, detect, track

__all__ = ["pipeline"]

with Pipeline("people", description="Find people and follow them.") as pipeline:
    # Low, so that `llamapipe eval` sees the whole curve of precision and recall; the tracker looks at surer ones.
    people = detect(pipeline.frames, task="person-detection", min_score=0.05, name="detect")
    tracks = track(people, name="follow")
    pipeline.sink("video", annotate(pipeline.frames, tracks, name="draw"), path="annotated.mp4")
    pipeline.sink("jsonl", people, tracks, name="detections", path="detections.jsonl")
