"""The graph of a spec: order, levels, what lies upstream."""

from __future__ import annotations

import pytest

from llamapipe.errors import SpecError
from llamapipe.spec import hides_upstream, levels, load_yaml, resolve_types, split_selector, topological, upstream
from tests.spec.kit import BLUR_FACES, MANIFESTS, SINKS

SPEC = resolve_types(load_yaml(BLUR_FACES).spec, MANIFESTS, SINKS)
BY_STAGE = {op.name: MANIFESTS[op.type] for op in SPEC.ops}


def test_producers_come_first_and_equals_in_the_order_written():
    text = "name: p\nops:\n  - {name: c, type: x, inputs: $ops.a.x}\n"
    text += "  - {name: b, type: x, inputs: $source.frames, when: any($ops.a.x)}\n  - {name: a, type: x}\n"
    assert topological(load_yaml(text).spec) == ["a", "c", "b"]


def test_a_cycle_is_refused():
    with pytest.raises(SpecError, match="in a circle: a > a"):
        topological(load_yaml("name: p\nops:\n  - {name: a, type: x, inputs: $ops.a.x}\n").spec)


def test_stages_behind_a_fan_out_work_item_by_item():
    assert levels(SPEC, BY_STAGE) == {"people": "", "crops": "", "faces": "crops", "blurred": ""}


def test_what_lies_upstream_is_found_through_inputs():
    assert upstream(SPEC, "$ops.faces.boxes") == {"people", "crops", "faces"}
    assert upstream(SPEC, "$source.frames") == set()
    assert hides_upstream(SPEC, BY_STAGE, "$ops.blurred.frames")
    assert not hides_upstream(SPEC, BY_STAGE, "$ops.faces.boxes")


def test_selectors_have_two_or_three_parts():
    assert split_selector("$source.frames") == ("", "frames")
    assert split_selector("$ops.a-b.boxes") == ("a-b", "boxes")
    for text in ("$ops.a", "$ops.a.b.c", "source.frames", "", "$source"):
        with pytest.raises(SpecError, match="expected"):
            split_selector(text)
