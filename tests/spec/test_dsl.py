"""Pipelines in Python make the spec that YAML makes."""

from __future__ import annotations

import inspect
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest

from llamapipe.errors import UsageError
from llamapipe.operator import PortKind
from llamapipe.spec import (
    AccuracyFloor,
    BoxesPort,
    ClassesPort,
    FramesPort,
    PipelineBuilder,
    TracksPort,
    dump_yaml,
    load_yaml,
    parse_when,
    resolve_types,
    validate,
)
from tests.spec.kit import BLUR_FACES, MANIFESTS, SINKS


def detect(frames, **more):
    return frames.builder.add("llamapipe/detect@v1", inputs={"frames": frames}, outputs={"boxes": "boxes"}, **more)


def crop(frames, boxes, **more):
    return frames.builder.add(
        "llamapipe/crop@v1", inputs={"frames": frames, "boxes": boxes}, outputs={"frames": "frames"}, **more
    )


def blur(frames, boxes, **more):
    return frames.builder.add(
        "llamapipe/blur@v1", inputs={"frames": frames, "boxes": boxes}, outputs={"frames": PortKind.FRAMES}, **more
    )


def blur_faces():
    with PipelineBuilder("blur-faces", slo="p95<=200ms", min_accuracy=0.9) as pipeline:
        people = detect(pipeline.frames, task="person-detection", name="people")
        crops = crop(pipeline.frames, people.boxes, name="crops")
        faces = detect(crops.frames, task="face-detection", name="faces")
        pipeline.sink("video", blur(pipeline.frames, faces.boxes, name="blurred"), path="annotated.mp4")
    return pipeline.spec()


def test_python_and_yaml_make_the_same_spec():
    spec = resolve_types(blur_faces(), MANIFESTS, SINKS)
    assert spec == resolve_types(load_yaml(BLUR_FACES).spec, MANIFESTS, SINKS)
    assert load_yaml(dump_yaml(spec)).spec == spec
    assert validate(spec, MANIFESTS, SINKS) == []


@pytest.mark.parametrize(
    ("given", "floor"),
    [
        ({}, None),
        ({"min_accuracy": 0.9}, AccuracyFloor(min=0.9)),
        ({"min_accuracy": np.float32(0.5)}, AccuracyFloor(min=0.5)),
        ({"min_accuracy": "0.9"}, AccuracyFloor(min=0.9)),
        ({"min_accuracy": "agreement >= 0.9"}, AccuracyFloor(min=0.9)),
        ({"min_accuracy": "coco_ap >= 0.25"}, AccuracyFloor(min=0.25, metric="coco_ap")),
        ({"min_accuracy": 0.9, "degraded_accuracy": 0.7}, AccuracyFloor(min=0.9, degraded=0.7)),
        (
            {"min_accuracy": "coco_ap>=0.25", "degraded_accuracy": 0.2},
            AccuracyFloor(min=0.25, metric="coco_ap", degraded=0.2),
        ),
        (
            {"min_accuracy": AccuracyFloor(min=0.25, metric="coco_ap"), "degraded_accuracy": 0.2},
            AccuracyFloor(min=0.25, metric="coco_ap", degraded=0.2),
        ),
        ({"min_accuracy": AccuracyFloor(min=0.9, degraded=0.7)}, AccuracyFloor(min=0.9, degraded=0.7)),
    ],
)
def test_a_floor_is_a_number_or_names_its_metric_and_how_far_it_may_give_way(given, floor):
    """And what YAML makes of it, Python makes again."""
    with PipelineBuilder("p", on_overload="degrade", **given) as pipeline:
        detect(pipeline.frames)
    spec = pipeline.spec()
    assert spec.accuracy == floor
    read = load_yaml(dump_yaml(spec)).spec
    assert read == spec
    with PipelineBuilder("p", on_overload=read.on_overload, min_accuracy=read.accuracy) as again:
        detect(again.frames)
    assert again.spec() == read


def test_stages_are_named_after_their_operators():
    pipeline = PipelineBuilder("p")
    names = [detect(pipeline.frames).name for _ in range(2)] + [detect(pipeline.frames, name="third").name]
    assert names == ["detect", "detect-2", "third"]
    pipeline.sink("video", pipeline.frames)
    pipeline.sink("video", pipeline.frames, codec="h264")
    assert [sink.name for sink in pipeline.spec().sinks] == ["video", "video-2"]


