"""A stage that names a task and its needs is served by what the catalogue knows, invocation by invocation."""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from llamapipe.catalog import AccuracyFigure, BatchPoint, Profile, Variant
from llamapipe.control import read_log
from llamapipe.data import Image
from llamapipe.errors import UsageError
from llamapipe.inference import AssetStore, cache_root, load_predictor, open_catalogue
from llamapipe.session import RunRequest, run
from llamapipe.session.request import Agreements

PIPELINE = """
name: people-only
accuracy: {min: 0.8, degraded: 0.4}
on_overload: degrade
ops:
  - {name: detect, type: detect, inputs: $source.frames, task: person-detection}
sinks:
  - {type: jsonl, input: $ops.detect.boxes, path: detections.jsonl}
"""
GOOD = Variant("yolox-nano", "openvino", "cpu", "fp32", (416, 416), 1)
FAST = Variant("yolox-nano", "openvino", "cpu", "fp32", (256, 256), 1)
ROUGH = Variant("fastestdet", "onnxruntime", "cpu", "fp32", (352, 352), 1)


@pytest.fixture
def env(tmp_path: Path, assets: Path) -> dict[str, str]:
    cache = tmp_path / "cache"
    environment = {**os.environ, "LLAMAPIPE_CACHE": str(cache), "LLAMAPIPE_ASSET_MIRROR": str(assets)}
    environment.pop("LLAMAPIPE_PROFILES", None)
    return environment


def fill(env: dict[str, str], agreements: dict[Variant, float]) -> None:
    """Measure variants on this machine, by the best of their processor time; how right they are is given.

    Neither load nor what others do to the caches may be in it: FAST takes but a fifth more than ROUGH.
    """
    with open_catalogue(env) as catalogue:
        for variant, agreement in agreements.items():
            point = measured(variant, env["LLAMAPIPE_ASSET_MIRROR"])
            figure = AccuracyFigure("agreement", agreement, "test", "agreement")
            catalogue.put(
                Profile(variant, catalogue.hardware, points=(point,), accuracy=(figure,), tasks=("person-detection",))
            )


def told(env: dict[str, str]) -> Agreements:
    """What was given to `fill`, as if it had been found on the video."""
    with open_catalogue(env) as catalogue:
        figures = {p.variant: p.accuracy_of("agreement", task="person-detection") for p in catalogue.profiles()}
    return Agreements({"detect": {v: f.value for v, f in figures.items() if f is not None}}, "given")


@cache
def measured(variant: Variant, mirror: str) -> BatchPoint:
    """Once for all tests of this process."""
    env = {**os.environ, "LLAMAPIPE_ASSET_MIRROR": mirror}
    predictor = load_predictor(variant, assets=AssetStore(cache_root(env), env=env))
    picture = Image(width=640, height=480, bgr=np.zeros((480, 640, 3), np.uint8))
    times = []
    for _ in range(15):
        begun = time.process_time()
        predictor.predict([picture])
        times.append(time.process_time() - begun)
    best = sorted(times)[:5]
    return BatchPoint(1, best[2], best[4], best[2], 5)


def detect_of(tmp_path: Path, env: dict[str, str], assets: Path, **more: object) -> dict[str, object]:
    pipeline = tmp_path / "people.yaml"
    pipeline.write_text(PIPELINE)
    video = str(assets / "TUD-Stadtmitte.mp4")
    request = RunRequest(str(pipeline), (video,), output=tmp_path / "out", agreed=told(env), **more)
    summary = run(request, env=env)
    assert summary.outcome == "done", summary.error
    whole = {"slo": summary.slo, "frames": summary.frames, "observed": summary.observed, "notes": summary.notes}
    return msgspec.to_builtins(summary.stages[0]) | whole


def test_the_cheapest_that_is_right_enough_serves_a_job(tmp_path: Path, env: dict[str, str], assets: Path) -> None:
    fill(env, {GOOD: 1.0, FAST: 0.9, ROUGH: 0.5})
    stage = detect_of(tmp_path, env, assets)
    assert stage["variant"] == FAST.name
    assert stage["served_by"] == []


def test_under_an_objective_every_invocation_is_served_by_one_that_is_right_enough(
    tmp_path: Path, env: dict[str, str], assets: Path
) -> None:
    fill(env, {GOOD: 1.0, FAST: 0.9, ROUGH: 0.5})
    stage = detect_of(tmp_path, env, assets, realtime=True, slo="p95=1s", max_frames=60)
    served = {entry["variant"]: entry["items"] for entry in stage["served_by"]}
    assert sum(served.values()) == 60
    assert set(served) <= {FAST.name, ROUGH.name}
    assert served[FAST.name] >= 30
    assert stage["slo"].met
    chosen = [decided for decided in stage["decisions"] if decided["runs"] is not None]
    assert sum(decided["times"] for decided in chosen) >= stage["invocations"]
    assert {decided["code"] for decided in chosen} <= {"cheapest", "slack-short", "only-way", "overload-degrade"}


def test_a_deadline_that_the_cheap_one_meets_is_met_by_it(tmp_path: Path, env: dict[str, str], assets: Path) -> None:
    fill(env, {GOOD: 1.0, FAST: 0.9, ROUGH: 0.5})
    stage = detect_of(tmp_path, env, assets, slo="deadline=60s")
    served = {entry["variant"]: entry["items"] for entry in stage["served_by"]}
    assert served.get(FAST.name, 0) >= 170
    assert stage["slo"].met
    assert stage["frame_ms"] == pytest.approx(1000 * stage["busy_s"] / 179)  # type: ignore[operator]
    assert 0 < stage["frame_ms"] < stage["budget_ms"] < 60_000 * 8 / 179  # type: ignore[operator]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Shares of the objective" in page
    assert "time a frame took at each stage" in page


def test_a_run_with_its_cores_to_itself_refines_the_profile_of_what_it_used(
    tmp_path: Path, env: dict[str, str], assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(env, {GOOD: 1.0})
    shared = detect_of(tmp_path, env, assets, max_frames=60)
    assert shared["observed"] == {}  # several workers
    monkeypatch.setattr("llamapipe.session.execute.not_comparable", lambda **_: "")  # whatever else runs here
    alone = detect_of(tmp_path, env, assets, workers=1, force=True)
    told = alone["observed"]
    assert set(told) == {GOOD.name}
    assert 16 <= told[GOOD.name] < 179
    with open_catalogue(env) as catalogue:
        profile = catalogue.profile(GOOD.name)
    assert profile is not None
    assert profile.points[0].count == 5 + told[GOOD.name]


def test_a_mechanism_can_be_left_out_to_see_what_it_brings(tmp_path: Path, env: dict[str, str], assets: Path) -> None:
    fill(env, {GOOD: 1.0, FAST: 0.9})
    left_out = ["late-commit", "stragglers", "fusing"]
    options = {"realtime": True, "slo": "p95=1s", "max_frames": 12, "record_events": True}
    stage = detect_of(tmp_path, env, assets, without=left_out, **options)
    assert "without late-commit, stragglers, fusing, as was asked for" in stage["notes"]
    plan, _ = read_log((tmp_path / "out" / "events.jsonl").read_bytes().splitlines())
    assert not plan.policy.late_commit
    assert not plan.policy.stragglers
    assert plan.policy.feedback
    assert plan.chains == ()
    with pytest.raises(UsageError, match="guessing is no mechanism") as caught:
        detect_of(tmp_path, env, assets, without=["guessing"], force=True)
    assert "late-commit" in str(caught.value.hint)
