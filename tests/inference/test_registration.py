"""A network is registered once and then a model like any other; one that could not work is refused at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamapipe.catalog import Accuracy, AccuracyKind, Model
from llamapipe.data import Image
from llamapipe.errors import BackendError, LlamapipeError, UsageError
from llamapipe.inference import (
    MODELS,
    AssetStore,
    CatalogueStore,
    choose_variant,
    find_models,
    load_predictor,
    local_file,
    model_named,
    parse_accuracy,
    register,
    use_catalogue,
)
from tests.inference import networks

PICTURE = Image.from_bgr(np.zeros((64, 128, 3), np.uint8))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogueStore]:
    use_catalogue(tmp_path / "cache")
    with CatalogueStore(tmp_path / "cache", hardware="here") as store:
        yield store
    use_catalogue(Path("/nowhere"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A YOLOX of one label that sees one box in every picture."""
    answer = np.zeros((1, 84, 6), np.float32)
    answer[0, 0] = [1, 1, 0, 0, 1, 0.8]
    return networks.always(tmp_path / "people.onnx", answer, size=(64, 64))


def registered(store: CatalogueStore, path: Any, **more: Any) -> Model:
    return register(path, store=store, **{"task": "person-detection", "decoder": "yolox", "labels": ["person"], **more})


def test_it_is_found_by_its_name_and_its_task(store: CatalogueStore, path: Path) -> None:
    model = registered(store, path, accuracy=[parse_accuracy("coco_ap=0.2")], licence="MIT")
    path.unlink()
    assert model.name == "people"
    assert model_named("people") == model
    assert find_models("person-detection")[-1] == model
    assert find_models("person-detection")[0] == MODELS["pedestrian-ssdlite"]
    assert local_file("people") == store.kept_models()[0].file
    assert model.input_sizes == ((64, 64),)
    assert model.accuracy == (Accuracy("coco_ap", 0.2, "COCO val2017", AccuracyKind.PUBLISHED),)


def test_it_predicts(store: CatalogueStore, path: Path, tmp_path: Path) -> None:
    registered(store, path, name="mine")
    predictor = load_predictor(choose_variant(model="mine"), assets=AssetStore(tmp_path / "cache", env={}))
    assert [box["label"] for box in predictor.predict([PICTURE])[0]] == ["person"]
    predictor.close()


def test_another_process_finds_it(store: CatalogueStore, path: Path, tmp_path: Path) -> None:
    registered(store, path, name="mine")
    code = "from llamapipe.inference import model_named; print(model_named('mine').decoder)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"LLAMAPIPE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "yolox\n"


def test_what_another_process_registers_is_found_without_a_restart(
    store: CatalogueStore, path: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="unknown model 'later'"):
        model_named("later")
    code = (
        "import sys; from pathlib import Path; from llamapipe.inference import CatalogueStore, register\n"
        "with CatalogueStore(Path(sys.argv[1])) as store: register(sys.argv[2], store=store, task='person-detection',"
        " decoder='yolox', labels=['person'], name='later')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "cache"), str(path)], check=True)
    assert model_named("later").name == "later"


def test_the_same_again_is_the_same(store: CatalogueStore, path: Path) -> None:
    assert registered(store, path) == registered(store, path)
    assert len(store.models()) == 1


def test_a_new_task_may_be_named(store: CatalogueStore, path: Path) -> None:
    model = registered(store, path, task=["helmet-detection", "person-detection"])
    assert find_models("helmet-detection") == [model]


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        ({"task": "person-detecton"}, "unknown task", "did you mean person-detection?"),
        ({"task": "People!"}, "small letters", ""),
        ({"task": ()}, "no task is named", ""),
        ({"decoder": None}, "expected a decoder", "for example yolox"),
        ({"decoder": "yolo8"}, "got yolo8", "did you mean yolov8?"),
        ({"decoder": "ssd"}, "has no output 'detection_boxes'", "name the decoder"),
        ({"decoder": "fastestdet"}, "the network gives 1x84x6", "its outputs look like yolox"),
        ({"labels": None}, "labels are missing", "one a line"),
        ({"labels": ["person", "car"]}, "the network has 1 classes, got 2 labels", "in the network's order"),
        ({"labels": ["person", "person"]}, "'person' is there twice", ""),
        ({"labels": ["dog"]}, "task person-detection is about person", ""),
        ({"name": "yolox-nano"}, "taken by a ready model", "another name"),
        ({"name": "a/b"}, "expected letters", ""),
        ({"name": "net.onnx"}, "no file's suffix", ""),
        ({"input_size": 100}, "100x100", ""),
    ],
)
def test_what_does_not_fit_is_said_at_once(
    asked: dict[str, Any], message: str, hint: str, store: CatalogueStore, path: Path
) -> None:
    with pytest.raises(LlamapipeError) as caught:
        registered(store, path, **asked)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert store.models() == []


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("none.onnx", None, "does not exist"),
        ("net.onnx", b"", "is empty"),
        ("net.onnx", b"no network", "is no ONNX network"),
        ("net.pb", b"no network", "cannot be read"),
        ("net.tflite", b"no network", "cannot be read"),
        ("net.xml", b"<net/>", "its weights are missing"),
        ("net.pth", b"weights", "expected .onnx"),
        ("net.pt2", b"none", "does not say its input size"),
    ],
)
def test_files_that_are_no_networks_are_refused(
    name: str, data: bytes | None, message: str, store: CatalogueStore, tmp_path: Path
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=message):
        registered(store, tmp_path / name)
    assert store.models() == []


