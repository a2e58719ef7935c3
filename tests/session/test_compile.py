"""From a spec to what runs: every stage that cannot be configured is said, at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llamapipe.clock import SystemClock
from llamapipe.errors import SpecError
from llamapipe.session import RunRequest, run
from llamapipe.session.prepare import prepare
from tests.inference import networks

PIPELINE = """\
version: 1
name: mine
ops:
  - {name: find, type: detect, inputs: $source.frames, model: MODEL, decoder: DECODER, labels: LABELS}
  - {name: follow, type: track, inputs: {boxes: $ops.find.boxes}}
  - {name: again, type: detect, inputs: $source.frames, task: person-detection, precision: int8}
sinks:
  - {name: detections, type: jsonl, inputs: [$ops.follow.tracks, $ops.again.boxes], path: detections.jsonl}
"""


def pipeline(tmp_path: Path, **words: str) -> Path:
    text = PIPELINE
    for word, value in words.items():
        text = text.replace(word, value)
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_stage_below_one_that_cannot_be_configured_is_no_crash(tmp_path: Path, clip: Path) -> None:
    path = pipeline(tmp_path, MODEL=str(tmp_path / "none.onnx"), DECODER="yolox", LABELS="[person]")
    with pytest.raises(SpecError) as caught:
        run(RunRequest(path, [str(clip)], output=tmp_path / "out"))
    assert [problem.where for problem in caught.value.problems] == ["stage find", "stage again"]


def test_labels_of_a_users_network_come_from_a_file(tmp_path: Path, clip: Path) -> None:
    """One a line, as the documentation says."""
    (tmp_path / "labels.txt").write_text("bolt\nnut\n", encoding="utf-8")
    answer = np.zeros((1, 6, 84), np.float32)
    answer[0, :, 3] = [32, 32, 20, 10, 0.1, 0.9]
    model = networks.always(tmp_path / "v8.onnx", answer, size=(64, 64))
    path = pipeline(tmp_path, MODEL=str(model), DECODER="yolov8", LABELS=str(tmp_path / "labels.txt"))
    text = path.read_text(encoding="utf-8")
    without = [line for line in text.splitlines(True) if "name: again" not in line]
    path.write_text("".join(without).replace("$ops.again.boxes", "$ops.find.boxes"), encoding="utf-8")
    summary = run(RunRequest(path, [str(clip)], output=tmp_path / "out"))
    assert summary.outcome == "done"
    assert '"nut"' in (tmp_path / "out" / "detections.jsonl").read_text()


@pytest.mark.parametrize(("realtime", "batch", "partial"), [(True, 4, True), (False, 4, False), (True, 1, False)])
def test_batches_of_what_comes_at_its_own_rate_are_often_not_full(
    realtime: bool, batch: int, partial: bool, tmp_path: Path, clip: Path
) -> None:
    answer = np.zeros((1, 6, 84), np.float32)
    model = networks.always(tmp_path / "v8.onnx", answer, size=(64, 64))
    ops = f"{{name: find, type: detect, inputs: $source.frames, model: {model}, decoder: yolov8, labels: [bolt, nut]}}"
    path = tmp_path / "mine.yaml"
    path.write_text(f"version: 1\nname: mine\nops:\n  - {ops}\n", encoding="utf-8")
    request = RunRequest(path, [str(clip)], realtime=realtime, sets={"find.batch": str(batch)})
    prepared = prepare(
        request, clock=SystemClock(), env={"LLAMAPIPE_CACHE": str(tmp_path / "cache")}, dry=True, results=True
    )
    try:
        configuration = prepared.plan.stages[0].configuration
        assert (configuration.batch, configuration.partial) == (batch, partial)
    finally:
        prepared.close()