def test_ports_are_typed():
    pipeline = PipelineBuilder("p")
    assert type(pipeline.frames) is FramesPort
    outputs = {"tracks": "tracks", "classes": "classes", "events": "events"}
    stage = pipeline.add("acme/all@v1", inputs={"frames": pipeline.frames}, outputs=outputs)
    assert isinstance(stage.tracks, TracksPort)
    assert isinstance(stage.tracks, BoxesPort)
    assert isinstance(stage.port("classes"), ClassesPort)
    assert stage.events.selector == "$ops.all.events"
    with pytest.raises(UsageError, match=r"no output 'trucks' \(did you mean tracks\?\)"):
        stage.port("trucks")
    with pytest.raises(UsageError, match=r"stage all \(acme/all@v1\) gives tracks and classes and events, not boxes"):
        _ = stage.boxes
    with pytest.raises(AttributeError, match="no attribute 'bixes'"):
        _ = stage.bixes


def test_none_is_left_out_and_the_rest_is_plain():
    class Codec(StrEnum):
        H264 = "h264"

    pipeline = PipelineBuilder("p")
    op = detect(pipeline.frames, task=None, codec=Codec.H264, model=Path("m.onnx"), input_size=(1, 2), x=np.float64(3))
    del op
    assert pipeline.spec().ops[0].params == {"codec": "h264", "model": "m.onnx", "input_size": [1, 2], "x": 3.0}
    assert type(pipeline.spec().ops[0].params["codec"]) is str
    with pytest.raises(UsageError, match="stage detect-2: x: expected a text, number, list or mapping, got object"):
        detect(pipeline.frames, x=object())


def test_inputs_take_several_ports_stages_and_nothing():
    pipeline = PipelineBuilder("p")
    a, b = detect(pipeline.frames), detect(pipeline.frames)
    blur(pipeline.frames, [a, b.boxes])
    blur(pipeline.frames, None)
    ops = pipeline.spec().ops
    assert ops[2].inputs == {"frames": ("$source.frames",), "boxes": ("$ops.detect.boxes", "$ops.detect-2.boxes")}
    assert ops[3].inputs == {"frames": ("$source.frames",)}


def two_pipelines():
    return PipelineBuilder("one"), PipelineBuilder("two")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p, q: detect(p.frames, name="a b"), "stage name: expected a letter"),
        (lambda p, q: [detect(p.frames, name="a"), detect(p.frames, name="a")], "stage name 'a' is taken"),
        (lambda p, q: blur(p.frames, detect(q.frames)), r"\$ops.detect.boxes belongs to pipeline 'two'"),
        (lambda p, q: p.sink("video", q.frames), r"sink video: \$source.frames belongs to pipeline 'two'"),
        (lambda p, q: p.sink("video"), "sink video: expected at least one port"),
        (lambda p, q: blur(p.frames, "boxes"), "expected a port such as pipeline.frames, got 'boxes'"),
        (lambda p, q: detect(p.frames, when=detect(q.frames).boxes.any()), "asks about another pipeline"),
        (lambda p, q: p.add("a/b@v1", inputs={}, outputs={"x": "pixels"}), "expected one of frames, boxes"),
        (lambda p, q: PipelineBuilder("1"), "pipeline name: expected a letter"),
        (lambda p, q: PipelineBuilder("p", slo="fast"), "expected NAME=VALUE"),
        (
            lambda p, q: PipelineBuilder("p", min_accuracy=2),
            "pipeline p: min_accuracy: expected a number from 0 to 1, .* 2",
        ),
        (lambda p, q: PipelineBuilder("p", min_accuracy="coco_ap > 0.2"), "or METRIC>=NUMBER, got 'coco_ap > 0.2'"),
        (lambda p, q: PipelineBuilder("p", min_accuracy=float("nan")), "got nan"),
        (lambda p, q: PipelineBuilder("p", min_accuracy=True), "got True"),
        (lambda p, q: PipelineBuilder("p", degraded_accuracy=0.5), "there is no min_accuracy that it is the exception"),
        (
            lambda p, q: PipelineBuilder("p", min_accuracy=0.9, degraded_accuracy=7),
            "degraded_accuracy: expected a number",
        ),
        (
            lambda p, q: PipelineBuilder("p", min_accuracy=AccuracyFloor(min=0.9, degraded=0.5), degraded_accuracy=0.4),
            "degraded_accuracy=0.4, and min_accuracy has 0.5",
        ),
        (lambda p, q: PipelineBuilder("p", on_overload="panic"), "on_overload: expected one of degrade, drop, late"),
    ],
)
def test_mistakes_are_named_where_they_are_made(make, words):
    with pytest.raises(UsageError, match=words):
        make(*two_pipelines())


