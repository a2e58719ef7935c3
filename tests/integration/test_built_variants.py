"""Variants that were built are loaded by name from then on: by pipelines, in threads and in processes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llamapipe.catalog import ProfileState
from llamapipe.errors import UsageError
from llamapipe.inference import open_catalogue
from llamapipe.session import RunRequest, run
from llamapipe.session.building import build

pytestmark = [pytest.mark.assets, pytest.mark.slow]

PIPELINE = """
name: people-only
ops:
  - {name: detect, type: detect, inputs: $source.frames, model: fastestdet, labels: [person]}
sinks:
  - {type: jsonl, input: $ops.detect.boxes, path: detections.jsonl}
"""


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory, assets: Path) -> dict[str, str]:
    """A cache of its own, in which the variants of FastestDet have been built."""
    root = tmp_path_factory.mktemp("cache")
    env = {**os.environ, "LLAMAPIPE_CACHE": str(root), "LLAMAPIPE_ASSET_MIRROR": str(assets)}
    result = build(
        ["fastestdet"],
        calibrate=[str(assets / "TUD-Stadtmitte.mp4"), str(assets / "car-detection.mp4")],
        num_calibration=24,
        num_pictures=32,
        env=env,
    )
    for one in result.built:
        print(one.variant.name, one.state, one.agreement, one.note, one.reason)
    return env


def boxes_of(folder: Path) -> int:
    rows = [json.loads(line) for line in (folder / "detections.jsonl").read_text().splitlines()]
    return sum(len(row["items"]) for row in rows)


def test_a_model_that_finds_the_same_in_int8_is_kept_and_one_that_does_not_is_not(env: dict[str, str]) -> None:
    with open_catalogue(env) as store:
        profiles = {p.variant.name: p for p in store.profiles(model="fastestdet") if p.variant.threads == 1}
        kept = {key for key in store.artifacts("fastestdet") if "/int8/" in key}
    ready = {name for name, profile in profiles.items() if profile.state == ProfileState.READY}
    assert "fastestdet/openvino/cpu/fp32/352x352/t1" in ready
    assert "fastestdet/onnxruntime/cpu/int8/352x352/t1" in profiles
    assert kept == {f"{p.variant.backend}/int8/352x352" for n, p in profiles.items() if n in ready and "/int8/" in n}
    for name, profile in profiles.items():
        if name not in ready:
            assert "F1 0." in profile.reason or "cannot be" in profile.reason


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_a_pipeline_runs_in_int8_after_building(
    env: dict[str, str], assets: Path, tmp_path: Path, workers: str
) -> None:
    (tmp_path / "people.yaml").write_text(PIPELINE)
    with open_catalogue(env) as store:
        if store.artifact("fastestdet", "onnxruntime/int8/352x352") is None:
            pytest.skip("int8 was rejected on this machine")
    counts = {}
    for precision in ("fp32", "int8"):
        request = RunRequest(
            str(tmp_path / "people.yaml"),
            sources=[str(assets / "TUD-Stadtmitte.mp4")],
            output=tmp_path / precision,
            sets={"detect.backend": "onnxruntime", "detect.precision": precision},
            end_s=1.0,
            workers=workers,
        )
        summary = run(request, env=env)
        assert f"fastestdet/onnxruntime/cpu/{precision}/" in (summary.stages[0].variant or "")
        counts[precision] = boxes_of(next((tmp_path / precision).rglob("detections.jsonl")).parent)
    assert counts["fp32"] > 20
    assert abs(counts["int8"] - counts["fp32"]) < 0.3 * counts["fp32"]


def test_int8_that_was_not_built_is_refused_with_what_to_do(env: dict[str, str], assets: Path, tmp_path: Path) -> None:
    (tmp_path / "people.yaml").write_text(PIPELINE.replace("fastestdet", "yolox-nano"))
    request = RunRequest(
        str(tmp_path / "people.yaml"),
        sources=[str(assets / "TUD-Stadtmitte.mp4")],
        output=tmp_path / "out",
        sets={"detect.precision": "int8"},
    )
    with pytest.raises(UsageError, match="llamapipe models build yolox-nano"):
        run(request, env=env)
