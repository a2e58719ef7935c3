"""Accuracy on labelled video through the whole program, by the protocol that the figures were measured with."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamapipe.session import RunRequest, evaluate, run

YOLOX = {"detect.model": "yolox-nano", "detect.precision": "fp32"}


@pytest.mark.assets
@pytest.mark.slow
@pytest.mark.parametrize(
    ("sets", "ap"),
    [
        ({"detect.model": "pedestrian-ssdlite", "detect.precision": "fp32"}, 0.798),
        ({**YOLOX, "detect.input_size": "256", "detect.backend": "openvino"}, 0.846),
        ({**YOLOX, "detect.input_size": "416", "detect.backend": "openvino"}, 0.852),
        ({**YOLOX, "detect.input_size": "416", "detect.backend": "onnxruntime"}, 0.852),
        ({**YOLOX, "detect.input_size": "640", "detect.backend": "openvino"}, 0.875),
    ],
    ids=["ssdlite", "yolox-256", "yolox-416", "yolox-416-onnxruntime", "yolox-640"],
)
def test_ap_of_people_is_what_was_measured_elsewhere(
    sets: dict[str, str], ap: float, assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every 4th frame, every point of recall, IoU 0.5, scores from 0.05, overlaps above IoU 0.5 suppressed."""
    monkeypatch.setenv("LLAMAPIPE_ASSET_MIRROR", str(assets))
    sets = {**sets, "detect.sample_fps": "6.25"}  # of 25: the frames that count
    summary = run(RunRequest("people", [str(assets / "TUD-Stadtmitte.mp4")], output=tmp_path / "out", sets=sets))
    assert summary.outcome == "done"
    found = evaluate(tmp_path / "out" / "detections.jsonl", assets / "TUD-Stadtmitte_gt.txt", every=4)
    assert (found.frames, found.truths) == (45, 290)
    assert found.ap["0.5"] == pytest.approx(ap, abs=0.01)
