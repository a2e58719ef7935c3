"""Everything wrong with a spec at once: where, what was expected, what came, the likely fix."""

from __future__ import annotations

import pytest

from llamapipe.spec import OpSpec, PipelineSpec, load_yaml, read_yaml, validate
from tests.spec.kit import BLUR_FACES, MANIFESTS, SINKS

HEAD = "name: p\nops:\n  - {name: a, type: detect, inputs: $source.frames}\n"


def check(text):
    loaded = load_yaml(text)
    return validate(loaded.spec, MANIFESTS, SINKS, locations=loaded.locations)


def stage(keys, type="detect", inputs="$source.frames"):
    """The problems of one stage whose keys start at line 6."""
    return check(f"name: p\nops:\n  - name: a\n    type: {type}\n    inputs: {inputs}\n    {keys}\n")


def one(problems):
    (problem,) = problems
    return problem


@pytest.mark.parametrize(
    ("text", "code", "line", "words", "hint"),
    [
        (HEAD.replace("name: p", "name: 1p"), "bad-name", 1, "expected a letter, then", None),
        (HEAD.replace("name: a", "name: a b"), "bad-name", 3, "stage name: expected a letter", None),
        ("name: p\nops: []\n", "empty", 2, "expected at least one stage", None),
        (HEAD + "  - {name: a, type: detect, inputs: $source.frames}\n", "duplicate-name", 4, "at <text>:3", None),
        (HEAD + "slo: {latency_p95_ms: 1, deadline_s: 2}\n", "slo", 4, "expected one latency or a deadline", None),
        (HEAD + "slo: {max_drop_share: 0.1}\n", "slo", 4, "expected a latency or a deadline, got neither", None),
        (HEAD.replace("type: detect", "type: dtect"), "unknown-operator", 3, "unknown operator 'dtect'", "detect?"),
        (HEAD.replace("type: detect", "type: detect@v7"), "unknown-operator", 3, "'detect@v7'", "did you mean detect?"),
        (HEAD.replace("$source.frames", "$source.frame"), "unknown-port", 3, "no output 'frame'", "$source.frames?"),
        (HEAD.replace("$source.frames", "source.frames"), "selector", 3, "got 'source.frames'", "$source.frames?"),
        (HEAD.replace("$source.frames", "{frame: $source.frames}"), "unknown-port", 3, "no input 'frame'", "frames?"),
        (HEAD.replace(", inputs: $source.frames", ""), "missing-input", 3, "expected frames on input frames", "write:"),
        (HEAD + "  - {name: b, type: track, inputs: $ops.a.boxs}\n", "unknown-port", 4, "no output 'boxs'", "boxes?"),
        (HEAD + "  - {name: b, type: track, inputs: $ops.aa.boxes}\n", "unknown-stage", 4, "stage 'aa'", "mean a?"),
        (HEAD + "  - {name: b, type: track, inputs: $source.frames}\n", "port-kind", 4, "boxes, got frames", None),
        (HEAD + "  - {name: b, type: zones, inputs: $ops.a.boxes, polygon: []}\n", "port-kind", 4, "got boxes", None),
        (HEAD + "  - {name: b, type: track, inputs: [$ops.a.boxes, $ops.a.boxes]}\n", "too-many-inputs", 4, "2", None),
        (HEAD + "sinks:\n  - {type: vido, input: $ops.a.boxes}\n", "unknown-sink", 5, "'vido'", "did you mean video?"),
        (HEAD + "sinks:\n  - {type: jsonl, input: $source.frames}\n  - {type: video, input: $ops.a.boxes}\n",
         "port-kind", 5, "expects boxes or classes or events or tracks, got frames", None),
        (HEAD + "sinks:\n  - {type: video, input: $ops.a.boxes, codecs: x}\n", "unknown-key", 5, "'codecs'", "codec?"),
        (HEAD + "sinks:\n  - {type: video, input: $ops.a.boxes, codec: 3}\n", "param", 5, "expected str, got", None),
        (HEAD + "sinks:\n  - {type: video, inputs: []}\n  - {type: jsonl, input: $ops.a.boxes}\n",
         "missing-input", 5, "expected an input", None),
    ],
)  # fmt: skip
def test_a_problem_names_line_expectation_and_nearest_name(text, code, line, words, hint):
    problem = one(check(text))
    assert (problem.code, problem.where) == (code, f"<text>:{line}")
    assert words in problem.message
    assert hint is None or (problem.hint is not None and hint in problem.hint)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("batch: 0", "batch: expected a whole number from 1 up, got 0"),
        ("batch: 1.5", "batch: expected a whole number from 1 up, got 1.5"),
        ("threads: true", "threads: expected a whole number from 1 up, got True"),
        ("min_score: 1.2", "min_score: expected a number from 0 to 1, got 1.2"),
        ("sample_fps: 0", "sample_fps: expected frames a second, over 0, got 0"),
        ("precision: fp8", "precision: expected one of fp32, bf16, fp16, int8, got 'fp8'"),
        ("input_size: [1, 2, 3]", "input_size: expected pixels (320) or [height, width]"),
        ("input_size: big", "input_size: expected pixels (320) or [height, width], got 'big'"),
        ("model: 3", "model: expected a text, got 3"),
        ("labels: person", "labels: expected a list of texts, got 'person'"),
    ],
)
def test_knob_values_are_checked(keys, words):
    problem = one(stage(keys))
    assert (problem.code, problem.where) == ("knob", "<text>:6")
    assert words in problem.message