def test_a_file_that_was_cut_short_is_refused(store: CatalogueStore, path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(LlamapipeError, match=r"is no ONNX network|cannot be read|no library here runs"):
        registered(store, path)
    assert store.models() == []


def test_a_network_that_gives_no_numbers_is_refused(store: CatalogueStore, tmp_path: Path) -> None:
    path = networks.always(tmp_path / "broken.onnx", np.full((1, 84, 6), np.nan, np.float32), size=(64, 64))
    with pytest.raises(BackendError, match="not finite"):
        registered(store, path)


def test_weights_beside_the_network_are_kept_or_asked_for(store: CatalogueStore, path: Path, tmp_path: Path) -> None:
    import onnx

    for name, weights in (("apart.onnx", "apart.onnx.data"), ("odd.onnx", "odd.weights")):
        apart: dict[str, Any] = {"save_as_external_data": True, "location": weights, "size_threshold": 0}
        onnx.save(onnx.load(str(path)), str(tmp_path / name), **apart)
    registered(store, tmp_path / "apart.onnx")
    with pytest.raises(UsageError, match=r"has weights in odd\.weights"):
        registered(store, tmp_path / "odd.onnx")
    kept = store.kept_model("apart")
    assert kept is not None
    assert kept.file.with_name("apart.onnx.data").is_file()


def test_the_name_of_another_network_is_taken(store: CatalogueStore, path: Path, tmp_path: Path) -> None:
    registered(store, path, name="mine")
    other = networks.always(tmp_path / "other.onnx", np.zeros((1, 84, 6), np.float32), size=(64, 64))
    with pytest.raises(UsageError, match="model name mine is taken") as caught:
        registered(store, other, name="mine")
    assert "llamapipe models remove mine" in str(caught.value.hint)


def test_an_openvino_network_is_its_two_files(store: CatalogueStore, path: Path, tmp_path: Path) -> None:
    from llamapipe.inference.backends.untold import openvino

    openvino().save_model(openvino().Core().read_model(str(path)), str(tmp_path / "ir.xml"))
    assert registered(store, tmp_path / "ir.xml").format == "openvino-ir"
    kept = store.kept_model("ir")
    assert kept is not None
    assert kept.file.with_suffix(".bin").is_file()


def test_where_nothing_runs_it_that_is_said(
    store: CatalogueStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "net.pt2").write_bytes(b"x")
    with pytest.raises(BackendError, match=r"no library here runs net.pt2: torch is not available") as caught:
        registered(store, tmp_path / "net.pt2", input_size=64)
    assert caught.value.hint == "pip install 'llamapipe[torch]'"
    for source in ("torchvision:resnet18", object()):
        with pytest.raises(BackendError, match="torch is missing"):
            registered(store, source, name="a", input_size=64)


def test_an_engine_needs_its_gpu(store: CatalogueStore, tmp_path: Path) -> None:
    (tmp_path / "net.engine").write_bytes(b"x")
    with pytest.raises(BackendError, match=r"no library here runs net.engine: tensorrt"):
        registered(store, tmp_path / "net.engine", input_size=64)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("coco_ap=0.258", ("coco_ap", 0.258, "COCO val2017")),
        ("ap=0.5@my street", ("ap", 0.5, "my street")),
        ("ap=0.5", ("ap", 0.5, "unnamed")),
    ],
)
def test_accuracy_is_a_metric_a_value_and_a_data_set(text: str, found: tuple[str, float, str]) -> None:
    assert parse_accuracy(text) == Accuracy(*found, AccuracyKind.PUBLISHED)


@pytest.mark.parametrize(("text", "hint"), [("0.3", ""), ("ap=", ""), ("ap=25.8", "write ap=0.258"), ("ap=-1", "")])
def test_an_accuracy_that_is_none_is_refused(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_accuracy(text)
    assert hint in str(caught.value.hint)


@pytest.mark.assets
@pytest.mark.parametrize(("file", "decoder"), [("yolox_nano.onnx", "yolox"), ("FastestDet.onnx", "fastestdet")])
def test_real_networks_are_registered_and_told_apart(
    file: str, decoder: str, store: CatalogueStore, assets: Path
) -> None:
    asked: dict[str, Any] = {"labels": str(assets / "coco_classes.txt"), "task": "person-detection"}
    model = registered(store, assets / file, decoder=decoder, **asked)
    assert len(model.labels) == 80
    other = {"yolox": "fastestdet", "fastestdet": "yolox"}[decoder]
    with pytest.raises(UsageError) as caught:
        registered(store, assets / file, decoder=other, name="other", **asked)
    assert decoder in str(caught.value.hint)
    with pytest.raises(UsageError, match="the network has 80 classes, got 1 label"):
        registered(store, assets / file, decoder=decoder, name="other")
