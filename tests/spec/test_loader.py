"""YAML to spec: what is read, and every error with its file and line."""

from __future__ import annotations

import pytest

from llamapipe.errors import SpecError, UsageError
from llamapipe.spec import FIRST_PORT, dump_yaml, load_yaml, read_yaml, resolve_types, validate
from tests.spec.kit import BLUR_FACES, MANIFESTS, SINKS

MINIMAL = """\
name: p
ops:
  - {name: detect, type: detect, inputs: $source.frames}
"""


def problems_of(text, **more):
    with pytest.raises(SpecError) as caught:
        load_yaml(text, **more)
    return caught.value.problems


def only_problem(text, **more):
    (problem,) = problems_of(text, **more)
    return problem


def params_of(text, **more):
    return load_yaml(text, **more).spec.ops[0].params


def block(value, head=""):
    return f"{head}name: p\nops:\n  - name: a\n    type: detect\n    v: {value}\n"


def test_the_example_of_the_docs_loads_validates_and_round_trips():
    loaded = load_yaml(BLUR_FACES)
    assert validate(loaded.spec, MANIFESTS, SINKS, locations=loaded.locations) == []
    spec = resolve_types(loaded.spec, MANIFESTS, SINKS)
    assert spec.ops[0].inputs == {"frames": ("$source.frames",)}
    assert spec.sinks[0].name == "video"
    assert spec.slo is not None
    assert spec.slo.latency_p95_ms == 200
    for one in (loaded.spec, spec):
        assert load_yaml(dump_yaml(one)).spec == one


def test_a_file_is_named_in_locations(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(MINIMAL)
    loaded = load_yaml(path)
    assert loaded.locations["ops", 0] == f"{path}:3"
    assert loaded.locations["ops", 0, "type"] == f"{path}:3"
    assert load_yaml(str(path)).spec == loaded.spec


def test_inputs_may_be_one_selector_a_list_or_named_ports():
    text = """\
name: p
ops:
  - {name: a, type: x, inputs: $source.frames}
  - {name: b, type: x, inputs: [$ops.a.boxes, $ops.a.boxes]}
  - {name: c, type: x, inputs: {frames: $source.frames, boxes: [$ops.a.boxes, $ops.b.boxes]}}
  - {name: d, type: x}
"""
    a, b, c, d = load_yaml(text).spec.ops
    assert a.inputs == {FIRST_PORT: ("$source.frames",)}
    assert b.inputs == {FIRST_PORT: ("$ops.a.boxes", "$ops.a.boxes")}
    assert c.inputs == {"frames": ("$source.frames",), "boxes": ("$ops.a.boxes", "$ops.b.boxes")}
    assert d.inputs == {}


def test_sinks_are_named_after_their_type_and_stay_unique():
    text = MINIMAL + (
        "sinks:\n  - {type: llamapipe/video@v1, input: $source.frames}\n"
        "  - {type: video, inputs: [$source.frames], path: b.mp4, codec: h264}\n"
        "  - {type: jsonl, name: video, input: $ops.detect.boxes}\n"
    )
    sinks = load_yaml(text).spec.sinks
    assert [sink.name for sink in sinks] == ["video-2", "video-3", "video"]
    assert sinks[1].path == "b.mp4"
    assert sinks[1].params == {"codec": "h264"}


def test_slo_may_be_written_short():
    slo = load_yaml(MINIMAL + "slo: p95<=200ms, drops=1%\n").spec.slo
    assert slo is not None
    assert (slo.latency_p95_ms, slo.max_drop_share) == (200, 0.01)


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("name: p\nops: [\n  {name: a,\n", "<text>:4:1", "broken YAML"),
        ("name: p\n\tops: []\n", "<text>:2:1", "broken YAML"),
        ("name: p\nops: \x07\n", "<text>:2:6", "control character"),
        ("- a\n- b\n", "<text>", "expected a mapping with name and ops"),
        ("name: p\nname: q\nops: []\n", "<text>:2", "key 'name' is there twice, first at <text>:1"),
        (MINIMAL + "version: 2\n", "<text>:4", "expected version 1, got 2"),
        (MINIMAL + "version: true\n", "<text>:4", "expected version 1, got True"),
        ("ops: []\n", "<text>:1", "expected name, got none"),
        ("name: 12\nops: []\n", "<text>:1", "name: expected a text, got 12"),
        ("name: p\n", "<text>:1", "expected ops, a list of stages, got none"),
        ("name: p\nops: {a: b}\n", "<text>:2", "ops: expected a list, got a mapping"),
        ("name: p\nops:\n  - detect\n", "<text>:3", "expected a stage with name, type and inputs, got 'detect'"),
        ("name: p\nops:\n  - {type: x}\n", "<text>:3", "expected ops[0].name, got none"),
        ("name: p\nops:\n  - {name: a}\n", "<text>:3", "expected stage a: type, got none"),
        ("name: p\nops:\n  - name: a\n    type: x\n    inputs: 3\n", "<text>:5", "expected a selector such as"),
        ("name: p\nops:\n  - name: a\n    type: x\n    inputs:\n      boxes: {a: b}\n", "<text>:6", "got a mapping"),
        ("name: p\nops:\n  - name: a\n    type: x\n    when: [1]\n", "<text>:5", "when: expected a text, got a list"),
        ("name: p\nops:\n  - name: a\n    type: x\n    1: 2\n", "<text>:5", "expected a text as key, got 1"),
        (MINIMAL + "sinks:\n  - {type: video}\n", "<text>:5", "expected input or inputs, got neither"),
        (MINIMAL + "sinks:\n  - {type: video, input: a, inputs: b}\n", "<text>:5", "got both"),
        (MINIMAL + "sinks: video\n", "<text>:4", "sinks: expected a list, got 'video'"),
        (MINIMAL + "slo: {latency_p95_ms: fast}\n", "<text>:4", "slo.latency_p95_ms: expected a valid number"),
        (MINIMAL + "slo:\n  latency_p95_ms: -3\n", "<text>:5", "expected a value greater than 0, got -3"),
        (MINIMAL + "slo: p95=fast\n", "<text>:4", "expected a time with its unit"),
        (MINIMAL + "slo: 3\n", "<text>:4", "slo: expected a mapping with latency_p50_ms"),
        (MINIMAL + "accuracy: {min: 3}\n", "<text>:4", "accuracy.min: expected a value less than or equal to 1, got 3"),
        (MINIMAL + "accuracy: {}\n", "<text>:4", "accuracy: expected min, got none"),
        (MINIMAL + "on_overload: explode\n", "<text>:4", "expected one of degrade, drop, late, got 'explode'"),
        (MINIMAL + "params: [a]\n", "<text>:4", "params: expected a mapping from names to defaults"),
        (MINIMAL + "x: !!python/object:os.system a\n", "<text>:4", "expected no tags"),
        (MINIMAL + "description: !secret a\n", "<text>:4", "expected no tags, got !secret"),
        ("name: p\nops: &a\n  - *a\n", "<text>:2", "an alias stands inside the value that it names"),
    ],
)
def test_an_error_names_line_and_what_was_expected(text, where, words):
    found = problems_of(text)
    assert any(problem.where == where and words in problem.message for problem in found), found


