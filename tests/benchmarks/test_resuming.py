from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import pytest

from benchmarks import selection
from benchmarks.profiler import Points
from benchmarks.store import Store
from llamapipe.catalog import Variant
from llamapipe.inference.measuring import Measurement

VARIANT = Variant("yolox-nano", "openvino", "cpu", "fp32", (416, 416), 1)


def measurement(**changed: Any) -> Measurement:
    return Measurement(**{"batch": 2, "seconds": (0.2, 0.1, 0.3), "core_s": 0.2, **changed})


def test_points_are_found_again_and_what_was_asked_for_hangs_on_the_search(tmp_path: Path) -> None:
    path = tmp_path / "points.jsonl"
    points = Points(Store(path), seed=0)
    for round_ in ("sweep 1", "asked"):
        points.add(VARIANT, round_, measurement())
    again, other = Points(Store(path), seed=0), Points(Store(path), seed=1)
    assert again.measurement(VARIANT, 2, "asked").median_s == pytest.approx(0.2)
    assert other.get(VARIANT, 2, "asked") is None
    assert other.median_s(VARIANT, 2, "sweep 1") == pytest.approx(0.2)
    assert again.get(VARIANT, 1, "sweep 1") is None


def test_a_point_that_others_disturbed_is_measured_again(tmp_path: Path) -> None:
    points = Points(Store(tmp_path / "points.jsonl"))
    points.add(VARIANT, "sweep 1", measurement(foreign=0.2))
    assert points.get(VARIANT, 2, "sweep 1") is None


def test_a_batch_that_a_model_does_not_have_is_asked_for_once(tmp_path: Path) -> None:
    points = Points(Store(tmp_path / "points.jsonl"))
    points.add(VARIANT, "sweep 1", measurement(seconds=(), error="no such batch"))
    assert points.is_none(VARIANT, 2)
    assert not points.is_none(VARIANT, 4)


def test_the_oracle_of_selection_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "frames_of", lambda *_: [])
    profile: Any = type("Profile", (), {"variant": VARIANT})
    kept = Store(tmp_path / "oracle.jsonl", num=300)
    assert selection.swept("person-detection", [profile], kept, 300, -inf) is None
    kept.add((VARIANT.name,), {"cost": 2.0})
    found = selection.swept("person-detection", [profile], kept, 300, -inf)
    assert found is not None
    assert found[VARIANT.name]["cost"] == 2.0
