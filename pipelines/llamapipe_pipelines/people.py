"""Find people and follow them: ``people.yaml`` in Python."""

from llamapipe import Pipeline
from llamapipe_operators import annotate, detect, track

__all__ = ["pipeline"]

with Pipeline("people", description="Find people and follow them.") as pipeline:
    # Weak boxes help the tracker to hold on to people who are half hidden; what starts a track is surer.
    people = detect(pipeline.frames, task="person-detection", min_score=0.1, name="detect")
    tracks = track(people, name="follow")
    pipeline.sink("video", annotate(pipeline.frames, tracks, name="draw"), path="annotated.mp4")
    pipeline.sink("jsonl", people, tracks, name="detections", path="detections.jsonl")
