"""The same boxes from every way to compute them: threads or processes, alone or in batches, either backend.

onnxruntime runs this network one picture at a time only, as it was exported; OpenVINO also takes eight.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import llamapipe

pytestmark = pytest.mark.assets

MIN_SCORE = 0.3
NEAR_SCORE = 0.005  # this close to the threshold, a box may be there or not
NEAR_PX = 1.0
PIPELINE = f"""
version: 1
name: objects
ops:
  - name: detect
    type: llamapipe/detect@v1
    inputs: $source.frames
    task: object-detection
    model: yolox-nano
    precision: fp32
    min_score: {MIN_SCORE}
sinks:
  - {{type: llamapipe/jsonl@v1, input: $ops.detect.boxes, path: detections.jsonl}}
"""

Boxes = Mapping[int, list[dict[str, object]]]


def boxes(assets: Path, folder: Path, clip: str, workers: str, batch: int, backend: str) -> Boxes:
    """Boxes of every frame."""
    folder.mkdir(exist_ok=True)
    pipeline = folder / "objects.yaml"
    pipeline.write_text(PIPELINE)
    summary = llamapipe.run(
        pipeline,
        assets / clip,
        output=folder / "out",
        start_s=3.0,
        max_frames=60,
        workers=workers,
        sets={"detect.batch": str(batch), "detect.backend": backend},
    )
    assert summary.frames.delivered == 60
    assert f"{backend}/cpu/fp32" in (summary.stages[0].variant or "")
    lines = (json.loads(line) for line in (folder / "out" / "detections.jsonl").read_text().splitlines())
    return {line["frame"]: line["items"] for line in lines}


def unmatched(ours: Boxes, theirs: Boxes) -> list[tuple[int, dict[str, object]]]:
    """Boxes clear of the threshold that have no like within a pixel on the other side."""
    missing = []
    for frame, items in ours.items():
        for item in items:
            if float(str(item["score"])) < MIN_SCORE + NEAR_SCORE:
                continue
            same = [np.array(o["box"]) for o in theirs[frame] if o["label"] == item["label"]]
            if not any(np.abs(box - np.array(item["box"])).max() <= NEAR_PX for box in same):
                missing.append((frame, item))
    return missing


@pytest.fixture(scope="module")
def reference(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Boxes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLAMAPIPE_ASSET_MIRROR", str(assets))
        return {
            clip: boxes(assets, tmp_path_factory.mktemp("reference"), clip, "1", 1, "onnxruntime")
            for clip in ("car-detection.mp4", "TUD-Stadtmitte.mp4")
        }


@pytest.mark.parametrize("clip", ["car-detection.mp4", "TUD-Stadtmitte.mp4"])
@pytest.mark.parametrize(
    ("workers", "batch", "backend"),
    [
        ("process:2", 1, "onnxruntime"),
        ("2", 1, "openvino"),
        ("2", 8, "openvino"),
        ("process:2", 8, "openvino"),
    ],
)
def test_boxes_are_the_same_within_a_pixel(
    clip: str,
    workers: str,
    batch: int,
    backend: str,
    assets: Path,
    reference: Mapping[str, Boxes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLAMAPIPE_ASSET_MIRROR", str(assets))
    found = boxes(assets, tmp_path, clip, workers, batch, backend)
    assert sum(len(items) for items in found.values()) > 20
    assert unmatched(reference[clip], found) == []
    assert unmatched(found, reference[clip]) == []
