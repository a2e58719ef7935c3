"""ops, models, cache, doctor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamapipe.inference import MODELS
from llamapipe_operators import OPERATORS
from tests.cli.conftest import Cli

MINE = '''\
from llamapipe.data import Image
from llamapipe.operator import operator

@operator("acme/same@v1", inputs={"frames": "frames"}, outputs={"frames": "frames"})
def same(frames: Image, *, times: int = 1) -> Image:
    """Do nothing."""
    return frames
'''


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("LLAMAPIPE_CACHE", str(folder))
    monkeypatch.delenv("LLAMAPIPE_ASSET_MIRROR", raising=False)
    return folder


def test_operators_are_listed_one_a_line(cli: Cli) -> None:
    lines = cli("ops", "list").out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == sorted(op.manifest.type for op in OPERATORS)


def test_operators_are_data_under_json(cli: Cli) -> None:
    found = {entry["type"]: entry for entry in json.loads(cli("ops", "list", "--json").out)}
    assert found["llamapipe/crop@v1"]["fan_out"]
    assert found["llamapipe/blur@v1"]["hides"]
    assert found["llamapipe/sample@v1"]["params"]["fps"]["required"]


@pytest.mark.parametrize("operator", [op.manifest.type for op in OPERATORS])
def test_every_operator_is_shown_by_either_name(cli: Cli, operator: str) -> None:
    ended = cli("ops", "show", operator)
    assert ended.code == 0
    assert cli("ops", "show", operator.split("/")[1].split("@")[0]).out == ended.out


def test_operators_of_a_file_are_there_too(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MINE, encoding="utf-8")
    assert "acme/same@v1" in cli("ops", "list", "--ops", path).out
    assert "type: acme/same@v1" in cli("ops", "show", "same", "--ops", path).out


def test_an_operator_file_that_is_broken_is_one_error(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import nothing_of_the_kind\n", encoding="utf-8")
    ended = cli("ops", "list", "--ops", path)
    assert ended.code == 2
    assert "nothing_of_the_kind" in ended.err
    assert "Traceback" not in ended.err


def test_models_are_listed_and_parted_by_task(cli: Cli, cache: Path) -> None:
    assert [line.split()[0] for line in cli("models", "list").out.splitlines()[1:]] == list(MODELS)
    faces = json.loads(cli("models", "list", "--task", "face-detection", "--json").out)
    assert [model["name"] for model in faces] == [m.name for m in MODELS.values() if "face-detection" in m.tasks]
    assert all(file["path"] is None and len(file["sha256"]) == 64 for model in faces for file in model["files"])


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_shown_with_origin_and_licence(cli: Cli, cache: Path, name: str) -> None:
    out = cli("models", "show", name).out
    assert MODELS[name].licence in out
    assert " from " in out
    assert json.loads(cli("models", "show", name, "--json").out)["name"] == name


def test_pull_wants_a_name(cli: Cli, cache: Path) -> None:
    ended = cli("models", "pull")
    assert ended.code == 2
    assert "--all" in ended.err


def test_pull_takes_from_the_mirror_and_refuses_another_file(
    cli: Cli, cache: Path, assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMAPIPE_ASSET_MIRROR", str(assets))
    assert cli("models", "pull", "yolox-nano").code == 0
    sizes = json.loads(cli("cache", "size", "--json").out)
    assert list(sizes["files"]) == ["yolox_nano.onnx"]
    assert cli("cache", "clear").code == 2  # nobody to be asked
    assert cli("cache", "clear", "--yes").code == 0
    assert json.loads(cli("cache", "size", "--json").out)["total"] == 0

    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "yolox_nano.onnx").write_bytes(b"something else")
    monkeypatch.setenv("LLAMAPIPE_ASSET_MIRROR", str(mirror))
    ended = cli("models", "pull", "yolox-nano")
    assert ended.code == 1
    assert "sha256" in ended.err
    assert json.loads(cli("cache", "size", "--json").out)["total"] == 0


def test_pull_fetches_what_it_can_and_names_each_that_it_cannot(
    cli: Cli, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("yolox_nano.onnx", "FastestDet.onnx"):
        (tmp_path / name).write_bytes(b"something else")
    monkeypatch.setenv("LLAMAPIPE_ASSET_MIRROR", str(tmp_path))
    ended = cli("models", "pull", "yolox-nano", "fastestdet", "-q")
    assert ended.code == 1
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert [line.split()[1] for line in errors] == ["yolox_nano.onnx", "FastestDet.onnx"]


def test_clearing_frees_what_was_fetched_and_nothing_else(
    cli: Cli, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "assets" / "x").mkdir(parents=True)
    (cache / "assets" / "x" / "model").write_bytes(bytes(3_000_000))
    (cache / "mine.txt").write_bytes(bytes(2_000_000))
    assert cli("cache", "clear", "--yes").err == "freed 3.0 MB\n"
    assert [file.name for file in cache.iterdir()] == ["mine.txt"]


def test_a_cache_that_cannot_be_made_is_one_error(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLAMAPIPE_CACHE", str(tmp_path / "file" / "cache"))
    ended = cli("models", "pull", "yolox-nano")
    assert ended.code == 1
    assert "LLAMAPIPE_CACHE" in ended.err


def test_the_doctor_finds_this_machine_able(cli: Cli, cache: Path) -> None:
    ended = cli("doctor", "--json")
    found = {entry["name"]: entry for entry in json.loads(ended.out)}
    assert (ended.code, ended.err) == (0, "")
    assert {"python", "machine", "libx264", "cache", "backend openvino", "backend onnxruntime"} <= set(found)
    assert all(entry["mend"] for entry in found.values() if entry["state"] != "ok")


def test_the_doctor_names_what_is_broken_and_exits_1(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLAMAPIPE_CACHE", str(tmp_path / "file"))
    ended = cli("doctor")
    assert ended.code == 1
    assert "set LLAMAPIPE_CACHE" in next(line for line in ended.out.splitlines() if line.startswith("cache"))