@pytest.mark.parametrize(
    "keys",
    [
        "input_size: 320",
        "input_size: [320, 640]",
        "precision: int8",
        "sample_fps: 2.5",
        "labels: coco",
        "labels: mine.txt",
    ],
)
def test_good_knob_values_pass(keys):
    assert stage(keys) == []


def test_an_unknown_knob_gets_the_nearest_one():
    problem = one(stage("min_scor: 0.5"))
    assert (problem.code, problem.where, problem.hint) == ("unknown-key", "<text>:6", "did you mean min_score?")


def test_params_are_checked_against_the_manifest():
    inputs = "{frames: $source.frames, boxes: $ops.a.boxes}"
    text = HEAD + f"  - {{name: c, type: crop, inputs: {inputs}, margin: 2}}\n"
    assert one(check(text)).message == "stage c: margin: expected at most 1, got 2"
    text = (
        HEAD + "  - {name: t, type: track, inputs: $ops.a.boxes}\n  - {name: z, type: zones, inputs: $ops.t.tracks}\n"
    )
    problem = one(check(text))
    assert (problem.code, problem.message) == ("missing-param", "stage z: expected polygon (list), got none")
    # A knob of operators with a model means nothing to others.
    text = HEAD + "  - {name: t, type: track, inputs: $ops.a.boxes, precision: fp32}\n"
    assert one(check(text)).message == "stage t: llamapipe/track@v1 has no 'precision'"


def when(condition, more=""):
    return check(
        f"name: p\nops:\n  - {{name: a, type: detect, inputs: $source.frames{more}}}\n"
        f"  - name: b\n    type: classify\n    inputs: $source.frames\n    when: '{condition}'\n"
    )


@pytest.mark.parametrize(
    ("condition", "code", "words"),
    [
        ("count($ops.a.boxes) >> 2", "when", "stage b: when: column 22"),
        ("any($ops.c.boxes)", "unknown-stage", "unknown stage 'c'"),
        ("any($ops.a.tracks)", "unknown-port", "stage a has no output 'tracks'"),
        ('any($ops.a.boxes, label == "cat")', "unknown-label", "stage a never gives the label 'cat'"),
    ],
)
def test_conditions_are_checked(condition, code, words):
    problem = one(when(condition, ", labels: [car, person]"))
    assert (problem.code, problem.where) == (code, "<text>:7")
    assert words in problem.message


def test_a_condition_about_labels_of_pictures_is_refused():
    text = BLUR_FACES.replace(
        "task: face-detection", "task: face-detection, when: 'any($ops.crops.frames, label == \"a\")'"
    )
    problem = one(check(text))
    assert (problem.code, problem.where) == ("port-kind", "<text>:8")


def test_an_operator_that_hides_must_see_every_frame():
    for keys in ("when: any($ops.faces.boxes)", "sample_fps: 2"):
        text = BLUR_FACES.replace("boxes: $ops.faces.boxes}}", f"boxes: $ops.faces.boxes}}, {keys}}}")
        problem = one(check(text))
        assert (problem.code, problem.where) == ("hiding", "<text>:9")


def test_a_cycle_is_named_with_its_path():
    text = """\
name: p
ops:
  - {name: a, type: crop, inputs: {frames: $source.frames, boxes: $ops.c.boxes}}
  - {name: b, type: crop, inputs: {frames: $ops.a.frames, boxes: $ops.c.boxes}}
  - {name: c, type: detect, inputs: $ops.b.frames}
"""
    problem = one(check(text))
    assert (problem.code, problem.where) == ("cycle", "<text>:3")
    assert problem.message in (f"stages feed each other in a circle: {path}" for path in ("a > b > c > a", "a > c > a"))


def test_a_condition_on_itself_is_a_cycle():
    assert one(when("any($ops.b.classes)")).message == "stages feed each other in a circle: b > b"