def test_an_unknown_key_gets_the_nearest_one():
    problem = only_problem(MINIMAL + "acuracy: {min: 1}\n")
    assert (problem.where, problem.hint) == ("<text>:4", "did you mean accuracy?")
    problem = only_problem(MINIMAL + "slo: {latency_p59_ms: 1}\n")
    assert problem.hint is not None
    assert problem.hint.startswith("did you mean latency_p")


def test_all_problems_come_at_once_in_file_order():
    found = problems_of("nam: p\nops:\n  - {type: x}\n  - {name: b}\nslo: {x: 1}\nversion: 3\n")
    lines = [problem.where for problem in found]
    assert lines == ["<text>:1", "<text>:3", "<text>:4", "<text>:5", "<text>:6"]


def test_what_can_be_read_in_spite_of_problems_is_there_for_validation():
    text = MINIMAL.replace("type: detect", "type: dtect") + "acuracy: {}\nslo: fast\non_overload: x\n"
    loaded, problems = read_yaml(text)
    assert [problem.code for problem in problems] == ["unknown-key", "slo", "type"]
    (more,) = validate(loaded.spec, MANIFESTS, SINKS, locations=loaded.locations)
    assert (more.code, more.where) == ("unknown-operator", "<text>:3")
    assert loaded.unread == frozenset()


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        (MINIMAL.replace("name: p", "nam: p"), set()),
        (MINIMAL.replace("name: p", ""), {("name",)}),
        (MINIMAL.replace("type: detect", "type: 3"), {("ops", 0, "type")}),
        (MINIMAL.replace("name: detect, ", ""), {("ops", 0, "name")}),
        (MINIMAL.replace("$source.frames", "3"), {("ops", 0, "inputs", FIRST_PORT)}),
        (MINIMAL + "  - detect\n", {("ops",)}),
        (MINIMAL + "include: none.yaml\n", {("ops",)}),
        (MINIMAL + "sinks:\n  - {type: video}\n", {("sinks", 0, "inputs")}),
        (block("${env:NOPE}"), {("ops", 0, "v")}),
        (block("[1, 'a${env:NOPE}']"), {("ops", 0, "v")}),
        (block("${params.b}", "params:\n  b: ${env:NOPE}\n"), {("ops", 0, "v")}),
    ],
)
def test_what_could_not_be_read_is_named_and_reported_once(text, unread):
    loaded, problems = read_yaml(text)
    assert loaded.unread == unread
    assert len(problems) == 1


