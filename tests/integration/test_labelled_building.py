"""Variants of a registered model are judged by people's own labels: average precision, beside agreement."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.assets, pytest.mark.slow]


def test_variants_are_measured_against_labels_and_show_says_so(tmp_path: Path, assets: Path) -> None:
    """FastestDet, registered with a labelled clip: every variant's AP at IoU 0.5 is that of its network elsewhere."""
    env = {**os.environ, "LLAMAPIPE_CACHE": str(tmp_path / "cache"), "LLAMAPIPE_ASSET_MIRROR": str(assets)}

    def llamapipe(*words: str) -> str:
        asked = [sys.executable, "-m", "llamapipe", "models", *words]
        ended = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    clip, labels = str(assets / "TUD-Stadtmitte.mp4"), str(assets / "TUD-Stadtmitte_gt.txt")
    like = ["--task", "person-detection", "--decoder", "fastestdet", "--labels", "coco", "--name", "mine"]
    told = ["--calibrate", clip, "--ground-truth", labels]
    llamapipe("register", str(assets / "FastestDet.onnx"), *like, *told, "--no-build")

    built = {one["variant"]: one for one in json.loads(llamapipe("build", "mine", "--json"))["variants"]}
    assert len(built) >= 4
    figures = {name: one["ap50"] for name, one in built.items() if one["state"] == "ready"}
    assert all(0.75 < figure < 0.85 for figure in figures.values()), figures
    assert "mine/onnxruntime/cpu/fp32/352x352" in figures

    shown = json.loads(llamapipe("show", "mine", "--json"))["variants"]
    for profile in shown:
        model, backend, device, precision, (height, width), _ = profile["variant"]
        kept = {(kind, metric): (value, of) for metric, value, of, kind, *_ in profile["accuracy"]}
        name = f"{model}/{backend}/{device}/{precision}/{height}x{width}"
        assert kept["measured", "ap50"] == (pytest.approx(figures[name]), "TUD-Stadtmitte.mp4")
        assert ("agreement", "agreement") in kept
    text = llamapipe("show", "mine")
    assert "ap50 (measured)" in text
    assert "against the labels of TUD-Stadtmitte.mp4 (person-detection)" in text
