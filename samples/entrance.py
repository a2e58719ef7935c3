"""A pipeline in Python, with an operator class of its own: who comes in, and how crowded it is.

    llamapipe graph samples/entrance.py
    llamapipe run samples/entrance.py -i sample:bikes -o out/entrance

The operator remembers (the most that were there at once), so it says so, and can be restarted from its snapshot.
"""

from typing import Any, ClassVar

from llamapipe import Pipeline
from llamapipe.data import Event, Events
from llamapipe.operator import Inputs, Manifest, Operator, Outputs, Param, Port, PortKind, State
from llamapipe.spec import BoxesPort, BoxesStage, EventsStage, TracksStage
from llamapipe_operators import annotate, detect, track, zones


class Crowd(Operator):
    """Say when more people than ever before are there at once."""

    manifest: ClassVar[Manifest] = Manifest(
        type="acme/crowd@v1",
        doc="Say when more people than ever before are there at once.",
        inputs={"boxes": Port(PortKind.BOXES, "people of one stream, in order")},
        outputs={"events": Port(PortKind.EVENTS, "`record`, value: how many")},
        params={"at_least": Param(int, 2, "fewer are no record", minimum=1)},
        state=State.PER_STREAM,
    )

    most = 0

    def process(self, inputs: Inputs) -> Outputs:
        """Count the people of one frame."""
        n = len(inputs["boxes"])
        if n <= self.most or n < self.params["at_least"]:
            return {"events": Events()}
        self.most = n
        return {"events": Events([Event("record", value=float(n))])}

    def snapshot(self) -> Any:
        """The most so far."""
        return self.most

    def restore(self, state: Any) -> None:
        """See `snapshot`."""
        self.most = state


def crowd(
    boxes: BoxesPort | BoxesStage | TracksStage, *, at_least: int | None = None, name: str | None = None
) -> EventsStage:
    """The operator as a function, like the built-in ones."""
    return boxes.builder.add(
        "acme/crowd@v1",
        name=name,
        inputs={"boxes": boxes},
        outputs={"events": "events"},
        handle=EventsStage,
        at_least=at_least,
    )


# In shares of the picture: the lower half is where people enter.
DOOR = [{"name": "door", "polygon": [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0], [0.0, 1.0]]}]

with Pipeline("entrance", description="Who comes in, and how crowded it is.") as pipeline:
    people = detect(pipeline.frames, task="person-detection", min_score=0.2, name="people")
    tracks = track(people, name="follow")
    entered = zones(tracks, zones=DOOR, name="door")
    records = crowd(tracks, name="crowd")
    drawn = annotate(pipeline.frames, tracks, events=[entered, records], zones=DOOR, name="draw")
    pipeline.sink("video", drawn, path="entrance.mp4")
    pipeline.sink("jsonl", tracks, entered, records, path="entrance.jsonl")