def test_a_stage_that_reaches_no_sink_is_a_problem_unless_there_is_none():
    text = HEAD + "  - {name: b, type: detect, inputs: $source.frames}\n"
    assert check(text) == []
    problem = one(check(text + "sinks:\n  - {type: jsonl, input: $ops.a.boxes}\n"))
    assert (problem.code, problem.where) == ("unreachable", "<text>:4")
    # A stage that a condition asks is used.
    text = HEAD + "  - {name: b, type: classify, inputs: $source.frames, when: any($ops.a.boxes)}\n"
    assert check(text + "sinks:\n  - {type: jsonl, input: $ops.b.classes}\n") == []


def test_crops_of_two_stages_do_not_pair_up():
    text = """\
name: p
ops:
  - {name: d, type: detect, inputs: $source.frames}
  - {name: c1, type: crop, inputs: {frames: $source.frames, boxes: $ops.d.boxes}}
  - {name: c2, type: crop, inputs: {frames: $source.frames, boxes: $ops.d.boxes}}
  - {name: small, type: resize, inputs: $ops.c2.frames}
  - {name: both, type: pair, inputs: {frames: $ops.c1.frames, others: $ops.small.frames}}
"""
    problem = one(check(text))
    assert (problem.code, problem.where) == ("join", "<text>:7")
    assert "expects one for each crop of c1, got $ops.small.frames, one for each crop of c2" in problem.message
    assert check(text.replace("others: $ops.small.frames", "others: $ops.c1.frames")) == []


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (
            "type: jsonl, input: $ops.a.boxes, path: ../x.jsonl",
            "expected a path in the output folder, got '../x.jsonl'",
        ),
        ("type: video, input: $ops.a.boxes", "sink video-2: 'annotated.mp4' is written by sink video already"),
        ("type: jsonl, input: $ops.a.boxes, path: ./annotated.mp4", "is written by sink video already"),
    ],
)
def test_sinks_write_into_the_output_folder_and_not_over_each_other(second, words):
    problem = one(check(HEAD + f"sinks:\n  - {{type: video, input: $ops.a.boxes}}\n  - {{{second}}}\n"))
    assert (problem.code, problem.where) == ("path", "<text>:6")
    assert words in problem.message


def test_a_sink_that_writes_no_file_takes_no_path():
    zones = "  - {name: z, type: acme/shout, inputs: $ops.a.boxes}\n"
    text = HEAD + zones + "sinks:\n  - {type: webhook, input: $ops.z.events, url: x, path: a}\n"
    assert "writes no file, got path 'a'" in one(check(text)).message


def test_crops_do_not_go_where_one_picture_a_frame_is_taken():
    crops = HEAD + "  - {name: c, type: crop, inputs: {frames: $source.frames, boxes: $ops.a.boxes}}\n"
    pair = "  - {name: b, type: pair, inputs: {frames: $source.frames, others: $ops.c.frames}}\n"
    problem = one(check(crops + pair))
    assert (problem.code, problem.where) == ("join", "<text>:5")
    assert "input others expects one picture a frame" in problem.message
    problem = one(check(crops + "sinks:\n  - {type: video, input: $ops.c.frames}\n"))
    assert (problem.code, problem.where) == ("join", "<text>:6")


def test_stages_that_give_pictures_work_on_every_frame():
    problem = one(stage("sample_fps: 2", type="resize"))
    assert (problem.code, problem.where) == ("knob", "<text>:6")
    assert "gives pictures" in problem.message


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("skip_still: -1", "skip_still: expected a share of the picture from 0 to 1, got -1"),
        ("skip_still: true", "skip_still: expected a share of the picture from 0 to 1, got True"),
    ],
)
def test_what_counts_as_still_is_a_share_of_the_picture(keys, words):
    problem = one(stage(keys))
    assert (problem.code, problem.where) == ("knob", "<text>:6")
    assert words in problem.message


def test_stages_that_look_at_whole_frames_may_skip_still_ones():
    assert stage("skip_still: 0.004") == []
    problem = one(check(BLUR_FACES.replace("task: face-detection", "task: face-detection, skip_still: 0.01")))
    assert (problem.code, problem.where) == ("knob", "<text>:8")
    assert "expected whole frames to look for motion in, got crops of" in problem.message
    problem = one(stage("skip_still: 0.01", type="resize"))  # its pictures of the last frame would be gone
    assert problem.code == "unknown-key"


def test_frame_level_stages_take_what_crops_gave():
    assert check(BLUR_FACES) == []