def test_a_misspelt_key_of_a_stage_or_sink_is_read_as_what_it_means():
    text = "name: p\nops:\n  - {nam: a, typ: detect}\nsinks:\n  - {type: video, inpt: $ops.a.boxes}\n"
    loaded, problems = read_yaml(text)
    assert [(problem.code, problem.where, problem.hint) for problem in problems] == [
        ("unknown-key", "<text>:3", "did you mean name?"),
        ("unknown-key", "<text>:3", "did you mean type?"),
        ("unknown-key", "<text>:5", "did you mean input?"),
    ]
    assert loaded.spec.ops[0].name == "a"
    assert loaded.spec.ops[0].type == "detect"
    assert loaded.spec.sinks[0].inputs == ("$ops.a.boxes",)
    assert loaded.unread == frozenset()


def test_parameters_that_may_stand_in_a_lost_file_are_not_missed():
    text = block("${params.x}").replace("name: p", "name: p\ninclude: none.yaml")
    assert [problem.code for problem in problems_of(text, params={"y": "1"})] == ["include"]


def test_aliases_that_grow_without_bound_are_refused():
    levels = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9))
    assert "expected at most" in only_problem(f"a0: &a0 [1, 2]\n{levels}\n").message


def test_anchors_and_merge_keys_work():
    text = """\
name: p
ops:
  - &detect {name: a, type: detect, inputs: $source.frames, batch: 4}
  - <<: *detect
    name: b
"""
    assert [(op.name, op.params) for op in load_yaml(text).spec.ops] == [("a", {"batch": 4}), ("b", {"batch": 4})]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2026-01-02", "2026-01-02"),
        ("1e-3", 0.001),
        ("0x10", 16),
        ("010", 10),
        ("true", True),
        ("null", None),
        ("'3'", "3"),
        (".inf", float("inf")),
    ],
)
def test_plain_scalars_follow_yaml_1_2(written, value):
    assert params_of(block(written))["v"] == value


def test_empty_missing_and_unreadable_files_are_said_to_be_so(tmp_path):
    assert "got nothing" in only_problem("\n# nothing\n").message
    with pytest.raises(UsageError, match="does not exist"):
        load_yaml(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="is a folder"):
        load_yaml(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"name: p\nops: \xff\xfe\n")
    problem = only_problem(tmp_path / "bytes.yaml")
    assert problem.where.endswith("bytes.yaml:2")
    assert "UTF-8" in problem.message


def test_a_reference_alone_keeps_its_type_and_is_text_within_text():
    head = "params: {x: 0.4, flag: true, sizes: [1, 2]}\n"
    assert params_of(block("${params.x}", head))["v"] == 0.4
    assert params_of(block('"${params.flag}"', head))["v"] is True
    assert params_of(block("${params.sizes}", head))["v"] == [1, 2]
    assert params_of(block("at ${params.x}, ${params.flag}", head))["v"] == "at 0.4, true"


def test_the_environment_is_read_with_defaults():
    env = {"SCORE": "0.7", "EMPTY": "", "SNEAKY": "${params.x}"}
    assert params_of(block("${env:SCORE}"), env=env)["v"] == 0.7
    assert params_of(block('"${env:SCORE}"'), env=env)["v"] == "0.7"
    assert params_of(block("rtsp://${env:HOST:-cam}/1"), env=env)["v"] == "rtsp://cam/1"
    assert params_of(block("${env:EMPTY:-full}"), env=env)["v"] == "full"
    assert params_of(block('"${env:EMPTY}"'), env=env)["v"] == ""
    # What came in is not searched again.
    assert params_of(block('"${env:SNEAKY}"', "params: {x: 1}\n"), env=env)["v"] == "${params.x}"


def test_a_doubled_dollar_is_a_plain_one():
    assert params_of(block("$${params.x} $5"))["v"] == "${params.x} $5"


