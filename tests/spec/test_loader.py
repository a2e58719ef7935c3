"""YAML to spec: what is read, and every error with its file and line."""

from __future__ import annotations

from llamapipe.spec import dump_yaml, load_yaml, resolve_types, validate
from tests.spec.kit import BLUR_FACES, MANIFESTS, SINKS


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
