"""Plans for tests of control: small graphs, named like the real ones."""

from llamapipe.catalog import Configuration
from llamapipe.control import EdgePlan, RunPlan, SinkPlan, StagePlan, StreamPlan, WorkerPlan


def frames(port="frames", stage="", output="frames"):
    return EdgePlan(port, stage, output, "frames")


def boxes(stage, port="boxes"):
    return EdgePlan(port, stage, "boxes", "boxes")


def stage(name, *inputs, outputs=None, batch=1, **more):
    return StagePlan(
        name=name,
        type=f"test/{name}@v1",
        inputs=inputs,
        outputs=outputs or {"boxes": "boxes"},
        configuration=Configuration(batch=batch),
        **more,
    )


def plan(*stages, sinks=None, streams=1, workers=2, drop_policy="block", **more):
    last = stages[-1]
    port, kind = next(iter(last.outputs.items()))
    return RunPlan(
        pipeline="test",
        stages=stages,
        sinks=sinks or (SinkPlan("out", "test/out@v1", (EdgePlan("input", last.name, port, kind),)),),
        streams=tuple(StreamPlan(f"cam{i}", drop_policy) for i in range(streams)),
        workers=tuple(WorkerPlan(f"w{i}") for i in range(workers)),
        **more,
    )


def detect_only(**more):
    return plan(stage("detect", frames(), batch=more.pop("batch", 1)), **more)


def faces_in_people(**more):
    """people -> track -> crop -> faces -> blur, as in blur-faces."""
    return plan(
        stage("people", frames()),
        stage("track", boxes("people"), depth=2, stateful=True),
        stage(
            "crop",
            frames(),
            boxes("track"),
            outputs={"frames": "frames"},
            fan_out=True,
            depth=3,
        ),
        stage("faces", frames(stage="crop"), level="crop", depth=4, batch=4),
        stage("blur", frames(), boxes("faces"), outputs={"frames": "frames"}, hides=True, depth=5),
        sinks=(
            SinkPlan("video", "test/video@v1", (frames(stage="blur"),), hides=True),
            SinkPlan("lines", "test/lines@v1", (boxes("track"), boxes("faces"))),
        ),
        **more,
    )
