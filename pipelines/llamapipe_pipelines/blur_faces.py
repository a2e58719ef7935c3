"""Find and follow people, find faces inside people, and blur them: ``blur-faces.yaml`` in Python."""

from llamapipe import Pipeline
from llamapipe_operators import annotate, blur, crop, detect, hold, track

__all__ = ["pipeline"]

with Pipeline(
    "blur-faces",
    description="Find and follow people, find faces inside people, and blur the faces.",
    slo="p95<=500ms",
) as pipeline:
    people = detect(pipeline.frames, task="person-detection", min_score=0.15, name="people")
    tracks = track(people, start_score=0.6, name="follow")
    # Faces are looked for in everybody found, tracked or not: better one blur too many.
    heads = crop(pipeline.frames, people, top_share=0.5, pad=0.2, max_items=256, name="heads")
    faces = detect(heads, task="face-detection", min_score=0.4, name="faces")
    # A face that the detector loses for a moment stays hidden.
    held = hold(faces, seconds=0.2, name="held")
    blurred = blur(pipeline.frames, held, name="blurred")
    pipeline.sink("video", annotate(blurred, tracks, name="draw"), path="annotated.mp4")
    pipeline.sink("jsonl", tracks, held, name="detections", path="detections.jsonl")
