"""The JSON Schema of the YAML format."""

from __future__ import annotations

import json

import pytest
import yaml

from llamapipe.spec import json_schema
from tests.spec.kit import BLUR_FACES, MANIFESTS, SINKS

SCHEMA = json_schema(MANIFESTS, SINKS)


def op(type):
    (found,) = (entry for entry in SCHEMA["$defs"]["op"]["oneOf"] if entry["title"] == type)
    return found


def test_it_is_plain_json_of_the_current_draft():
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert SCHEMA["$schema"].endswith("2020-12/schema")
    assert len(SCHEMA["$defs"]["op"]["oneOf"]) == len(MANIFESTS)


def test_every_way_to_write_a_type_means_one_operator():
    assert op("llamapipe/resize@v2")["properties"]["type"]["enum"] == [
        "llamapipe/resize@v2", "resize", "resize@v2", "llamapipe/resize",
    ]  # fmt: skip
    assert op("llamapipe/resize@v1")["properties"]["type"]["enum"] == ["llamapipe/resize@v1", "resize@v1"]
    assert "shout" in op("acme/shout@v1")["properties"]["type"]["enum"]


def test_operators_have_their_params_knobs_and_ports():
    blur = op("llamapipe/blur@v1")
    assert blur["properties"]["shape"]["anyOf"][0] == {"enum": ["box", "ellipse"]}
    assert blur["properties"]["shape"]["default"] == "box"
    assert "when" not in blur["properties"]  # it hides
    assert "precision" not in blur["properties"]
    assert set(blur["properties"]["inputs"]["oneOf"][1]["properties"]) == {"frames", "boxes"}
    detect = op("llamapipe/detect@v1")
    assert {"task", "model", "precision", "min_score", "batch", "sample_fps", "when"} <= set(detect["properties"])
    assert "skip_still" in detect["properties"]
    assert "skip_still" not in op("llamapipe/resize@v1")["properties"]
    assert op("llamapipe/zones@v1")["required"] == ["name", "type", "polygon", "inputs"]


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        (lambda d: None, True),
        (lambda d: d["ops"][0].update(min_score=0.5, input_size=[1, 2]), True),
        (lambda d: d["ops"][0].update(min_score="${params.x}"), True),
        (lambda d: d["ops"][0].update(type="detect"), True),
        (lambda d: d.update(slo="p95=1s", params={"x": 1}, include="a.yaml"), True),
        (lambda d: d["ops"][0].update(min_score=2), False),
        (lambda d: d["ops"][0].update(min_scor=0.5), False),
        (lambda d: d["ops"][0].update(type="dtect"), False),
        (lambda d: d["ops"][0].pop("inputs"), False),
        (lambda d: d["ops"][3].update(when="any($ops.a.boxes)"), False),
        (lambda d: d["sinks"][0].update(inputs="$source.frames"), False),
        (lambda d: d.update(slo={"latency_p95_ms": -1}), False),
        (lambda d: d.update(opps=[]), False),
    ],
)
def test_an_editor_would_accept_what_is_valid_and_mark_what_is_not(change, valid):
    jsonschema = pytest.importorskip("jsonschema")
    document = yaml.safe_load(BLUR_FACES)
    change(document)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    assert validator.is_valid(document) is valid