def test_without_locations_the_stage_is_named():
    spec = PipelineSpec(name="p", ops=(OpSpec(name="a", type="nope", inputs={}),))
    problem = one(validate(spec, MANIFESTS, SINKS))
    assert str(problem) == "stage a: unknown operator 'nope' (see: llamapipe ops list)"
    problem = one(validate(PipelineSpec(name="p", ops=()), MANIFESTS, SINKS))
    assert problem.where == "pipeline p"


def test_all_problems_of_all_stages_come_at_once():
    text = """\
name: p
ops:
  - {name: a, type: detec, inputs: $source.frames}
  - {name: b, type: track, inputs: $ops.x.boxes, bath: 2}
sinks:
  - {type: video, input: $ops.b.boxes}
"""
    codes = [problem.code for problem in check(text)]
    assert codes == ["unknown-operator", "unknown-stage", "unknown-key", "unknown-port"]


MANY_MISTAKES = """\
version: 2
name: p
acuracy: {min: 0.9}
slo: p95=fast
accuracy: {min: 3}
ops:
  - {name: a, type: detect, inputs: $source.frames, batch: 0, min_score: "${params.min_scor}"}
  - {name: b, type: detec, inputs: $ops.aa.boxes}
  - {name: c, type: crop, inputs: {frames: $source.frames, boxes: $source.frames}, margin: "${env:NOPE}"}
  - {nam: d, type: detect, inputs: $ops.c.frames, when: "count($ops.a.boxes) >> 2"}
  - {name: e, type: 7, inputs: $ops.d.boxes}
  - {name: f, type: track, inputs: $ops.e.boxes}
  - {name: g, type: zones, inputs: $ops.f.tracks}
  - {name: h, type: crop, inputs: {frames: $ops.i.frames, boxes: $ops.a.boxes}}
  - {name: i, type: resize, inputs: $ops.h.frames}
sinks:
  - {type: vido, input: $ops.a.boxes}
  - {type: jsonl, input: $source.frames}
  - {type: video}
params: {min_score: 0.4}
on_overload: explode
"""


def test_what_loading_finds_hides_nothing_of_what_validation_finds():
    loaded, problems = read_yaml(MANY_MISTAKES)
    problems += validate(loaded.spec, MANIFESTS, SINKS, locations=loaded.locations, unread=loaded.unread)
    assert sorted((int(problem.where.removeprefix("<text>:")), problem.code) for problem in problems) == [
        (1, "version"),
        (3, "unknown-key"),
        (4, "slo"),
        (5, "type"),
        (7, "knob"),
        (7, "unknown-param"),
        (8, "unknown-operator"),
        (8, "unknown-stage"),
        (9, "port-kind"),
        (9, "unset-env"),
        (10, "unknown-key"),
        (10, "when"),
        (11, "type"),
        (13, "missing-param"),
        (14, "cycle"),
        (17, "unknown-sink"),
        (18, "port-kind"),
        (19, "missing-key"),
        (21, "type"),
    ]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        # A stage without a name may be the one that is asked for.
        (HEAD + "  - {type: detect, inputs: $source.frames}\n  - {name: t, type: track, inputs: $ops.b.boxes}\n",
         ["missing-key"]),
        (HEAD + "  - detect\n  - {name: t, type: track, inputs: $ops.b.boxes}\n", ["type"]),
        (HEAD + "include: none.yaml\nsinks:\n  - {type: jsonl, input: $ops.more.boxes}\n", ["include"]),
        # What a stage of an unreadable type gives is anybody's guess.
        ("name: p\nops:\n  - {name: a, type: 3}\nsinks:\n  - {type: jsonl, input: $ops.a.boxs}\n", ["type"]),
        (HEAD.replace("$source.frames", "[3]"), ["type"]),
        (HEAD + "sinks:\n  - {type: jsonl, input: 3}\n", ["type"]),
        (HEAD.replace("}", ', labels: ["${env:NOPE}"], batch: "${env:NOPE}"}'), ["unset-env", "unset-env"]),
        ("name: p\nops: detect\n", ["type"]),
        ("name: p\n", ["missing-key"]),
        (HEAD.replace("name: p", 'name: "${env:NOPE}"'), ["unset-env"]),
        (HEAD + 'slo: {latency_p95_ms: "${env:NOPE}"}\naccuracy: {min: "${env:NOPE}"}\n', ["unset-env", "unset-env"]),
    ],
)  # fmt: skip
def test_nothing_is_said_that_only_follows_from_what_was_said(text, codes):
    loaded, problems = read_yaml(text)
    problems += validate(loaded.spec, MANIFESTS, SINKS, locations=loaded.locations, unread=loaded.unread)
    assert [problem.code for problem in problems] == codes
