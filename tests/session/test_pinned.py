"""A tuning as a file: what is written is read again, and what does not fit is said so."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml

from llamapipe.errors import LlamapipeError, UsageError
from llamapipe.inference.hardware import fingerprint
from llamapipe.session import load_pipeline
from llamapipe.session.pinned import digest_of_pipeline, pin, read_pinned, unlike, with_pinned
from llamapipe.spec import PipelineSpec
from llamapipe.tune import Predicted, Tried, Tuning, VideoSignature

VALUES = {"detect.model": "yolox-nano", "detect.input_size": [256, 256], "detect.batch": 1, "detect.sample_fps": 12.5}
FOUND = Predicted(5.5, 0.03, 120.0, 0.95, 0.92, 0.97, p50_ms=20.0, p95_ms=31.0, p99_ms=40.0)


def people() -> PipelineSpec:
    return load_pipeline("people", env={}).spec


def tuning(**changed: object) -> Tuning:
    made = Tuning(
        pipeline="people",
        digest=digest_of_pipeline(people()),
        objective="p95<=100ms",
        metric="agreement",
        floor=0.9,
        hardware=fingerprint(),
        signature=VideoSignature(640, 480, 25.0, (0.5, 0.5), 0.01, 0.1, (0.4, 0.6)),
        video="street: \u00fcber.mp4",
        values=VALUES,
        predicted=FOUND,
        reference={"detect.model": "yolox-nano", "detect.input_size": [640, 640], "detect.batch": 1},
        tried=(Tried(VALUES, FOUND, True, 0.7), Tried({"detect.batch": 8}, None, False, 0.1, "no such network")),
        points=40,
        frames=48,
        budget_s=3.0,
        took_s=2.5,
        notes=("one", "two"),
    )
    return msgspec.structs.replace(made, **changed)


def applied(tuned: Tuning, **sets: str) -> PipelineSpec:
    loaded = load_pipeline("people", env={})
    manifests = {op.type: loaded.registry.manifest(op.type) for op in loaded.spec.ops}
    return with_pinned(loaded.spec, tuned, {key.replace("__", "."): value for key, value in sets.items()}, manifests)


def test_what_is_pinned_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "people.tuned.yaml"
    pin(tuning(), path)
    assert read_pinned(path) == tuning()
    assert yaml.safe_load(path.read_text())["values"]["detect.sample_fps"] == 12.5
    assert path.read_text().startswith("# A tuned configuration of pipeline people")
    assert list(tmp_path.iterdir()) == [path]


def test_what_does_not_fit_is_not_pinned(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing that was tried for people fits"):
        pin(tuning(values={}, predicted=None), tmp_path / "x.yaml")
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_changes_the_stages_and_the_objective_and_sets_go_before_it() -> None:
    spec = applied(tuning(), detect__batch="2")
    detect = next(op for op in spec.ops if op.name == "detect")
    assert {key: detect.params[key] for key in ("model", "input_size", "batch", "sample_fps")} == {
        "model": "yolox-nano",
        "input_size": [256, 256],
        "batch": 2,
        "sample_fps": 12.5,
    }
    assert detect.params["min_score"] == 0.05
    assert spec.slo is not None
    assert spec.slo.latency == (0.95, 0.1)
    assert spec.accuracy is None


def test_a_configuration_of_another_pipeline_is_refused() -> None:
    with pytest.raises(UsageError, match="it is for pipeline traffic, this is people"):
        applied(tuning(pipeline="traffic", digest="0" * 16))
    with pytest.raises(UsageError, match="stages or parameters have changed"):
        applied(tuning(digest="0" * 16))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1", "configuration .*yaml"),
        ("name: people\nops: []\n", "expected what `llamapipe tune` writes"),
        ("version: 7\nvalues: {}\n", "expected version 1, got 7"),
        ("version: 1\nvalues: {}\npipeline: people\n", "missing required field"),
        ("", "expected what `llamapipe tune` writes"),
    ],
)
def test_another_kind_of_file_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=told):
        read_pinned(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: no such file"):
        read_pinned(tmp_path / "none.yaml")


def test_another_machine_is_told() -> None:
    assert unlike(tuning()) is None
    assert "was tuned on pentium" in str(unlike(tuning(hardware="pentium")))


def test_a_configuration_is_replaced_by_another_and_nothing_else_is(tmp_path: Path) -> None:
    path, video = tmp_path / "people.tuned.yaml", tmp_path / "street.mp4"
    pin(tuning(), path)
    pin(tuning(took_s=1.0), path)
    assert read_pinned(path).took_s == 1.0
    video.write_bytes(b"\x00\x00\x00 ftypisom")
    with pytest.raises(UsageError, match=r"street\.mp4 is there already, and is no tuned configuration"):
        pin(tuning(), video)
    assert video.read_bytes() == b"\x00\x00\x00 ftypisom"


def test_the_floor_that_was_tuned_for_is_not_asked_for_again_and_a_higher_one_is_refused() -> None:
    assert applied(tuning(), accuracy__min="0.8").accuracy is None
    with pytest.raises(UsageError, match=r"min=0.95: the configuration was tuned for agreement of at least 0.9"):
        applied(tuning(), accuracy__min="0.95")


def test_the_floor_of_the_command_line_is_that_of_the_tuning_whatever_its_metric() -> None:
    loaded = load_pipeline("people", env={})
    manifests = {op.type: loaded.registry.manifest(op.type) for op in loaded.spec.ops}
    labelled = tuning(metric="ap50", floor=0.6)
    assert with_pinned(loaded.spec, labelled, {}, manifests, min_accuracy=0.6).accuracy is None
    with pytest.raises(UsageError, match=r"--min-accuracy 0.7: the configuration was tuned for ap50 of at least 0.6"):
        with_pinned(loaded.spec, labelled, {}, manifests, min_accuracy=0.7)


@pytest.mark.parametrize("sets", [{"accuracy__mim": "0.8"}, {"accuracy__min": "0,99"}, {"accuracy__metric": "coco_ap"}])
def test_floors_beside_a_configuration_are_checked(sets: dict[str, str]) -> None:
    with pytest.raises(LlamapipeError):
        applied(tuning(), **sets)
