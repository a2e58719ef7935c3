"""Whatever is written, the answer is a spec or a list of problems, never a crash."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from llamapipe.errors import SpecError, UsageError
from llamapipe.spec import OpSpec, PipelineSpec, SinkSpec, dot, dump_yaml, load_yaml, mermaid, tree, validate
from tests.examples import examples
from tests.spec.kit import BLUR_FACES, MANIFESTS, SINKS

names = st.sampled_from(["a", "b", "c", "d", "", "1"])
ports = st.sampled_from(["", "frames", "boxes", "tracks", "others", "x"])
selectors = st.builds("$ops.{}.{}".format, names, ports) | st.sampled_from(["$source.frames", "$source", "$ops.a", "x"])
whens = st.none() | st.builds("any({})".format, selectors) | st.just("any(")
params = st.dictionaries(
    st.sampled_from(["batch", "margin", "polygon", "sample_fps", "skip_still", "x", "labels"]),
    st.sampled_from([1, 0.5, None, "x", [], ["a"], {}, float("nan"), True]),
    max_size=2,
)
ops = st.builds(
    OpSpec,
    name=names,
    type=st.sampled_from([*MANIFESTS, "detect", "crop", "nope", ""]),
    inputs=st.dictionaries(ports, st.lists(selectors, max_size=2).map(tuple), max_size=2),
    when=whens,
    params=params,
)
sinks = st.builds(
    SinkSpec,
    name=names,
    type=st.sampled_from([*SINKS, "video", ""]),
    inputs=st.lists(selectors, max_size=2).map(tuple),
    params=params,
)
specs = st.builds(
    PipelineSpec, name=names, ops=st.lists(ops, max_size=5).map(tuple), sinks=st.lists(sinks, max_size=2).map(tuple)
)


@settings(max_examples=examples(200), deadline=None)
@given(specs)
def test_validation_answers_for_any_spec(spec):
    if not validate(spec, MANIFESTS, SINKS):
        for view in (tree, mermaid, dot):
            assert view(spec, MANIFESTS)
    loaded = load_yaml(dump_yaml(spec))
    validate(loaded.spec, MANIFESTS, SINKS, locations=loaded.locations)


@settings(max_examples=examples(150), deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(data):
    start = data.draw(st.integers(0, len(BLUR_FACES)))
    end = data.draw(st.integers(start, min(len(BLUR_FACES), start + 20)))
    piece = data.draw(st.text('${}[]:-,"\n\t #&*!|>%@`ab1\x00\x85', max_size=6))
    with suppress(UsageError):
        loaded = load_yaml("\n" + BLUR_FACES[:start] + piece + BLUR_FACES[end:], env={})
        validate(loaded.spec, MANIFESTS, SINKS, locations=loaded.locations)


def test_nesting_without_end_is_a_problem_not_a_crash():
    for depth in (90, 110, 400, 5000):
        labels = "[" * depth + "]" * depth
        text = f"name: p\nops:\n  - {{name: a, type: detect, inputs: $source.frames, labels: {labels}}}\n"
        with suppress(SpecError):
            dump_yaml(load_yaml(text).spec)
    when = "(" * 5000 + "any($ops.a.boxes)" + ")" * 5000
    op = OpSpec(name="a", type="detect", inputs={"frames": ("$source.frames",)}, when=when)
    (problem,) = validate(PipelineSpec(name="p", ops=(op,)), MANIFESTS, SINKS)
    assert problem.message == "when: nested too deeply"
