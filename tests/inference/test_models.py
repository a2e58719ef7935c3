"""The catalogue, and the user's own networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamapipe.data import Classes, Image
from llamapipe.errors import DecoderError, UsageError
from llamapipe.inference import DECODERS, MODELS, TASKS, AssetStore, choose_variant, find_models, label_table
from llamapipe.inference import load_predictor as load
from llamapipe.inference.models import COCO, register_file
from tests.inference import networks

PICTURE = Image.from_bgr(np.zeros((64, 128, 3), np.uint8))


def test_the_models_are_these() -> None:
    """Pipelines name them: a name that is gone breaks somebody's file."""
    assert set(MODELS) == {
        "pedestrian-ssdlite",
        "yolox-nano",
        "fastestdet",
        "blazeface-short",
        "blazeface-back",
        "blazeface-full",
        "blazeface-full-sparse",
        "mtcnn",
    }


def test_every_model_has_a_task_a_decoder_labels_and_a_licence() -> None:
    for model in MODELS.values():
        assert set(model.tasks) <= set(TASKS)
        assert model.decoder in {*DECODERS, "mtcnn"}
        assert model.labels
        assert model.licence
        assert model.files
    assert len(COCO) == len(set(COCO)) == 80
    assert all(find_models(task) for task in TASKS)


def test_labels_are_a_list_a_file_or_coco(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("bolt\n\nnut\n")
    assert label_table(str(tmp_path / "labels.txt")) == ("bolt", "nut")
    assert label_table(["a", "b"]) == ("a", "b")
    assert label_table("coco") == COCO
    assert label_table("person") == ("person",)
    assert label_table(None) == ()
    with pytest.raises(UsageError, match="cannot be read"):
        label_table(str(tmp_path / "none.txt"))
    with pytest.raises(UsageError, match="list of texts"):
        label_table({"a": 1})


@pytest.mark.parametrize(
    ("file", "asked", "message"),
    [
        ("mine.onnx", {}, "expected a decoder"),
        ("mine.onnx", {"decoder": "yolo"}, "got yolo"),
        ("mine.onnx", {"decoder": "yolox", "labels": ()}, "labels are missing"),
        ("mine.txt", {"decoder": "yolox"}, "expected .onnx"),
        ("mine.pt2", {"decoder": "yolox"}, "does not say its input size"),
        ("mine.onnx", {"decoder": "yolox"}, "cannot be read"),
    ],
)
def test_what_a_users_network_lacks_is_said(file: str, asked: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(b"none")
    with pytest.raises(UsageError) as caught:
        register_file(tmp_path / file, **{"decoder": None, "labels": ("a",), "input_size": None, **asked})
    assert message in str(caught.value)


def predict(path: Path, decoder: str, labels: list[str], tmp_path: Path, **more: Any) -> Any:
    variant = choose_variant(model=str(path), decoder=decoder, labels=labels)
    predictor = load(variant, assets=AssetStore(tmp_path, env={}), **more)
    try:
        return predictor.predict([PICTURE])[0]
    finally:
        predictor.close()


def test_a_users_yolov8_finds_what_its_outputs_say(tmp_path: Path) -> None:
    """Centred letterbox: 128x64 into 64x64 is scale 0.5, 16 rows of padding above."""
    answer = np.zeros((1, 6, 84), np.float32)
    answer[0, :, 3] = [32, 32, 20, 10, 0.1, 0.9]
    path = networks.always(tmp_path / "v8.onnx", answer, size=(64, 64))
    assert list(predict(path, "yolov8", ["bolt", "nut"], tmp_path)) == [
        {"box": [44, 22, 84, 42], "label": "nut", "score": pytest.approx(0.9)}
    ]


def test_a_users_yolox_finds_what_its_outputs_say(tmp_path: Path) -> None:
    answer = np.zeros((1, 84, 6), np.float32)
    answer[0, 0] = [1, 1, 0, 0, 1, 0.8]
    path = networks.always(tmp_path / "yolox.onnx", answer, size=(64, 64))
    assert list(predict(path, "yolox", ["bolt"], tmp_path)) == [
        {"box": [8, 8, 24, 24], "label": "bolt", "score": pytest.approx(0.8)}
    ]


def test_a_users_classifier_names_the_whole_picture(tmp_path: Path) -> None:
    path = networks.always(tmp_path / "class.onnx", np.array([[0.1, 0.7, 0.2]], np.float32))
    found = predict(path, "classifier", ["a", "b", "c"], tmp_path)
    assert isinstance(found, Classes)
    assert list(found) == [{"box": [0, 0, 128, 64], "label": "b", "score": pytest.approx(0.7)}]


@pytest.mark.parametrize("decoder", ["yolox", "yolov8", "fastestdet", "classifier"])
def test_a_decoder_that_is_not_the_networks_is_refused_before_any_picture(decoder: str, tmp_path: Path) -> None:
    path = networks.always(tmp_path / "other.onnx", np.zeros((1, 5, 7), np.float32), size=(64, 64))
    with pytest.raises(DecoderError, match=f"decoder {decoder}: expected .*the network gives 1x5x7"):
        predict(path, decoder, ["a"], tmp_path)


def test_labels_that_the_model_does_not_know_are_refused(tmp_path: Path) -> None:
    path = networks.always(tmp_path / "class.onnx", np.zeros((1, 2), np.float32))
    with pytest.raises(UsageError, match="knows no label 'z'"):
        load(
            choose_variant(model=str(path), decoder="classifier", labels=["a", "b"]),
            labels=["z"],
            assets=AssetStore(tmp_path, env={}),
        )
