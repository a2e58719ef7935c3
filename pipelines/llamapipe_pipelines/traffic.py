"""Vehicles, people and faces in a traffic feed: ``traffic.yaml`` in Python."""

from llamapipe import Pipeline
from llamapipe_operators import annotate, crop, detect, line_crossing, select, track

__all__ = ["pipeline"]

VEHICLES = ["bicycle", "car", "motorcycle", "bus", "truck"]
LINES = [{"name": "middle", "start": [0.0, 0.5], "end": [1.0, 0.5]}]  # shares of the picture's width and height

with Pipeline(
    "traffic",
    description="Find vehicles, people and faces in a traffic feed, follow the vehicles and count them over a line.",
) as pipeline:
    things = detect(
        pipeline.frames, task="object-detection", labels=["person", *VEHICLES], min_score=0.1, name="things"
    )
    # A van may be found as a car and as a truck: one box a vehicle.
    vehicles = select(things, labels=VEHICLES, max_iou=0.6, name="vehicles")
    tracks = track(vehicles, start_score=0.3, sure_score=0.25, weak_score=0.1, keep_s=2.0, name="follow")
    crossings = line_crossing(tracks, lines=LINES, anchor="center", counts=True, name="crossings")
    people = select(things, labels=["person"], min_score=0.4, name="people")
    # The second look, for faces, is taken only where there is somebody.
    heads = crop(pipeline.frames, people, top_share=0.5, pad=0.2, when=people.boxes.count() >= 1, name="heads")
    faces = detect(heads, task="face-detection", min_score=0.5, name="faces")
    drawn = annotate(pipeline.frames, [tracks, people, faces], events=crossings, lines=LINES, name="draw")
    pipeline.sink("video", drawn, path="annotated.mp4")
    pipeline.sink("jsonl", tracks, people, faces, crossings, name="detections", path="detections.jsonl")
