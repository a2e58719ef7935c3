"""Frames without motion: how many there are, what tells stages of them, and when a tuner has them skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamapipe.clock import SystemClock
from llamapipe.inference import AssetStore
from llamapipe.media import SourceSpec, open_source
from llamapipe.operator import load_registry
from llamapipe.session.priors import accuracy_trend, cost_trend
from llamapipe.session.resolve import LoadedPipeline, load_pipeline
from llamapipe.session.stillness import MotionStages, looks_at
from llamapipe.session.stretches import decode_stretches
from llamapipe.session.trials import Trial
from llamapipe.session.tunable import Tunable, still_stages, tunable
from llamapipe.spec.model import OpSpec
from llamapipe.tune import Predicted

PIPELINE = """
name: people-only
ops:
  - {name: detect, type: detect, inputs: $source.frames, task: person-detection, model: yolox-nano}
  - {name: heads, type: crop, inputs: {frames: $source.frames, boxes: $ops.detect.boxes}}
  - {name: faces, type: detect, inputs: $ops.heads.frames, task: face-detection}
sinks:
  - {type: jsonl, inputs: [$ops.detect.boxes, $ops.faces.boxes], path: detections.jsonl}
"""


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedPipeline:
    return of(tmp_path)


def of(folder: Path, *, more: str = "") -> LoadedPipeline:
    path = folder / "people.yaml"
    path.write_text(PIPELINE.replace("model: yolox-nano", f"model: yolox-nano{more}"))
    return load_pipeline(str(path), env={})


def space(
    loaded: LoadedPipeline, folder: Path, looks: dict[float, float] | None = None, **asked: list[object]
) -> Tunable:
    found = dict.fromkeys(still_stages(loaded), looks or {})
    store = AssetStore(folder / "cache", env={})
    named = {key.replace("__", "."): values for key, values in asked.items()}
    return tunable(loaded, [], store, fps=25.0, asked=named, reference={}, looks=found)


@pytest.mark.parametrize(
    ("video", "low", "high"),
    [("TUD-Stadtmitte.mp4", 0.9, 1.0), ("car-detection.mp4", 0.2, 0.7), ("one-by-one-person-detection.mp4", 0.2, 0.8)],
)
def test_a_busy_street_moves_always_and_a_quiet_one_at_times(video: str, low: float, high: float, assets: Path) -> None:
    spec = SourceSpec("video", str(assets / video), "file")
    source = open_source(spec, clock=SystemClock())
    source.close()
    held = decode_stretches(spec, source.info, 240, 4, clock=SystemClock())
    looks = looks_at(held.luma(), held, load_registry(), [0.004, 0.016])
    assert low <= looks[0.004] <= high
    assert looks[0.016] <= looks[0.004]


def test_stages_that_look_at_the_source_may_skip_and_those_that_do_already_are_left(tmp_path: Path) -> None:
    assert still_stages(of(tmp_path)) == ["detect"]
    assert still_stages(of(tmp_path, more=", skip_still: 0.01")) == []


def test_the_tuner_has_it_as_one_more_knob_of_which_the_reference_knows_nothing(
    loaded: LoadedPipeline, tmp_path: Path
) -> None:
    plain, found = space(loaded, tmp_path), space(loaded, tmp_path, {0.004: 0.5, 0.016: 0.3})
    assert len(found.space.points) == 3 * len(plain.space.points)
    assert found.choices[found.reference] == plain.choices[plain.reference]
    assert found.choices[found.default] == plain.choices[plain.default]
    values = [choice.get("detect.skip_still") for choice in found.choices.values()]
    assert set(values) == {None, 0.004, 0.016}


def test_what_the_user_asks_for_is_tried_instead(loaded: LoadedPipeline, tmp_path: Path) -> None:
    found = space(loaded, tmp_path, {0.004: 0.5}, detect__skip_still=[0, 0.05])
    assert {choice["detect.skip_still"] for choice in found.choices.values()} == {0, 0.05}
    assert found.choices[found.reference]["detect.skip_still"] == 0


def test_cost_is_expected_to_follow_the_frames_that_move(loaded: LoadedPipeline, tmp_path: Path) -> None:
    found = space(loaded, tmp_path, {0.004: 0.5, 0.016: 0.25})
    by_stage = {"detect": 0.040, "faces": 0.0, "draw": 0.010}
    reference = Trial(Predicted(50, 0.1, 20, 1.0, 1.0, 1.0), 1.0, 40, by_stage, {"detect": 1.0, "faces": 0.0})
    costs, accuracies = cost_trend(found, reference, 25.0), accuracy_trend(found, reference, 25.0)
    assert costs is not None
    assert accuracies is not None
    at = found.space.knobs.index(next(knob for knob in found.space.knobs if knob.name == "detect.skip_still"))
    points = [(*found.reference[:at], share, *found.reference[at + 1 :]) for share in (0.0, 0.004, 0.016)]
    expected = [pytest.approx(ms, rel=0.01) for ms in (50, 30, 20)]
    assert [2.718281828 ** float(mean) for mean in costs.mean(points)] == expected
    assert accuracies.mean(points).tolist() == [1.0, 1.0, 1.0]
    sure = [float((row**2).sum()) for row in accuracies.features(points)]
    assert sure[0] < sure[1] < sure[2]


def test_one_stage_tells_all_that_ask_the_same() -> None:
    manifest = load_registry().manifest("llamapipe/detect@v1")

    def asking(name: str, share: float, frames: str = "$source.frames") -> OpSpec:
        params = {"skip_still": share} if share else {}
        return OpSpec(name=name, type=manifest.type, inputs={"frames": (frames,)}, params=params)

    stages = MotionStages(["a-motion"])
    first = stages.before(asking("a", 0.1), manifest)
    assert first is not None
    assert (first.name, first.params, first.inputs) == (
        "a-motion-2",
        {"threshold": 0.1},
        {"frames": ("$source.frames",)},
    )
    assert stages.before(asking("b", 0.1), manifest) is first
    assert stages.before(asking("c", 0.0), manifest) is None
    others = [stages.before(asking("d", 0.2), manifest), stages.before(asking("e", 0.1, "$ops.small.frames"), manifest)]
    assert [other.name for other in others if other is not None] == ["d-motion", "e-motion"]