@pytest.mark.parametrize(
    ("value", "words", "hint"),
    [
        ("${params.min_scor}", "unknown parameter 'min_scor'", "did you mean min_score?"),
        ("${env:NOPE}", "environment variable NOPE is not set", "set NOPE, or write ${env:NOPE:-default}"),
        ("${nope}", "expected ${params.NAME} or ${env:VAR}, got ${nope}", None),
        ("${env:1-2}", "expected ${params.NAME} or ${env:VAR}", None),
        ("${params.x", "expected a } behind ${", None),
        ("${params.needed}", "parameter 'needed' has no value", "give it: --set params.needed=..."),
    ],
)
def test_a_reference_that_cannot_be_resolved_is_a_problem(value, words, hint):
    problem = only_problem(block(value, "params: {min_score: 1, needed: null}\n"))
    assert words in problem.message
    assert problem.where == "<text>:6"
    assert hint is None or problem.hint == hint


def test_an_unquoted_reference_in_braces_gets_the_hint_to_quote_it():
    problem = only_problem("name: p\nops: [{name: a, v: ${params.x}}]\n")
    assert problem.hint is not None
    assert "quotes" in problem.hint


def test_params_are_overridden_with_the_type_of_their_default():
    head = "params: {x: 0.4, n: 3, who: person, sizes: [1]}\n"
    loaded = load_yaml(block("${params.x}", head), params={"x": "1", "who": "3", "sizes": "[4, 5]"})
    assert loaded.params == {"x": 1.0, "n": 3, "who": "3", "sizes": [4, 5]}
    assert params_of(block("${params.x}", "params: {x: null}\n"), params={"x": "person"})["v"] == "person"
    problem = only_problem(block("1", head), params={"n": "many"})
    assert (problem.where, problem.message) == ("params.n", "expected a whole number such as 3, got 'many'")
    assert only_problem(block("1", head), params={"size": "1"}).hint == "did you mean sizes?"


def test_params_do_not_stand_on_each_other():
    assert "cannot stand on another" in only_problem("params:\n  a: 1\n  b: ${params.a}\n" + MINIMAL).message
    head = "params:\n  a: ${env:A:-3}\n"
    assert params_of(block("${params.a}", head), env={})["v"] == 3


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / "main.yaml"


def test_included_ops_come_first_and_own_params_win(tmp_path):
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts", more="ops:\n  - {name: more, type: x}\n")
    main = write(
        tmp_path,
        main="include: [common.yaml, parts/more.yaml]\nparams: {a: 1}\nname: p\nops:\n  - {name: own, type: x}\n",
        common='params: {a: 2, b: 3}\ninclude: parts/more.yaml\nops:\n  - {name: common, type: x, v: "${params.a}"}\n',
    )
    loaded = load_yaml(main)
    assert [op.name for op in loaded.spec.ops] == ["more", "common", "own"]  # more.yaml counts once
    assert loaded.params == {"a": 1, "b": 3}
    assert loaded.spec.ops[1].params == {"v": 1}
    assert loaded.locations["ops", 1, "v"] == f"{tmp_path / 'common.yaml'}:4"


def test_a_recursive_include_is_refused_with_the_chain(tmp_path):
    main = write(tmp_path, main=f"include: [a.yaml]\n{MINIMAL}", a="include: [b.yaml]\n", b="include: [a.yaml]\n")
    problem = only_problem(main)
    chain = " > ".join(str(tmp_path / f"{name}.yaml") for name in ("main", "a", "b", "a"))
    assert problem.message == f"files include each other in a circle: {chain}"
    assert problem.where == f"{tmp_path / 'b.yaml'}:1"


def test_a_file_that_includes_itself_is_refused(tmp_path):
    assert "circle" in only_problem(write(tmp_path, main=f"include: main.yaml\n{MINIMAL}")).message


def test_an_included_file_has_only_params_include_and_ops(tmp_path):
    main = write(tmp_path, main=f"include: [a.yaml]\n{MINIMAL}", a="ops: []\nsinks: []\nopz: 1\n")
    assert [(problem.where, problem.code) for problem in problems_of(main)] == [
        (f"{tmp_path / 'a.yaml'}:2", "unknown-key"),
        (f"{tmp_path / 'a.yaml'}:3", "unknown-key"),
    ]


def test_a_broken_or_missing_include_is_named_where_it_stands(tmp_path):
    main = write(tmp_path, main=f"{MINIMAL}include:\n  - gone.yaml\n  - bad.yaml\n  - 3\n", bad="ops: [\n")
    gone, number, bad = problems_of(main)
    assert gone.where == f"{main}:5"
    assert "gone.yaml does not exist" in gone.message
    assert bad.where.startswith(f"{tmp_path / 'bad.yaml'}:2")
    assert number.message == "include: expected a file name, got 3"
