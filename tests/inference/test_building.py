"""Variants of a model: which there could be, and which of them pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from llamapipe.catalog import BatchPoint, Model, Profile, ProfileState, Variant
from llamapipe.clock import system_env
from llamapipe.data import Boxes, Image
from llamapipe.errors import BackendError
from llamapipe.inference import AssetStore, CatalogueStore, building, cache_root, checking, model_named, use_catalogue
from llamapipe.inference.backends.contract import BackendStatus
from llamapipe.inference.building import build_variants, possible_variants
from llamapipe.inference.built import NetworkFile
from llamapipe.inference.catalogue import digest_of
from llamapipe.inference.checking import Pictures

PICTURES = Pictures("clip", [Image.from_bgr(np.zeros((64, 64, 3), np.uint8))] * 16)


def people(*lefts: float) -> Boxes:
    xyxy = np.array([[left, 0, left + 10, 10] for left in lefts], np.float32)
    return Boxes(xyxy, np.full(len(lefts), 0.9, np.float32), np.zeros(len(lefts), np.int32), ("person",))


class World:
    """In place of libraries: what each variant finds. Right boxes are at 0; an int8 network finds ``int8[parts]``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.found: dict[tuple[str, str], Boxes] = {}  # (backend, precision); else right
        self.int8: list[Boxes | None] = [people(0)]  # by how much is left in float; None: cannot be built
        self.broken: set[tuple[str, str]] = set()
        self.quantised: list[int] = []
        self.interrupted = False  # with Ctrl-C, while it quantises
        self.num_loaded = 0

    def load(self, variant: Variant, *, file: NetworkFile | None = None, **_: Any) -> World._Loaded:
        key = (variant.backend, variant.precision)
        self.num_loaded += 1
        if key in self.broken:
            raise BackendError("out of memory")
        if variant.precision == "int8":
            path = file.path if file is not None else self._kept(variant)
            boxes = self.int8[building.FLOAT_PARTS.index(path.read_text())]
            assert boxes is not None
            return World._Loaded(boxes)
        return World._Loaded(self.found.get(key, people(0)))

    def _kept(self, variant: Variant) -> Path:
        with CatalogueStore(self.root, hardware="here") as store:
            path = store.artifact(variant.model, f"{variant.backend}/int8/352x352")
        assert path is not None
        return path

    def quantise(self, source: Path, target: Path, tensors: Any, *, in_float: str) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.quantised.append(building.FLOAT_PARTS.index(in_float))
        if self.quantised[-1] >= len(self.int8) or self.int8[self.quantised[-1]] is None:
            raise BackendError("an operation is not known")
        target.write_text(in_float)

    class _Loaded:
        def __init__(self, boxes: Boxes) -> None:
            self.boxes = boxes

        def predict(self, images: Any) -> list[Boxes]:
            return [self.boxes] * len(images)

        def close(self) -> None:
            pass


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    monkeypatch.setattr(checking, "load_predictor", found.load)
    monkeypatch.setattr(building, "quantise_onnx", found.quantise)
    monkeypatch.setattr(building, "nncf_missing", lambda: "nncf is not installed")
    monkeypatch.setattr(building, "rewritten", lambda *_: tmp_path / "rewritten.onnx")
    monkeypatch.setattr(building, "rewrite", lambda base, path, **_: path.write_bytes(base.read_bytes()))
    use_catalogue(tmp_path)
    yield found
    use_catalogue(cache_root(system_env()))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogueStore]:
    with CatalogueStore(tmp_path, hardware="here") as found:
        yield found


def build(store: CatalogueStore, model: Model | None = None, **more: Any) -> dict[str, Any]:
    """By ``backend/precision/side``."""
    model = model if model is not None else model_named("fastestdet")
    given: dict[str, Any] = {"calibration": [], "pictures": PICTURES, **more}
    assets = AssetStore(store.folder.parent, env={})
    result = build_variants([model], store=store, assets=assets, **given)
    return {f"{b.variant.backend}/{b.variant.precision}/{b.variant.input_size[0]}": b for b in result.built}


def test_what_cannot_be_tried_is_said_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    away = BackendStatus("tensorrt", False, reason="No module named 'tensorrt'", hint="install it")
    monkeypatch.setattr(type(building.BACKENDS["tensorrt"]), "status", lambda _: away)
    monkeypatch.setattr(building, "nncf_missing", lambda: "nncf is not installed: pip install 'llamapipe[nncf]'")
    found, skipped = possible_variants(model_named("pedestrian-ssdlite"))
    assert {variant.backend for variant in found} == {"openvino"}
    assert {variant.precision for variant in found} == {"fp32"}
    told = {entry.what: entry.reason for entry in possible_variants(model_named("yolox-nano"))[1] + skipped}
    assert told["yolox-nano/tensorrt"] == "No module named 'tensorrt' (install it)"
    assert "llamapipe[nncf]" in told["pedestrian-ssdlite/openvino/cpu/int8"]


