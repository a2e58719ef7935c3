"""The first variant that honours everything asked for; never another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamapipe.clock import system_env
from llamapipe.errors import UsageError
from llamapipe.inference import cache_root, choose_variant, required_assets, use_catalogue
from tests.inference import networks


@pytest.fixture(autouse=True)
def _nothing_built(tmp_path: Path) -> Iterator[None]:
    use_catalogue(tmp_path)
    yield
    use_catalogue(cache_root(system_env()))


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"task": "person-detection"}, "pedestrian-ssdlite/openvino/cpu/fp32/300x300/t1"),
        ({"task": "face-detection"}, "blazeface-full-sparse/openvino/cpu/fp32/192x192/t1"),
        ({"task": "object-detection"}, "yolox-nano/onnxruntime/cpu/fp32/416x416/t1"),
        ({"model": "yolox-nano", "input_size": 640}, "yolox-nano/openvino/cpu/fp32/640x640/t1"),
        ({"model": "yolox-nano", "batch": 4}, "yolox-nano/openvino/cpu/fp32/416x416/t1"),
        (
            {"model": "yolox-nano", "backend": "onnxruntime", "input_size": 640, "batch": 4},
            "yolox-nano/onnxruntime/cpu/fp32/640x640/t1",
        ),
        ({"model": "yolox-nano", "threads": 2}, "yolox-nano/onnxruntime/cpu/fp32/416x416/t2"),
        ({"model": "mtcnn"}, "mtcnn/onnxruntime/cpu/fp32/640x640/t1"),
        ({"model": "mtcnn", "input_size": [320, 320], "backend": "openvino"}, "mtcnn/openvino/cpu/fp32/320x320/t1"),
    ],
)
def test_what_is_left_out_is_chosen(asked: dict[str, Any], name: str) -> None:
    assert choose_variant(**asked).name == name


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "neither a task nor a model"),
        ({"task": "person-detecton"}, "did you mean person-detection"),
        ({"model": "yolox-nan"}, "did you mean yolox-nano"),
        ({"model": "yolox-nano", "backend": "openvno"}, "did you mean openvino"),
        ({"model": "yolox-nano", "task": "face-detection"}, "does object-detection"),
        ({"model": "yolox-nano", "input_size": 417}, "asked was 417x417"),
        ({"model": "yolox-nano", "backend": "onnxruntime", "precision": "int8"}, "llamapipe models build yolox-nano"),
        ({"model": "mtcnn", "precision": "int8"}, "for single networks only"),
        ({"model": "yolox-nano", "backend": "onnxruntime", "precision": "bf16"}, "asked was bf16"),
        ({"model": "blazeface-back", "backend": "onnxruntime"}, "the model is tflite"),
        ({"model": "yolox-nano", "device": "cpu:7"}, "asked was cpu:7"),
        ({"model": "mtcnn", "batch": 2}, "one picture at a time"),
        ({"model": "nowhere.onnx", "decoder": "yolox"}, "does not exist"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_what_can(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_variant(**asked)
    assert message in str(caught.value)


def test_backends_that_could_never_read_the_model_are_not_in_the_error() -> None:
    with pytest.raises(UsageError) as caught:
        choose_variant(model="pedestrian-ssdlite", precision="int8")
    assert "torch" not in str(caught.value)


def test_a_cascade_needs_all_its_files() -> None:
    assert required_assets(choose_variant(model="mtcnn")) == ("pnet.onnx", "rnet.onnx", "onet.onnx")


def test_a_users_network_is_chosen_by_its_path(tmp_path: Path) -> None:
    path = networks.cell_means(tmp_path / "mine.onnx", 1)
    variant = choose_variant(model=str(path), decoder="yolov8", labels=["bolt"])
    assert (variant.backend, variant.input_size) == ("onnxruntime", (32, 64))
    assert required_assets(variant) == ()
