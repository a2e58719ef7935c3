"""From a spec to what runs: every stage that cannot be configured is said, at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from llamapipe.catalog import BatchPoint, Profile
from llamapipe.clock import SystemClock
from llamapipe.control.plan import StagePlan
from llamapipe.errors import SpecError
from llamapipe.inference import AssetStore
from llamapipe.session import RunRequest, load_pipeline, run
from llamapipe.session.candidates import Choice, Needs
from llamapipe.session.compile import compile_pipeline
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


def test_what_another_process_has_chosen_is_not_chosen_again(tmp_path: Path) -> None:
    """A killed run is gone on with as it was, whatever has been learned of this machine since."""
    loaded = load_pipeline("people", env={})
    assets = AssetStore(tmp_path, env={})

    def compiled(**known: Any) -> dict[str, StagePlan]:
        made = compile_pipeline(loaded.spec, loaded.registry, assets, fetch=False, needs=Needs(chooses=True), **known)
        return {stage.name: stage for stage in made.stages}

    before = compiled()
    name, variant = next((s.name, s.configuration.variant) for s in before.values() if s.configuration.variant)
    points = tuple(BatchPoint(n, (5 + n) / 1e3, (5 + n) / 1e3, (5 + n) / 1e3) for n in (1, 8))
    profiles = [Profile(variant, "here", points=points, accuracy=(), tasks=("person-detection",))]
    known = compiled(profiles=profiles)
    assert known[name].configuration.batch > 1
    for first, profiles_then in ((before, profiles), (known, [])):
        kept = {stage.name: choice for stage in first.values() if (choice := Choice.of(stage)) is not None}
        kept = msgspec.msgpack.decode(msgspec.msgpack.encode(kept), type=dict[str, Choice])
        then = compiled(profiles=profiles_then, kept=kept)
        assert then[name].configuration == first[name].configuration
        assert [c.configuration for c in then[name].candidates] == [c.configuration for c in first[name].candidates]
