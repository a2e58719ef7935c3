"""spec -> YAML -> spec loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamapipe.errors import UsageError
from llamapipe.spec import AccuracyFloor, OpSpec, PipelineSpec, SinkSpec, SloSpec, dump_yaml, load_yaml
from tests.examples import examples

texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["no", "1e3", "0x1", "12:30", "null", "~", "", "${params.x}", "$${", "<<", "=", " a ", "- a", "a: b", "#", "\ufeff"]
)
names = st.from_regex(r"\A[a-zA-Z][a-zA-Z0-9_-]{0,7}\Z")
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
selectors = st.just("$source.frames") | st.builds("$ops.{}.{}".format, names, names) | texts
keys = texts.filter(lambda key: key not in ("name", "type", "input", "inputs", "path", "when"))
params = st.dictionaries(keys, values, max_size=3)
ops = st.builds(
    OpSpec,
    name=names,
    type=texts,
    inputs=st.dictionaries(names | st.just(""), st.lists(selectors, max_size=3).map(tuple), max_size=3),
    when=st.none() | texts,
    params=params,
)
sinks = st.builds(
    SinkSpec,
    name=names,
    type=texts,
    inputs=st.lists(selectors, max_size=3).map(tuple),
    path=st.none() | texts,
    params=params,
)
positive = st.none() | st.floats(0.001, 1e9)
specs = st.builds(
    PipelineSpec,
    name=texts,
    description=texts,
    slo=st.none()
    | st.builds(
        SloSpec,
        latency_p50_ms=positive,
        latency_p95_ms=positive,
        latency_p99_ms=positive,
        deadline_s=positive,
        max_drop_share=st.floats(0, 1),
    ),
    accuracy=st.none()
    | st.builds(AccuracyFloor, min=st.floats(0, 1), metric=st.none() | texts, degraded=st.none() | st.floats(0, 1)),
    on_overload=st.sampled_from([None, "degrade", "drop", "late"]),
    ops=st.lists(ops, max_size=3).map(tuple),
    sinks=st.lists(sinks, max_size=2).map(tuple),
)


@settings(max_examples=examples(120), deadline=None)
@given(specs)
def test_yaml_gives_back_the_same_spec(spec):
    text = dump_yaml(spec)
    assert load_yaml(text).spec == spec
    assert dump_yaml(load_yaml(text).spec) == text


def test_tuples_are_lists_from_the_start():
    op = OpSpec(name="a", type="x", inputs={}, params={"size": (320, 320), "deep": {"a": ((1,),)}})
    assert op.params == {"size": [320, 320], "deep": {"a": [[1]]}}


def test_short_stages_take_one_line_and_long_ones_a_block():
    ops = (
        OpSpec(name="a", type="llamapipe/detect@v1", inputs={"": ("$source.frames",)}, params={"batch": 4}),
        OpSpec(name="b", type="x", inputs={"frames": ("$source.frames",)}, when="any($ops.a.boxes, " + "y" * 90 + ")"),
    )
    lines = dump_yaml(PipelineSpec(name="p", ops=ops)).splitlines()
    assert lines[3] == "  - {name: a, type: llamapipe/detect@v1, inputs: $source.frames, batch: 4}"
    assert lines[4:7] == ["  - name: b", "    type: x", "    inputs: {frames: $source.frames}"]


def test_what_yaml_has_no_word_for_is_refused():
    for params, words in (({"when": 1}, "cannot be called 'when'"), ({"x": Path("a")}, "values that YAML can hold")):
        with pytest.raises(UsageError, match=words):
            dump_yaml(PipelineSpec(name="p", ops=(OpSpec(name="a", type="x", inputs={}, params=params),)))
