"""Every file of samples/ runs as its text says."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

import llamapipe
from llamapipe.errors import AssetError
from llamapipe.operator import load_registry
from llamapipe.testing import check_operator


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_no_sample_is_untested(samples: Path) -> None:
    names = {file.name for file in samples.iterdir() if file.is_file()}
    assert names == {"README.md", "brightness.py", "brightness.yaml", "entrance.py", "media.yaml", "watch_people.py"}


def test_an_operator_of_ones_own_runs_from_yaml(samples: Path, clip: Path, tmp_path: Path) -> None:
    summary = llamapipe.run(
        samples / "brightness.yaml", clip, output=tmp_path / "out", ops_files=[samples / "brightness.py"]
    )
    assert summary.outcome == "done"
    levels = [event["value"] for line in lines(tmp_path / "out" / "brightness.jsonl") for event in line["events"][:1]]
    assert len(levels) == 12
    assert levels == sorted(levels)


def test_operators_of_samples_keep_the_rules(samples: Path) -> None:
    check_operator(load_registry([samples / "brightness.py"]).get("acme/brightness@v1"))
    check_operator(runpy.run_path(str(samples / "entrance.py"))["Crowd"])


def test_a_pipeline_in_python_runs(samples: Path, clip: Path, tmp_path: Path) -> None:
    try:
        summary = llamapipe.run(f"{samples / 'entrance.py'}:pipeline", clip, output=tmp_path / "out", max_frames=6)
    except AssetError as error:
        pytest.skip(f"no model: {error}")
    assert summary.outcome == "done"
    assert (tmp_path / "out" / "entrance.mp4").is_file()
    assert {line["stage"] for line in lines(tmp_path / "out" / "entrance.jsonl")} == {"follow", "door", "crowd"}


def test_results_come_in_a_loop(samples: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(samples / "watch_people.py"))["main"]
    try:
        assert main([str(clip), "--frames", "4"]) == 0  # nobody is on an even picture
    except AssetError as error:
        pytest.skip(f"no model: {error}")
    assert capsys.readouterr().out.endswith("0 people\n")


def test_the_media_list_names_clips_and_pipelines_that_there_are(samples: Path) -> None:
    import llamapipe_pipelines
    from llamapipe.inference import assets

    assert assets.__file__ is not None
    known = {entry["name"] for entry in yaml.safe_load((Path(assets.__file__).parent / "assets.yaml").read_text())}
    for entry in yaml.safe_load((samples / "media.yaml").read_text()):
        assert f"{entry['name']}.mp4" in known
        assert set(entry["try"]) <= set(llamapipe_pipelines.names())
