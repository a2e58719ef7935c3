"""``llamapipe tune``, and ``run`` with what it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMAPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)  # where a configuration goes that is given no name


def test_it_writes_a_file_that_run_takes_and_knows_the_video_the_next_time(
    cli: Cli, plain: Path, clip: Path, tmp_path: Path
) -> None:
    config, page = tmp_path / "small.tuned.yaml", tmp_path / "small.html"
    ended = cli("tune", plain, "-i", clip, "--config", config, "--html", page, "--budget-s", 60)
    assert ended.code == 0, ended.err
    assert "1 reference" in ended.err
    assert "predicted cost" in ended.out
    assert f"--config {config}" in ended.err
    assert "<svg" in page.read_text()
    assert config.read_text().startswith("# A tuned configuration of pipeline")
    ran = cli("run", plain, "-i", clip, "-o", tmp_path / "out", "--config", config, "--sink", "frames=pictures")
    assert ran.code == 0, ran.err
    told = cli("tune", plain, "-i", clip, "--config", config, "--budget-s", 60)
    assert "answered without a search: clip.mp4 was tuned for and is alike (distance 0.00)" in told.err
    assert "1 reference" not in told.err
    again = cli("tune", plain, "-i", clip, "--config", config, "--budget-s", 60, "--json")
    assert json.loads(again.out)["version"] == 1


def test_a_plan_with_a_configuration_is_of_what_was_tuned(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    config = tmp_path / "small.tuned.yaml"
    tuned = cli("tune", plain, "-i", clip, "--config", config, "--slo", "deadline=60s", "--budget-s", 60)
    assert tuned.code == 0, tuned.err
    asked = ("plan", plain, "-i", clip, "--config", config)
    view = json.loads(cli(*asked, "--json").out)
    assert (view["objective"], view["feasible"]) == ("deadline=60s", True)
    assert cli(*asked, "--slo", "deadline=1ms").code == 3
    ended = cli(*asked, "--min-accuracy", 0.95)
    assert (ended.code, "was tuned for none of at least 0.9" in ended.err) == (2, True)
    plain.write_text(plain.read_text().replace("version: 1", "version: 1\non_overload: degrade"))
    (note,) = json.loads(cli(*asked, "--json").out)["notes"]
    assert note.startswith("on_overload: degrade does nothing: a tuned configuration leaves one way to run each stage")
    config.write_text(config.read_text().replace("hardware: ", "hardware: old-"))
    assert "warning: the configuration was tuned on old-" in cli(*asked).err
    assert cli("plan", plain, "-i", clip, "--config", tmp_path / "none.yaml").code == 2
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_had_ends_with_3_and_leaves_no_file(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    config = tmp_path / "small.tuned.yaml"
    asked = ("-i", clip, "--slo", "deadline=1ms", "--budget-s", 60)
    ended = cli("tune", plain, *asked, "--config", config)
    assert ended.code == 3
    assert "error: none of 1 configurations" in ended.err
    assert "hint: the nearest that can be had: " in ended.err
    assert not config.exists()


def test_a_run_of_a_pipeline_with_one_configuration_tries_it_no_further(
    cli: Cli, plain: Path, clip: Path, tmp_path: Path
) -> None:
    ran = cli("run", plain, "-i", clip, "-o", tmp_path / "out", "--slo", "deadline=300s", "--tune", "--json")
    assert ran.code == 0, ran.err
    assert "has one configuration here: there is nothing to tune" in ran.err
    assert "reference" not in ran.err
    summary = json.loads(ran.out)
    assert summary["slo"]["objective"] == "deadline=300s"
    assert summary["slo"]["value"] > summary["wall_s"]  # what came before the run counts


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--knob", "resize.width"), "expected STAGE.KNOB=VALUE,VALUE"),
        (("--knob", "nobody.width=1,2"), "has no stage 'nobody'"),
        (("--min-accuracy", "1.5"), "expected a share from 0 to 1"),
        (("--budget-s", "0"), "expected more than 0"),
        (("--start", "5", "--end", "4"), "--end 4 is not after --start 5"),
        (("--start", "soon"), "--start 'soon': expected a time"),
        (("--slo", "soon"), "expected NAME=VALUE"),
        (("--knob", "resize.depth=1,2"), "--knob resize.depth=1: "),
        (("--knob", "resize.width=64", "--knob", "resize.width=32"), "--knob resize.width is given twice"),
        (("--labels", "none.txt"), "none.txt cannot be read"),
        (("--labels-stage", "resize"), "--labels-stage resize: there are no labels"),
        (("--reference", "resize.width=7"), "no such configuration can be had here"),
        (("--reference", "resize"), "--reference 'resize': expected STAGE.KNOB=VALUE"),
        (("--reference", "nobody.width=7"), "--reference nobody.width=7: pipeline "),
        (("--reference", "params.width=7"), "--reference 'params.width=7': expected STAGE.KNOB=VALUE"),
    ],
)
def test_bad_input_is_named(cli: Cli, plain: Path, clip: Path, more: tuple[str, ...], told: str) -> None:
    ended = cli("tune", plain, "-i", clip, *more)
    assert ended.code == 2
    assert told in ended.err


def test_labels_are_looked_at_before_anything_is_tried(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    labels = tmp_path / "gt.txt"
    labels.write_text("1,1,10,10,20,20,1,1,1\n")
    for more, told in (
        ((), "--labels: say how right is right enough"),
        (("--min-accuracy", "0.5", "--labels-stage", "nobody"), "--labels-stage nobody: no stage of "),
    ):
        ended = cli("tune", plain, "-i", clip, "--labels", labels, *more)
        assert (ended.code, told in ended.err) == (2, True)


def test_a_configuration_and_a_tuning_are_not_both_taken(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    config = tmp_path / "x.yaml"
    config.write_text("version: 1\nvalues: {}\n")
    assert cli("run", plain, "-i", clip, "--config", config).code == 2
    ended = cli("run", plain, "-i", clip, "--config", tmp_path / "none.yaml")
    assert (ended.code, "cannot be read" in ended.err) == (2, True)


@pytest.mark.parametrize("flag", ["--config", "--html"])
def test_no_other_file_is_replaced(cli: Cli, plain: Path, clip: Path, tmp_path: Path, flag: str) -> None:
    """A slip for the video must cost neither the video nor a search."""
    video = tmp_path / "street.mp4"
    video.write_bytes(b"\x00\x00\x00 ftypisom")
    ended = cli("tune", plain, "-i", clip, flag, video)
    assert ended.code == 2
    assert "street.mp4 is there already, and is no " in ended.err
    assert "hint: name another file, or remove that one" in ended.err
    assert "1 reference" not in ended.err
    assert video.read_bytes() == b"\x00\x00\x00 ftypisom"


def test_where_nothing_can_be_written_is_told_before_the_search(
    cli: Cli, plain: Path, clip: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page"
    for more, code, told in (
        (("--config", tmp_path / "none" / "a.yaml"), 1, "there is no folder"),
        (("--html", tmp_path / "none" / "a.html"), 1, "there is no folder"),
        (("--config", page, "--html", page), 2, "both go to"),
    ):
        ended = cli("tune", plain, "-i", clip, *more)
        assert (ended.code, told in ended.err, "1 reference" in ended.err) == (code, True, False)
    assert not page.exists()