def test_every_input_size_is_a_variant() -> None:
    model = model_named("yolox-nano")
    found, _ = possible_variants(model)
    sizes = {v.input_size for v in found if (v.backend, v.precision) == ("onnxruntime", "fp32")}
    assert sizes == set(model.input_sizes)


def test_a_cascade_is_not_quantised() -> None:
    found, skipped = possible_variants(model_named("mtcnn"))
    assert "int8" not in {variant.precision for variant in found}
    assert any("depend on each other" in entry.reason for entry in skipped)


def test_what_finds_the_same_is_ready(world: World, store: CatalogueStore) -> None:
    found = build(store, max_threads=2)
    assert found["onnxruntime/int8/352"].state == ProfileState.READY
    assert found["onnxruntime/int8/352"].note == "the tail in float"
    assert store.artifact("fastestdet", "onnxruntime/int8/352x352") is not None
    profile = store.profile("fastestdet/onnxruntime/cpu/int8/352x352/t2")
    assert profile is not None
    assert (profile.state, profile.tasks) == ("ready", model_named("fastestdet").tasks)


def test_what_finds_something_else_is_rejected_with_the_figure(world: World, store: CatalogueStore) -> None:
    world.found["openvino", "fp32"] = people(50)
    rejected = build(store)["openvino/fp32/352"]
    assert rejected.state == ProfileState.REJECTED
    profile = store.profile("fastestdet/openvino/cpu/fp32/352x352/t1")
    assert profile is not None
    assert profile.state == "rejected"
    assert "F1 0.000" in profile.reason
    assert "of 16 boxes, at least 0.8 is needed" in profile.reason


def test_what_cannot_be_loaded_is_rejected_and_the_others_are_built(world: World, store: CatalogueStore) -> None:
    world.broken.add(("openvino", "fp32"))
    found = build(store)
    assert found["openvino/fp32/352"].reason == "cannot be loaded: out of memory"
    assert found["onnxruntime/int8/352"].state == ProfileState.READY


def test_more_is_left_in_float_until_it_passes(world: World, store: CatalogueStore) -> None:
    world.int8 = [people(50), None, people(0)]
    found = build(store)["onnxruntime/int8/352"]
    assert (found.state, found.note) == (ProfileState.READY, f"{building.FLOAT_PARTS[2]} in float")


def test_what_passes_is_built_more_carefully_where_that_makes_it_better(world: World, store: CatalogueStore) -> None:
    """F1 0.86, 0.8 and 0.89 of three boxes and their double: all pass, none is good, the nearest is kept."""
    right = [0.0, 100.0, 200.0, 300.0]
    world.found = {(b, p): people(*right) for b in ("onnxruntime", "openvino") for p in ("fp32", "bf16")}
    world.int8 = [people(*right[:3]), people(*right, 400, 500), people(*right, 400)]
    found = build(store)["onnxruntime/int8/352"]
    assert (found.state, found.note) == (ProfileState.READY, f"{building.FLOAT_PARTS[2]} in float")
    kept = store.artifact("fastestdet", "onnxruntime/int8/352x352")
    assert kept is not None
    assert kept.read_text() == building.FLOAT_PARTS[2]


def test_of_failed_attempts_the_nearest_is_told_and_no_file_stays(world: World, store: CatalogueStore) -> None:
    world.int8 = [people(0)]
    build(store)
    assert store.artifact("fastestdet", "onnxruntime/int8/352x352") is not None
    world.int8 = [people(50), people(0, 50, 90), None]
    found = build(store, again=True)["onnxruntime/int8/352"]
    assert found.state == ProfileState.REJECTED
    assert found.agreement.f1 == pytest.approx(0.5)
    assert store.artifact("fastestdet", "onnxruntime/int8/352x352") is None


def test_points_that_were_measured_stay(world: World, store: CatalogueStore) -> None:
    build(store)
    old = store.profile("fastestdet/onnxruntime/cpu/fp32/352x352/t1")
    assert isinstance(old, Profile)
    store.put(msgspec.structs.replace(old, points=(BatchPoint(1, 0.01, 0.02, 0.01, 5),), load_s=0.5))
    build(store)
    new = store.profile("fastestdet/onnxruntime/cpu/fp32/352x352/t1")
    assert new is not None
    assert (len(new.points), new.load_s) == (1, 0.5)


