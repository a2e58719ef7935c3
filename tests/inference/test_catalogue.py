"""What was measured and registered is there for every later process, and never half of it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from llamapipe.accuracy import Agreement
from llamapipe.catalog import (
    Accuracy,
    AccuracyFigure,
    AccuracyKind,
    BatchPoint,
    Model,
    Profile,
    ProfileState,
    Variant,
)
from llamapipe.data import Boxes
from llamapipe.errors import AssetError, UsageError
from llamapipe.inference.catalogue import ANY, CatalogueStore, digest_of, open_catalogue, refined
from llamapipe.inference.verdicts import Verdict, boxes_of, found_of
from llamapipe.testing.clock import FakeClock
from llamapipe.tune import Predicted, Tuning, VideoSignature

VARIANT = Variant("m", "onnxruntime", "cpu", "fp32", (64, 64), 1)
PROFILE = Profile(
    VARIANT,
    "here",
    load_s=0.5,
    peak_memory_bytes=1000,
    points=(BatchPoint(1, 0.010, 0.012, 0.010, 20, 0.02), BatchPoint(4, 0.040, 0.044, 0.040, 0, 0.02)),
    accuracy=(AccuracyFigure("f1", 0.9, "clip", "agreement", 0.85, 0.95),),
    tasks=("person-detection",),
)
MODEL = Model(
    "m",
    ("person-detection",),
    "yolox",
    ("person",),
    "onnx",
    (),
    ((64, 64),),
    accuracy=(Accuracy("coco_ap", 0.25, "COCO", AccuracyKind.PUBLISHED),),
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(tmp_path: Path, clock: FakeClock) -> Iterator[CatalogueStore]:
    with CatalogueStore(tmp_path, hardware="here", clock=clock) as store:
        yield store


def again(store: CatalogueStore, hardware: str = "here") -> CatalogueStore:
    return CatalogueStore(store.folder.parent, hardware=hardware)


def network(tmp_path: Path, name: str = "net.onnx", data: bytes = b"weights") -> tuple[Path, str]:
    path = tmp_path / "given" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path, digest_of(path)


def test_a_profile_is_there_for_the_next_process(store: CatalogueStore) -> None:
    store.put(PROFILE)
    with again(store) as other:
        assert other.profiles() == [PROFILE]
        assert other.profile(VARIANT.name) == PROFILE


def test_profiles_are_found_by_model_task_and_machine(store: CatalogueStore) -> None:
    there = Profile(VARIANT, "there", state=ProfileState.REJECTED, reason="F1 0.2", tasks=("face-detection",))
    store.put(PROFILE, there)
    assert store.profiles() == [PROFILE]
    assert store.profiles(hardware="there") == [there]
    assert store.profiles(hardware=ANY) == [PROFILE, there]
    assert store.profiles(model="m", task="person-detection") == [PROFILE]
    assert store.profiles(model="other") == store.profiles(task="face-detection") == []


def test_the_later_measurement_counts(store: CatalogueStore) -> None:
    store.put(PROFILE)
    later = Profile(VARIANT, "here", load_s=2.0)
    store.put(later)
    assert store.profiles() == [later]


def test_the_catalogue_lies_in_the_cache(tmp_path: Path) -> None:
    with open_catalogue({"LLAMAPIPE_CACHE": str(tmp_path)}) as store:
        assert store.folder == tmp_path / "catalogue"


def test_observations_move_a_point_by_how_many_they_are(store: CatalogueStore, clock: FakeClock) -> None:
    store.put(PROFILE)
    for _ in range(20):
        store.observe(VARIANT.name, 1, 0.020)
    assert store.profiles() == [PROFILE]  # not yet written
    clock.advance(5.0)
    store.observe(VARIANT.name, 1, 0.020)
    (point, untouched) = store.profiles()[0].points
    assert point.median_s == pytest.approx(0.010 + 0.010 * 21 / 41)
    assert point.p95_s == pytest.approx(0.012 + 0.008 * 21 / 41)
    assert point.count == 41
    assert point.spread > 0.02
    assert untouched == PROFILE.points[1]


def test_what_is_left_is_written_at_the_end(store: CatalogueStore) -> None:
    store.put(PROFILE)
    store.observe(VARIANT.name, 1, 0.020)
    store.close()
    with again(store) as other:
        assert other.profiles()[0].points[0].count == 21


def test_observations_of_what_nobody_measured_are_let_go(store: CatalogueStore) -> None:
    store.observe("nobody/knows", 1, 0.1)
    store.flush()
    assert store.profiles() == []


def test_observing_never_waits_for_another_process(store: CatalogueStore, clock: FakeClock) -> None:
    store.put(PROFILE)
    other = sqlite3.connect(store.folder / "catalogue.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(16):
        store.observe(VARIANT.name, 1, 0.020)
    clock.advance(5.0)
    started_s = time.monotonic()
    store.observe(VARIANT.name, 1, 0.020)
    assert time.monotonic() - started_s < 15  # of the 30 that a write may wait
    assert store.profiles() == [PROFILE]
    other.execute("ROLLBACK")
    other.close()
    store.flush()
    assert store.profiles()[0].points[0].count == 37


def test_a_prediction_gives_way_to_observations_sooner_than_a_measurement() -> None:
    measured = refined(PROFILE, 1, [0.020] * 4).points[0].median_s / 0.010
    predicted = refined(PROFILE, 4, [0.080] * 4).points[1].median_s / 0.040
    assert predicted > measured


def test_a_batch_between_measured_ones_becomes_a_point() -> None:
    assert [point.batch for point in refined(PROFILE, 2, [0.02] * 16).points] == [1, 2, 4]


def test_a_batch_beyond_the_measured_ones_needs_enough_observations() -> None:
    assert refined(PROFILE, 8, [0.08] * 15) == PROFILE
    assert refined(PROFILE, 8, [0.08] * 16).points[-1] == BatchPoint(8, 0.08, 0.08, 0.08, 16)


def test_a_model_and_its_file_survive(store: CatalogueStore, tmp_path: Path) -> None:
    path, sha256 = network(tmp_path)
    store.add_model(MODEL, path, sha256, calibration=tmp_path / "clip.mp4")
    path.unlink()
    with again(store) as other:
        (kept,) = other.kept_models()
        assert kept.model == MODEL
        assert kept.file.read_bytes() == b"weights"
        assert kept.calibration == tmp_path / "clip.mp4"
        assert kept.ground_truth is None
        assert other.models() == [MODEL]


def test_the_same_again_changes_nothing_and_another_of_the_name_is_refused(
    store: CatalogueStore, tmp_path: Path
) -> None:
    path, sha256 = network(tmp_path)
    assert store.add_model(MODEL, path, sha256) == store.add_model(MODEL, path, sha256)
    path, sha256 = network(tmp_path, data=b"others")
    with pytest.raises(UsageError, match="model name m is taken"):
        store.add_model(MODEL, path, sha256)
    assert store.models() == [MODEL]


def test_weights_beside_a_description_are_kept_with_it(store: CatalogueStore, tmp_path: Path) -> None:
    xml, _ = network(tmp_path, "net.xml", b"<net/>")
    alone = digest_of(xml)
    network(tmp_path, "net.bin", b"weights")
    assert digest_of(xml) != alone
    kept = store.add_model(MODEL, xml, digest_of(xml))
    assert kept.file.with_suffix(".bin").read_bytes() == b"weights"


def test_a_file_that_is_not_what_was_announced_is_not_kept(store: CatalogueStore, tmp_path: Path) -> None:
    path, _ = network(tmp_path)
    with pytest.raises(AssetError, match="expected sha256 0000"):
        store.add_model(MODEL, path, "0" * 64)
    assert store.models() == []
    assert not list((store.folder / "files").iterdir())


def test_a_kept_file_that_was_damaged_is_replaced_by_the_same_again(store: CatalogueStore, tmp_path: Path) -> None:
    path, sha256 = network(tmp_path)
    kept = store.add_model(MODEL, path, sha256)
    kept.file.write_bytes(b"we")
    assert store.add_model(MODEL, path, sha256).file.read_bytes() == b"weights"


def test_what_was_published_of_a_model_may_be_added_later(store: CatalogueStore, tmp_path: Path) -> None:
    path, sha256 = network(tmp_path)
    store.add_model(MODEL, path, sha256)
    better = dataclasses.replace(MODEL, description="of people", accuracy=())
    store.add_model(better, path, sha256)
    assert store.models() == [better]
    with pytest.raises(UsageError, match="is taken"):
        store.add_model(dataclasses.replace(MODEL, decoder="yolov8"), path, sha256)


def test_built_files_are_found_by_their_key(store: CatalogueStore, tmp_path: Path) -> None:
    path, sha256 = network(tmp_path)
    assert store.artifact("m", "int8") is None
    kept = store.add_artifact("m", "int8", path, sha256)
    assert store.artifact("m", "int8") == kept
    assert store.artifacts("m") == {"int8": kept}
    assert kept.read_bytes() == b"weights"


def test_removing_leaves_the_files_of_others(store: CatalogueStore, tmp_path: Path) -> None:
    path, sha256 = network(tmp_path)
    own, own_sha256 = network(tmp_path, "own.onnx", b"own")
    store.put(PROFILE)
    shared = store.add_artifact("other", "fp32", path, sha256)
    store.add_model(MODEL, path, sha256)
    mine = store.add_artifact("m", "int8", own, own_sha256)
    assert store.remove("m")
    assert not store.remove("m")
    assert store.profiles() == store.models() == []
    assert shared.is_file()
    assert not mine.exists()


def test_a_newer_catalogue_is_refused(store: CatalogueStore) -> None:
    store.close()
    database = sqlite3.connect(store.folder / "catalogue.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(AssetError, match="newer llamapipe"):
        again(store)


def test_a_damaged_catalogue_is_refused_with_the_way_out(store: CatalogueStore) -> None:
    store.close()
    (store.folder / "catalogue.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(AssetError, match="cannot be read") as refused:
        again(store)
    assert str(store.folder) in str(refused.value.hint)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "catalogue").write_text("a file")
    with pytest.raises(AssetError, match="cannot be made"):
        CatalogueStore(tmp_path, hardware="here")


WRITER = """
import sys
from pathlib import Path
from llamapipe.catalog import BatchPoint, Model, Profile, Variant
from llamapipe.inference.catalogue import CatalogueStore, digest_of
root, first, path = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for n in range(first, first + int(sys.argv[4])):
    with CatalogueStore(root, hardware="here") as store:
        store.put(*(Profile(Variant(f"m{n}", "onnxruntime", threads=t), "here", load_s=n) for t in (1, 2)))
        store.add_model(Model("same", (), "yolox", ("a",), "onnx", (), ((64, 64),)), path, digest_of(path))
        store.add_artifact(f"m{n}", "int8", path, digest_of(path))
    print(n, flush=True)
