"""Two runs side by side: what differs is told, and how far they found the same."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from llamapipe.cli.app import call
from llamapipe.errors import UsageError
from llamapipe.session import RunRequest, run
from llamapipe.session.comparing import Comparison, compare_runs

PIPELINE = """
name: people-only
ops:
  - {name: detect, type: detect, inputs: $source.frames, task: person-detection, backend: openvino}
sinks:
  - {type: jsonl, input: $ops.detect.boxes, path: detections.jsonl}
"""
NANO = {"detect.model": "yolox-nano", "detect.min_score": "0.5"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, assets: Path) -> tuple[Path, Path, Path]:
    """The same clip twice alike, and once at another input size, fewer frames, as fast as possible."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "people.yaml").write_text(PIPELINE)
    asked = (
        {"sets": NANO | {"detect.input_size": "416"}, "max_frames": 15, "realtime": True, "slo": "p95=10s"},
        {"sets": NANO | {"detect.input_size": "416"}, "max_frames": 15, "realtime": True, "slo": "p95=10s"},
        {"sets": NANO | {"detect.input_size": "256"}, "max_frames": 10},
    )
    env = {**os.environ, "LLAMAPIPE_ASSET_MIRROR": str(assets), "LLAMAPIPE_CACHE": str(folder / "cache")}
    for name, options in zip("abc", asked, strict=True):
        request = RunRequest(
            folder / "people.yaml", [str(assets / "TUD-Stadtmitte.mp4")], output=folder / name, **options
        )
        assert run(request, env=env).outcome == "done"
    return folder / "a", folder / "b", folder / "c"


def figures(found: Comparison) -> dict[str, tuple[float | None, float | None, float | None]]:
    return {figure.name: (figure.a, figure.b, figure.ratio) for figure in (*found.figures, *found.frames)}


def test_two_runs_alike_agree_and_nothing_is_warned_of(runs: tuple[Path, Path, Path]) -> None:
    found = compare_runs(runs[0], runs[1])
    assert found.warnings == []
    assert found.objectives == ("p95<=10000ms met",) * 2
    told = figures(found)
    assert told["in time"] == (1.0, 1.0, 1.0)
    assert told["delivered"] == (15, 15, 1.0)
    a, b, ratio = told["cost reserved"]
    assert a
    assert b
    assert ratio == pytest.approx(b / a)
    (same,) = found.agreement
    assert (same.stage, same.frames, same.f1) == ("detect", 15, 1.0)
    assert same.boxes_a == same.boxes_b > 15
    (stage,) = found.stages
    assert stage.variants[0] == stage.variants[1] == ["yolox-nano/openvino/cpu/fp32/416x416/t1"]


