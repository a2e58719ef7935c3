"""query and load: real models, measured on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from llamapipe.catalog import AccuracyFigure, BatchPoint, Profile, Variant
from llamapipe.clock import system_env
from llamapipe.inference import open_catalogue
from tests.cli.conftest import Cli

FAST = Variant("fastestdet", "onnxruntime", input_size=(352, 352))
SURE = Variant("yolox-nano", "onnxruntime", input_size=(416, 416))


@pytest.fixture
def street(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture of people, and a catalogue with two variants."""
    monkeypatch.setenv("LLAMAPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LLAMAPIPE_ASSET_MIRROR", str(assets))
    with open_catalogue(system_env()) as store:
        for variant, seconds, agreement, published in ((FAST, 0.02, 0.9, None), (SURE, 0.06, 0.97, 0.258)):
            figures = [AccuracyFigure("f1", agreement, "clip", "agreement")]
            if published is not None:
                figures.append(AccuracyFigure("coco_ap", published, "COCO val2017", "published"))
            store.put(
                Profile(
                    variant,
                    store.hardware,
                    load_s=0.5,
                    peak_memory_bytes=60_000_000,
                    points=(BatchPoint(1, seconds, 1.2 * seconds, seconds, 20, 0.05),),
                    accuracy=tuple(figures),
                    tasks=("person-detection", "object-detection"),
                )
            )
    video = cv2.VideoCapture(str(assets / "TUD-Stadtmitte.mp4"))
    path = tmp_path / "street.png"
    cv2.imwrite(str(path), video.read()[1])
    return path


def test_a_query_names_who_answered_what_it_took_and_why(cli: Cli, street: Path) -> None:
    ended = cli(
        "query", street, "--task", "person-detection", "--latency-ms", 500, "--accuracy", "coco_ap>=0.25", "--json"
    )
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["variant"] == SURE.name
    assert 0 < found["latency_ms"] < 5000
    assert found["cost_core_s"] == pytest.approx(0.06)
    assert found["accuracy"] == {"metric": "coco_ap", "value": 0.258, "kind": "published", "dataset": "COCO val2017"}
    assert "cheapest" in found["why"]
    boxes = found["images"][0]["boxes"]
    assert {box["label"] for box in boxes} == {"person"}


def test_a_query_is_a_table_for_people_and_says_who_on_stderr(cli: Cli, street: Path) -> None:
    ended = cli("query", street, "--task", "person-detection")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[0].split() == ["image", "label", "score", "box"]
    assert FAST.name in ended.err


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--accuracy", "coco_ap>=0.5"), "the highest coco_ap is 0.258"),
        (("--accuracy", "0.99"), "0.97"),
        (("--latency-ms", "1"), "ms"),
        (("--max-cost", "0.001"), "0.02"),
    ],
)
def test_what_cannot_be_had_ends_with_3_and_the_closest(
    cli: Cli, street: Path, asked: tuple[str, str], told: str
) -> None:
    ended = cli("query", street, "--task", "person-detection", *asked)
    assert ended.code == 3
    assert told in ended.err
    assert "hint: the closest that can be had: " in ended.err


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ((), "names one of task, model and variant"),
        (("--task", "person-detection", "--model", "yolox-nano"), "names one of task, model and variant"),
        (("--task", "person-detecton"), "did you mean person-detection"),
        (("--task", "person-detection", "--accuracy", "good"), "expected a number from 0 to 1"),
        (("--task", "person-detection", "--latency-ms", "0"), "above 0"),
    ],
)
def test_a_query_that_cannot_be_is_bad_usage(cli: Cli, street: Path, asked: tuple[str, ...], told: str) -> None:
    ended = cli("query", street, *asked)
    assert ended.code == 2
    assert told in ended.err


def test_a_task_that_nobody_has_measured_says_how_to(cli: Cli, street: Path) -> None:
    ended = cli("query", street, "--task", "face-detection")
    assert ended.code == 3
    assert "llamapipe models profile --task face-detection" in ended.err


@pytest.mark.parametrize(
    ("variant", "told"),
    [
        ("yolox-nano/openvino/cpu/bf16/640x640/t1", "llamapipe models profile yolox-nano"),
        (SURE.name.replace("416x416", "416x417"), f"did you mean {SURE.name}?"),
        ("foo", "expected MODEL/BACKEND/DEVICE/PRECISION/HEIGHTxWIDTH/tTHREADS"),
    ],
)
def test_a_variant_that_nobody_has_measured_says_how_to(cli: Cli, street: Path, variant: str, told: str) -> None:
    ended = cli("query", street, "--variant", variant)
    assert ended.code == 3
    assert f"nothing serves variant {variant}" in ended.err
    assert told in ended.err


def test_a_picture_that_is_none_is_named(cli: Cli, street: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    ended = cli("query", broken, "--task", "person-detection")
    assert ended.code == 1
    assert str(broken) in ended.err


def test_a_folder_is_gone_through_offline_a_line_a_picture(cli: Cli, street: Path) -> None:
    ended = cli("query", "--offline", "--task", "person-detection", "--json", street.parent)
    assert ended.code == 0, ended.err
    line = json.loads(ended.out)
    assert (line["source"], line["variant"], line["error"]) == (str(street), FAST.name, None)


def test_a_folder_without_pictures_names_what_is_taken(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    ended = cli("query", "--offline", "--task", "person-detection", tmp_path)
    assert ended.code == 2
    assert f"folder {tmp_path} holds no picture and no video" in ended.err
    assert "*.png" in ended.err


def test_a_load_says_how_many_were_in_time_and_what_they_cost(cli: Cli, street: Path) -> None:
    ended = cli(
        *("load", "-i", street.parent, "--task", "person-detection", "--latency-ms", 1000, "--arrivals", "constant"),
        *("--rate", 10, "--duration", 2, "--workers", "thread", "--json"),
    )
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert report["num_sent"] == 20
    assert report["num_in_time"] + report["num_late"] + sum(report["refused"].values()) == 20
    assert report["attainment"] > 0.8
    assert report["reserved_core_s"] > 1
    assert sum(second["num_sent"] for second in report["seconds"]) == 20