def test_figures_are_kept_by_task_beside_what_was_published(world: World, store: CatalogueStore) -> None:
    build(store)
    build(store)
    profile = store.profile("fastestdet/openvino/cpu/fp32/352x352/t1")
    assert profile is not None
    figures = [(figure.metric, figure.kind, figure.task) for figure in profile.accuracy]
    assert figures == [
        ("coco_ap50", "published", ""),
        ("agreement", "agreement", "object-detection"),
        ("agreement", "agreement", "person-detection"),
    ]  # and none for vehicles, of which there are none
    person = profile.accuracy_of("agreement", task="person-detection")
    assert person is not None
    assert person.value == 1
    assert profile.accuracy_of("agreement", task="vehicle-detection") is None


def test_what_was_built_and_judged_is_not_done_again(world: World, store: CatalogueStore) -> None:
    world.found["openvino", "fp32"] = people(50)
    first = build(store)
    world.quantised, looked = [], world.num_loaded
    second = build(store)
    assert world.quantised == []
    assert world.num_loaded == looked
    assert all(one.known for one in second.values())
    assert second["openvino/fp32/352"].state == ProfileState.REJECTED
    for name, one in second.items():
        assert (one.state, one.reason, one.agreement) == (first[name].state, first[name].reason, first[name].agreement)


def test_what_building_was_interrupted_at_is_done_and_what_comes_after(world: World, store: CatalogueStore) -> None:
    """Ctrl-C while the first int8 network is made: those before are known, int8 is built as it would have been."""
    world.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        build(store)
    world.interrupted = False
    found = build(store)
    assert {name for name, one in found.items() if not one.known} == {n for n in found if "int8" in n}
    assert found["onnxruntime/int8/352"].state == ProfileState.READY


@pytest.mark.parametrize(
    "change", ["pictures", "calibration", "truths", "bound", "builder", "again", "file", "profile"]
)
def test_what_a_verdict_hangs_on_makes_it_be_done_again(
    world: World, store: CatalogueStore, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(store)
    more: dict[str, Any] = {}
    grey = [Image.from_bgr(np.full((64, 64, 3), 9, np.uint8))] * 16
    if change == "pictures":
        more["pictures"] = Pictures("clip", grey)
    elif change == "calibration":
        more["calibration"] = grey
    elif change == "truths":
        more["pictures"] = Pictures("clip", PICTURES.images, [people(0)] * 16)
    elif change == "bound":
        more["least_agreement"] = 0.7
    elif change == "builder":
        monkeypatch.setattr(building, "BUILDER", building.BUILDER + 1)
    elif change == "again":
        more["again"] = True
    name = "onnxruntime/int8/352"
    if change == "file":  # of one variant alone
        store.remove_artifact("fastestdet", "onnxruntime/int8/352x352")
    if change == "profile":
        profile = store.profile("fastestdet/onnxruntime/cpu/int8/352x352/t1")
        assert profile is not None
        store.put(msgspec.structs.replace(profile, state="rejected"))
    found = build(store, **more)
    if change in ("file", "profile"):
        assert [n for n, one in found.items() if not one.known] == [name]
    else:
        assert not any(one.known for one in found.values())
    assert found[name].state == ProfileState.READY


@pytest.mark.parametrize("change", ["builder", "again", ""])
def test_networks_that_were_rewritten_are_made_anew_with_their_variants(
    world: World, store: CatalogueStore, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(store)
    file = store.folder / "x.onnx"
    file.write_bytes(b"x")
    store.add_artifact("fastestdet", "onnxruntime/fp32/352x352", file, digest_of(file))
    if change == "builder":
        monkeypatch.setattr(building, "BUILDER", building.BUILDER + 1)
    build(store, again=change == "again")
    assert (store.artifact("fastestdet", "onnxruntime/fp32/352x352") is None) == bool(change)
    assert store.artifact("fastestdet", "onnxruntime/int8/352x352") is not None


def test_the_bound_is_the_users(world: World, store: CatalogueStore) -> None:
    """F1 0.8 of two boxes and three."""
    right = [0.0, 100.0]
    world.found = {(b, p): people(*right) for b in ("onnxruntime", "openvino") for p in ("fp32", "bf16")}
    world.found["openvino", "fp32"] = people(*right, 400)
    assert build(store)["openvino/fp32/352"].state == ProfileState.READY
    assert build(store, least_agreement=0.81)["openvino/fp32/352"].state == ProfileState.REJECTED