def test_frames_that_were_dropped_are_none_that_both_looked_at(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    dropping = tmp_path / "b"
    shutil.copytree(runs[1], dropping)
    lines = [json.loads(line) for line in (dropping / "detections.jsonl").read_text().splitlines()]
    lines = [
        {"stream": line["stream"], "frame": line["frame"], "outcome": "dropped", "stage": "", "reason": "overload"}
        if line["frame"] % 2
        else line
        for line in lines
    ]
    (dropping / "detections.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (same,) = compare_runs(runs[0], dropping).agreement
    assert (same.frames, same.f1) == (8, 1.0)


def test_what_makes_them_unlike_is_told_and_common_frames_are_compared(runs: tuple[Path, Path, Path]) -> None:
    found = compare_runs(runs[0], runs[2] / "run.json")
    assert found.warnings == [
        "the runs were asked for differently: --max-frames 15 and 10, --realtime True and False",
    ]
    (same,) = found.agreement
    assert same.frames == 10
    assert same.f1 is not None
    assert 0.3 < same.f1 < 1.0
    assert same.low is not None
    assert same.low < same.f1
    assert figures(found)["in time"] == (1.0, None, None)


def test_knobs_of_models_are_parameters_too(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    summary = json.loads((runs[0] / "run.json").read_bytes())
    params = summary["stages"][0]["params"]
    assert (params["min_score"], params["labels"], params["sample_fps"]) == (0.5, ["person"], None)
    params["min_score"] = 0.3
    (tmp_path / "run.json").write_text(json.dumps(summary))
    assert "parameters differ of stages detect" in compare_runs(runs[0], tmp_path).warnings


def test_a_moved_folder_is_compared_too(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("run.json", "detections.jsonl"):
        (moved / name).write_bytes((runs[1] / name).read_bytes())
    assert compare_runs(runs[0], moved).agreement[0].f1 == 1.0


def test_other_machines_prices_and_pipelines_are_told(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    summary = json.loads((runs[0] / "run.json").read_bytes())
    summary |= {"pipeline": "other", "hardware": "abacus", "outcome": "failed", "error": "no room"}
    summary["cost"]["unit"] = "EUR"
    summary["fingerprint"]["source TUD-Stadtmitte"] = "0"
    (tmp_path / "run.json").write_text(json.dumps(summary))
    found = compare_runs(runs[0], tmp_path)
    told = "\n".join(found.warnings)
    for words in ("pipelines differ: people-only, other", "machines differ", "abacus", "sources differ: TUD"):
        assert words in told
    assert "costs are in core-s and EUR" in told
    assert "second run has failed: no room" in told
    assert figures(found)["cost reserved"][2] is None


def tuned(folder: Path, target: Path, accuracy: float, **more: str) -> Path:
    """The run as if it had been tuned."""
    asked = {"objective": "", "metric": "agreement", "floor": 0.9, "values": {}, "predicted": None, "video": "a.mp4"}
    asked |= {"hardware": "", "took_s": 1.0, "budget_s": 2.0, "points": 3, "frames": 40, "tried": []}
    summary = json.loads((folder / "run.json").read_bytes())
    summary["tuning"] = asked | more
    summary["stages"][0]["accuracy"] = accuracy
    target.mkdir()
    (target / "run.json").write_text(json.dumps(summary))
    return target


def test_accuracies_as_tuned_are_compared_where_they_are_of_one_kind(
    runs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    first = tuned(runs[0], tmp_path / "a", 0.8)
    found = compare_runs(first, tuned(runs[1], tmp_path / "b", 0.96))
    assert figures(found)["accuracy"] == (0.8, 0.96, pytest.approx(1.2))
    assert found.warnings == []
    told = compare_runs(first, tuned(runs[1], tmp_path / "c", 0.4, metric="ap50"))
    assert figures(told)["accuracy"] == (0.8, 0.4, None)
    assert told.stages[0].figures[-1].ratio is None
    assert told.warnings == ["accuracies are of two kinds: agreement at the sinks, and ap50 at the sinks"]
    elsewhere = compare_runs(first, tuned(runs[1], tmp_path / "d", 0.96, video="b.mp4"))
    assert elsewhere.warnings == ["they were tuned on two videos: a.mp4, b.mp4"]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"run\.json cannot be read"):
        compare_runs(tmp_path, tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="no summary of a run"):
        compare_runs(tmp_path, tmp_path)


def test_the_command_prints_a_table_or_data(
    runs: tuple[Path, Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(["compare", str(runs[0]), str(runs[2])]) == 0
    out, err = capfd.readouterr()
    assert "latency p95 ms" in out
    assert "yolox-nano/openvino/cpu/fp32/256x256/t1" in out
    assert err.startswith("warning: the runs were asked for differently")
    assert call(["compare", str(runs[0]), str(runs[2]), "--json", "-q"]) == 0
    out, err = capfd.readouterr()
    assert msgspec.json.decode(out, type=Comparison).agreement[0].frames == 10
    assert err == ""
    assert call(["compare", str(runs[0]), str(tmp_path)]) == 2