"""


def writer(root: Path, first: int, path: Path, num: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), str(first), str(path), str(num)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path, _ = network(tmp_path, data=os.urandom(1 << 20))
    writers = [writer(tmp_path, 100 * n, path, 10) for n in range(3)]
    for process in writers:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in writers:
        process.communicate("go\n", timeout=60)
        assert process.returncode == 0
    with CatalogueStore(tmp_path, hardware="here") as store:
        assert len(store.profiles()) == 60
        (kept,) = store.kept_models()
        assert hashlib.sha256(kept.file.read_bytes()).hexdigest() == kept.sha256


def test_a_process_killed_at_any_moment_leaves_nothing_by_halves(tmp_path: Path) -> None:
    path, sha256 = network(tmp_path, data=os.urandom(1 << 20))
    for attempt in range(6):
        process = writer(tmp_path, 1000 * attempt, path, 1000)
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdin.write("go\n")
        process.stdin.flush()
        done = int(process.stdout.readline())
        time.sleep(0.003 * attempt)
        process.send_signal(signal.SIGKILL)
        done = max([done, *(int(line) for line in process.stdout.read().split())])
        process.wait()
        process.stdin.close()
        process.stdout.close()
        with CatalogueStore(tmp_path, hardware="here") as store:
            names = [profile.variant.model for profile in store.profiles()]
            assert all(names.count(name) == 2 for name in names)  # both of a pair or none
            assert {f"m{n}" for n in range(1000 * attempt, done + 1)} <= set(names)
            for name in names:
                built = store.artifact(name, "int8")
                assert built is None or digest_of(built) == sha256
            store.add_artifact("last", "int8", path, sha256)
            needed = {file.parent for file in (store.artifact("last", "int8"), *(k.file for k in store.kept_models()))}
            assert set((tmp_path / "catalogue/files").iterdir()) == needed


def tuning(motion: float, cost: float) -> Tuning:
    signature = VideoSignature(640, 480, 25.0, (0.5, 0.5), motion, 0.1, (0.5,))
    return Tuning(
        *("people", "d", "", "agreement", 0.9, "here", signature, "a.mp4", {"detect.batch": 1}),
        Predicted(cost, 0.1, 100.0, 1.0, 1.0, 1.0),
        *({}, (), 1, 1, 1.0, 1.0),
    )


def test_a_tuning_is_kept_by_what_was_asked_and_replaces_that_of_a_like_video(store: CatalogueStore) -> None:
    store.put_tuning("people", tuning(0.01, 5.0))
    store.put_tuning("people", tuning(0.2, 9.0))
    store.put_tuning("traffic", tuning(0.01, 7.0))
    assert sorted(t.predicted.cost_core_ms for t in store.tunings("people") if t.predicted) == [5.0, 9.0]
    store.put_tuning("people", tuning(0.011, 4.0))
    assert sorted(t.predicted.cost_core_ms for t in store.tunings("people") if t.predicted) == [4.0, 9.0]
    assert store.tunings("other") == []


def test_a_verdict_is_kept_with_what_was_found_and_goes_with_its_model(store: CatalogueStore) -> None:
    boxes = Boxes(np.array([[1, 2, 3, 4]], np.float32), np.array([0.5], np.float32), np.zeros(1, np.int32), ("person",))
    found = found_of([boxes, Boxes.empty(("person",))])
    verdict = Verdict(
        VARIANT, "basis", "ready", agreement=Agreement(1, 0.9, 1, 1, 1, 2), names=("person",), found=found
    )
    store.put_verdict(verdict, PROFILE)
    kept = store.verdict(VARIANT)
    assert kept == verdict
    assert store.profiles() == [PROFILE]
    one, none = boxes_of(kept)
    assert (one.xyxy.tolist(), one.score.tolist(), len(none)) == ([[1, 2, 3, 4]], [0.5], 0)
    store.remove("m")
    assert store.verdict(VARIANT) is None


def test_files_in_the_making_go_with_whoever_made_them(tmp_path: Path, store: CatalogueStore) -> None:
    """What a killed process left goes when the next one starts, and what a living one makes stays."""
    left = store.folder / ".build-killed"
    left.mkdir()
    (left / "half.onnx").write_bytes(b"x")
    with CatalogueStore(tmp_path, hardware="here") as other, store.workplace() as mine:
        (mine / "mine.onnx").write_bytes(b"x")
        with other.workplace() as theirs:
            assert theirs != mine
        assert not left.exists()
        assert (mine / "mine.onnx").exists()
    assert not list(store.folder.glob(".build-*"))


def test_a_catalogue_of_the_first_version_gets_what_it_lacks(tmp_path: Path, clock: FakeClock) -> None:
    with CatalogueStore(tmp_path, hardware="here", clock=clock) as store:
        store.put(PROFILE)
    database = sqlite3.connect(tmp_path / "catalogue" / "catalogue.sqlite")
    database.executescript("DROP TABLE tunings; PRAGMA user_version = 1;")
    database.close()
    with CatalogueStore(tmp_path, hardware="here", clock=clock) as store:
        store.put_tuning("people", tuning(0.01, 5.0))
        assert store.profiles() == [PROFILE]
        assert len(store.tunings("people")) == 1


def test_the_way_of_queries_is_kept_by_kind_of_workers(tmp_path: Path, clock: FakeClock) -> None:
    with CatalogueStore(tmp_path, hardware="here", clock=clock) as store:
        assert store.way_s("process") is None
        store.put_way("process", 0.002)
        store.put_way("process", 0.001)
        store.put_way("thread", 0.0005)
    with CatalogueStore(tmp_path, hardware="here", clock=clock) as store:
        assert store.way_s("process") == pytest.approx(0.001)
        assert store.way_s("thread") == pytest.approx(0.0005)
    with CatalogueStore(tmp_path, hardware="there", clock=clock) as store:
        assert store.way_s("process") is None


def test_a_damaged_catalogue_says_so_and_what_to_do(tmp_path: Path) -> None:
    with CatalogueStore(tmp_path) as store:
        for number in range(200):
            store.put(msgspec.structs.replace(PROFILE, reason="x" * 500, variant=variant_of(number)))
    path = store.folder / "catalogue.sqlite"
    data = bytearray(path.read_bytes())
    data[8192:] = b"\xff" * (len(data) - 8192)
    path.write_bytes(data)
    with CatalogueStore(tmp_path) as store, pytest.raises(AssetError, match="cannot be used") as caught:
        store.profiles()
    assert "delete" in (caught.value.hint or "")


def variant_of(number: int) -> Variant:
    return msgspec.structs.replace(PROFILE.variant, model=f"net-{number}")
