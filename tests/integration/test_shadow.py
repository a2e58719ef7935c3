"""``--shadow``: a configuration that does not hold any more is told from one that does, while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamapipe.errors import UsageError
from llamapipe.inference.hardware import fingerprint
from llamapipe.session import RunRequest, load_pipeline, run
from llamapipe.session.pinned import digest_of_pipeline
from llamapipe.tune import Predicted, Tuning, VideoSignature
from tests.integration.test_choices import env

__all__ = ["env"]  # the fixture

PIPELINE = """
name: people-only
ops:
  - {name: detect, type: detect, inputs: $source.frames, task: person-detection, model: yolox-nano, min_score: 0.4}
sinks:
  - {type: jsonl, input: $ops.detect.boxes, path: detections.jsonl}
"""
USUAL = {"detect.input_size": [416, 416], "detect.batch": 1}


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    path = tmp_path / "people.yaml"
    path.write_text(PIPELINE)
    return path


def tuning(pipeline: Path, **values: object) -> Tuning:
    """As if something had been found for another video."""
    digest = digest_of_pipeline(load_pipeline(pipeline, env={}).spec)
    signature = VideoSignature(640, 480, 25.0, (1.0,), 0.1, 0.1, (0.5,))
    found = {**USUAL, **{key.replace("__", "."): value for key, value in values.items()}}
    predicted = Predicted(10, 0.1, 50, 0.95, 0.92, 0.98)
    told = ("people-only", digest, "", "agreement", 0.9, fingerprint(), signature, "other.mp4")
    return Tuning(*told, found, predicted, USUAL, (), 1, 48, 3.0, 2.0)


def notes(pipeline: Path, config: Tuning, env: dict[str, str], assets: Path, tmp_path: Path) -> list[str]:
    request = RunRequest(
        str(pipeline),
        [str(assets / "TUD-Stadtmitte.mp4")],
        output=tmp_path / "out",
        config=config,
        shadow=0.5,
        max_frames=76,
    )
    summary = run(request, env=env)
    assert summary.outcome == "done"
    assert summary.frames.delivered == 76
    return [note for note in summary.notes if "drift" in note]


def test_a_configuration_that_misses_what_moves_is_told(
    pipeline: Path, env: dict[str, str], assets: Path, tmp_path: Path
) -> None:
    told = notes(pipeline, tuning(pipeline, detect__sample_fps=2.0), env, assets, tmp_path)
    assert told
    assert "the floor is 0.9: tune for this part" in told[0]


def test_one_that_holds_is_not(pipeline: Path, env: dict[str, str], assets: Path, tmp_path: Path) -> None:
    assert notes(pipeline, tuning(pipeline), env, assets, tmp_path) == []


def test_without_a_reference_there_is_nothing_to_compare_with(
    pipeline: Path, env: dict[str, str], assets: Path, tmp_path: Path
) -> None:
    source = str(assets / "TUD-Stadtmitte.mp4")
    with pytest.raises(UsageError, match="compares a configuration with its reference, there is none"):
        run(RunRequest(str(pipeline), [source], output=tmp_path / "out", shadow=0.02), env=env)