def test_problems_of_a_pipeline_made_in_python_name_its_lines():
    pipeline = PipelineBuilder("p")
    line = inspect.currentframe().f_lineno + 1
    pipeline.add("llamapipe/detekt@v1", inputs={"frames": pipeline.frames}, outputs={})
    (problem,) = validate(pipeline.spec(), MANIFESTS, SINKS, locations=pipeline.locations)
    assert problem.where == f"{__file__}:{line}"


def test_a_stage_with_several_outputs_must_be_narrowed_down():
    pipeline = PipelineBuilder("p")
    stage = pipeline.add("a/b@v1", inputs={"frames": pipeline.frames}, outputs={"boxes": "boxes", "frames": "frames"})
    with pytest.raises(UsageError, match="with 2 outputs"):
        detect(pipeline.frames).builder.add("a/c@v1", inputs={"x": stage}, outputs={})
    pipeline.sink("video", stage)
    assert pipeline.spec().sinks[0].inputs == ("$ops.b.boxes", "$ops.b.frames")


def test_conditions_write_the_grammar_of_when():
    pipeline = PipelineBuilder("p")
    boxes = detect(pipeline.frames, name="a").boxes
    events = pipeline.add("a/zones@v1", inputs={"boxes": boxes}, outputs={"events": "events"}).events
    crops = crop(pipeline.frames, boxes)
    two = boxes.count(label="person", min_score=0.5) >= 2
    assert two.text == 'count($ops.a.boxes, label == "person" and score >= 0.5) >= 2'
    assert boxes.any().text == "any($ops.a.boxes)"
    assert boxes.any(label=["car", "bus"]).text == 'any($ops.a.boxes, label in ["car", "bus"])'
    assert (boxes.max_score(label='12" gun') > 0.6).text == "max_score($ops.a.boxes, label == '12\" gun') > 0.6"
    assert (events.count(kind="enter", name="door") != 0).text == (
        'count($ops.zones.events, kind == "enter" and name == "door") != 0'
    )
    assert (crops.frames.count() == 3).text == "count($ops.crop.frames) == 3"
    assert ((two | boxes.any()) & ~events.any()).text == (
        f"({two.text} or any($ops.a.boxes)) and not any($ops.zones.events)"
    )
    assert (~(two & boxes.any())).text == f"not ({two.text} and any($ops.a.boxes))"
    assert (two | two & two).text == f"{two.text} or {two.text} and {two.text}"
    assert (boxes.max_score() < 1e-7).text == "max_score($ops.a.boxes) < 0.0000001"
    for condition in (two, ~(two & boxes.any()) | events.any(min_value=2), boxes.max_score() < 1e-7):
        parse_when(condition.text)
    detect(pipeline.frames, when=two, name="b")
    assert pipeline.spec().ops[-1].when == two.text


def test_conditions_decide_as_python_would():
    pipeline = PipelineBuilder("p")
    a, b, c = (detect(pipeline.frames, name=name).boxes.any() for name in "abc")
    condition = parse_when(((a | b) & ~(b & c) | ~a & c).text)
    keys = {atom.stage: atom.key for atom in condition.atoms}
    for i in range(8):
        x, y, z = (bool(i & bit) for bit in (1, 2, 4))
        answers = {keys["a"]: x, keys["b"]: y, keys["c"]: z}
        assert condition.decide(answers) == (((x or y) and not (y and z)) or (not x and z))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda boxes: bool(boxes.any()), "is decided per frame"),
        (lambda boxes: 1 < boxes.count() < 3, "is decided per frame"),
        (lambda boxes: bool(boxes.count()), "is known per frame"),
        (lambda boxes: boxes.any() & 3, "expected a condition behind and, got 3"),
        (lambda boxes: boxes.count() >= "2", "expected a number to compare with, got '2'"),
        (lambda boxes: boxes.any(label=[]), "expected at least one label"),
        (lambda boxes: boxes.any(label="'\""), "both kinds of quotes"),
        (lambda boxes: boxes.any(min_score=float("nan")), "expected a number"),
        (lambda boxes: boxes.any() & detect(PipelineBuilder("q").frames).boxes.any(), "two pipelines"),
    ],
)
def test_conditions_that_cannot_be_are_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make(detect(PipelineBuilder("p").frames).boxes)
