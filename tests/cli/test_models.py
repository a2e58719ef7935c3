"""Registering, showing, comparing and removing models, as a user does it: with processes and slips of the pen."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from llamapipe.catalog import AccuracyFigure, BatchPoint, Profile, Variant
from llamapipe.inference import CatalogueStore
from llamapipe.inference.measuring import Care, measure
from llamapipe.inference.profiler import Profiled
from tests.cli.conftest import Cli, Ended
from tests.inference import networks

PIPELINE = """\
version: 1
name: mine
ops:
  - {name: detect, type: detect, inputs: $source.frames, task: person-detection, model: mine, placement: PLACE}
sinks:
  - {name: found, type: jsonl, input: $ops.detect.boxes, path: found.jsonl}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("LLAMAPIPE_CACHE", str(folder))
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    answer = np.zeros((1, 84, 6), np.float32)
    answer[0, 0] = [1, 1, 0, 0, 1, 0.8]
    return networks.always(tmp_path / "people.onnx", answer, size=(64, 64))


def registering(path: Path, *more: object) -> list[str]:
    given = [
        "models",
        "register",
        path,
        "--task",
        "person-detection",
        "--decoder",
        "yolox",
        "--labels",
        "person",
        *([] if "--build" in more else ["--no-build"]),
        *more,
    ]
    return [str(word) for word in given]


def measured(cache: Path, model: str, backend: str = "openvino", ms: float = 10.0) -> None:
    variant = Variant(model, backend, "cpu", "fp32", (64, 64))
    points = tuple(BatchPoint(n, n * ms / 1000, n * ms / 900, n * ms / 1000, 20) for n in (1, 4))
    figures = (AccuracyFigure("agreement", 0.9, "clip", "agreement"),)
    with CatalogueStore(cache) as store:
        store.put(Profile(variant, store.hardware, points=points, accuracy=figures, tasks=("person-detection",)))


def refused(ended: Ended, code: int, *words: str) -> None:
    assert ended.code == code
    assert ended.out == ""
    assert [line.split(": ")[0] for line in ended.err.splitlines()] in (["error"], ["error", "hint"])
    assert all(word in ended.err for word in words)


def test_registering_builds_and_measures_and_what_cannot_be_built_stays_registered(
    cli: Cli, path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that finds the same in every picture is built like any other; it is the model that stays."""
    # How exactly is not asked: with the usual care, each point is measured anew as long as others keep the cores busy.
    hasty = Care(least_s=0.02, least_calls=3, most_s=0.1, attempts=1)
    monkeypatch.setattr("llamapipe.session.profiling.measure", partial(measure, care=hasty))
    ended = cli(*registering(path, "--name", "mine", "--build"))
    assert ended.code == 0
    assert "registered mine" in ended.err
    assert "measured" in ended.err
    assert cli("models", "show", "mine").code == 0


def test_a_registered_model_is_listed_shown_and_removed(cli: Cli, path: Path, cache: Path) -> None:
    ended = cli(*registering(path, "--name", "mine", "--accuracy", "coco_ap=0.25", "--licence", "MIT"))
    assert (ended.code, ended.out) == (0, "mine\n")
    assert "use it with model: mine" in ended.err
    assert any(line.startswith("mine ") for line in cli("models", "list").out.splitlines())
    assert "mine" in cli("models", "list", "--task", "person-detection").out
    shown = json.loads(cli("models", "show", "mine", "--json").out)
    assert shown["registered"]
    assert shown["labels"] == ["person"]
    assert shown["accuracy"] == [{"metric": "coco_ap", "value": 0.25, "dataset": "COCO val2017", "kind": "published"}]
    assert Path(shown["files"][0]["path"]).read_bytes() == path.read_bytes()
    assert "no variant of mine has been measured" in cli("models", "show", "mine").err
    assert "removed mine" in cli("models", "remove", "mine").err
    refused(cli("models", "show", "mine"), 2, "unknown model 'mine'")
    assert not list((cache / "catalogue/files").iterdir())


@pytest.mark.parametrize("placement", ["thread", "process"])
def test_a_pipeline_uses_it_by_its_name(cli: Cli, path: Path, clip: Path, tmp_path: Path, placement: str) -> None:
    assert cli(*registering(path, "--name", "mine")).code == 0
    path.unlink()
    (tmp_path / "mine.yaml").write_text(PIPELINE.replace("PLACE", placement))
    ended = cli("run", tmp_path / "mine.yaml", "-i", clip, "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    found = next((tmp_path / "out").rglob("found.jsonl"))
    rows = [json.loads(line) for line in found.read_text().splitlines()]
    assert len(rows) == 20
    assert all(row["items"][0]["label"] == "person" for row in rows)


def test_what_it_is_calibrated_and_judged_by_is_kept(cli: Cli, path: Path, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text("1,1,10,10,20,20,1,1,1\n")
    asked = registering(path, "--name", "mine", "--calibrate", clip, "--ground-truth", tmp_path / "gt.txt")
    assert cli(*asked).code == 0
    shown = json.loads(cli("models", "show", "mine", "--json").out)
    assert (shown["calibration"], shown["ground_truth"]) == (str(clip), str(tmp_path / "gt.txt"))


def test_variants_are_drawn_in_the_terminal_and_as_a_page(cli: Cli, cache: Path, tmp_path: Path) -> None:
    measured(cache, "yolox-nano")
    measured(cache, "yolox-nano", "onnxruntime", 20.0)
    ended = cli("models", "show", "yolox-nano", "--html", tmp_path / "page.html")
    assert ended.code == 0
    assert "latency by batch" in ended.out
    assert "accuracy, latency and cost" in ended.out
    assert "openvino *" in ended.out
    assert (tmp_path / "page.html").read_text().count("<svg") == 2
    assert len(json.loads(cli("models", "show", "yolox-nano", "--json").out)["variants"]) == 2


def test_models_of_a_task_are_compared(cli: Cli, cache: Path) -> None:
    measured(cache, "yolox-nano")
    measured(cache, "yolox-nano", "onnxruntime", 20.0)
    measured(cache, "fastestdet", "openvino", 5.0)
    ended = cli("models", "compare", "--task", "person-detection")
    assert "fastestdet" in ended.out
    assert "onnxruntime" not in ended.out
    assert "not measured on this machine: pedestrian-ssdlite" in ended.err
    assert "onnxruntime" in cli("models", "compare", "--task", "person-detection", "--all").out
    assert len(json.loads(cli("models", "compare", "fastestdet", "yolox-nano", "--json").out)) == 3


@pytest.mark.parametrize("what", [["show", "yolox-nano"], ["compare", "--task", "person-detection"]])
def test_a_metric_that_nothing_was_measured_by_is_refused(cli: Cli, cache: Path, what: list[str]) -> None:
    refused(cli("models", *what, "--metric", "foo"), 2, "--metric 'foo'", "expected one of agreement, ap50, coco_ap")
    measured(cache, "yolox-nano")
    refused(cli("models", *what, "--metric", "foo"), 2, "--metric 'foo'", "expected one of agreement")
    refused(cli("models", *what, "--metric", "ap50", "--json"), 2, "--metric 'ap50'", "--ground-truth")
    assert cli("models", *what, "--metric", "agreement").code == 0


@pytest.mark.parametrize(("share", "more"), [("0.02", "--share 0.15"), ("0.15", "--share 0.3"), ("0.9", "--share 1")])
def test_predictions_that_are_guesses_are_called_so(
    cli: Cli, share: str, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiled = Profiled((), 250, 5, 0, 0.03, 1.02)
    monkeypatch.setattr("llamapipe.session.profiling.profile", lambda *_, **__: profiled)
    ended = cli("models", "profile", "yolox-nano", "--share", share)
    assert ended.code == 0
    assert "predictions of the 245 points that were not measured are no better than a guess" in ended.err
    assert more in ended.err
    profiled = Profiled((), 250, 37, 0, 0.03, 0.06)
    assert "guess" not in cli("models", "profile", "yolox-nano").err


def test_looking_leaves_nothing_behind(cli: Cli, cache: Path) -> None:
    cli("models", "list")
    cli("models", "show", "yolox-nano")
    assert not cache.exists()


def test_of_a_ready_model_only_measurements_are_forgotten(cli: Cli, cache: Path) -> None:
    measured(cache, "yolox-nano")
    assert "what was measured and built of it is forgotten" in cli("models", "remove", "yolox-nano").err
    assert "nothing was measured" in cli("models", "remove", "yolox-nano").err


def test_removing_is_all_or_none(cli: Cli, path: Path) -> None:
    cli(*registering(path, "--name", "mine"))
    refused(cli("models", "remove", "mine", "min"), 2, "unknown model 'min'", "did you mean mine?")
    assert cli("models", "show", "mine").code == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--labels", "a,b"], ["person-detection is about person"]),
        (["--labels", "person,car"], ["the network has 1 classes, got 2 labels"]),
        (["--labels", "none.txt"], ["label file none.txt cannot be read"]),
        (["--decoder", "yolo"], ["expected a decoder", "did you mean yolox?"]),
        (["--accuracy", "coco_ap=25"], ["expected METRIC=VALUE", "coco_ap=0.25"]),
        (["--input-size", "big"], ["expected pixels"]),
        (["--calibrate", "none.mp4"], ["calibration none.mp4 does not exist"]),
        (["--ground-truth", "none.txt"], ["--calibrate"]),
        (["--name", "yolox-nano"], ["taken by a ready model"]),
    ],
)
def test_a_slip_of_the_pen_is_one_error(cli: Cli, path: Path, more: list[str], words: list[str], cache: Path) -> None:
    refused(cli(*registering(path, *more)), 2, *words)
    assert not list(cache.glob("catalogue/files/*"))


def test_a_folder_without_pictures_and_a_truth_that_is_none_are_refused(
    cli: Cli, path: Path, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    refused(cli(*registering(path, "--calibrate", tmp_path / "empty")), 2, "holds no pictures")
    (tmp_path / "gt.txt").write_text("\n")
    refused(cli(*registering(path, "--calibrate", clip, "--ground-truth", tmp_path / "gt.txt")), 2, "holds no boxes")
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    refused(cli(*registering(path, "--calibrate", tmp_path / "clip.mp4")), 1, "clip.mp4")


def test_a_page_of_nothing_is_not_written(cli: Cli, tmp_path: Path) -> None:
    ended = cli("models", "show", "yolox-nano", "--html", tmp_path / "page.html")
    assert ended.code == 2
    assert "nothing of yolox-nano has been measured" in ended.err
    assert not (tmp_path / "page.html").exists()


def started(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "llamapipe", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_may_register_the_same_at_once(cli: Cli, path: Path, cache: Path) -> None:
    both = [started(registering(path, "--name", "mine")) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "mine\n"), err
    with CatalogueStore(cache) as store:
        assert len(store.models()) == 1
    assert len(list((cache / "catalogue/files").iterdir())) == 1


def test_two_networks_at_once_under_one_name_leave_one_whole_and_refuse_the_other(
    cli: Cli, path: Path, tmp_path: Path, cache: Path
) -> None:
    other = networks.always(tmp_path / "other.onnx", np.zeros((1, 84, 6), np.float32), size=(64, 64))
    both = [started(registering(file, "--name", "mine")) for file in (path, other)]
    ended = [(process.communicate(timeout=60), process.returncode) for process in both]
    assert sorted(code for _, code in ended) == [0, 2]
    assert any("model name mine is taken" in err for (_, err), _ in ended)
    assert cli("models", "show", "mine").code == 0


KILLED_AT_A_STEP = """
import os, signal, sys
cache, at = sys.argv[1], int(sys.argv[2])
changes = {"os.mkdir", "os.rename", "os.remove", "os.link", "os.truncate", "sqlite3.connect"}
steps = 0

def look(event, args):
    global steps
    if event == "open" and isinstance(args[0], str):
        counts = bool(args[2] & (os.O_WRONLY | os.O_RDWR))
    else:
        counts = event in changes
    if counts and any(cache in str(arg) for arg in args):
        steps += 1
        if steps == at:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(look)
from llamapipe.cli.app import call
code = call(sys.argv[3:])
print(steps, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.slow
def test_a_registration_that_is_killed_can_be_done_again(
    cli: Cli, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before one of the steps that change anything in a new cache, and in the end again in the same one."""

    def registered(step: int) -> tuple[Path, subprocess.CompletedProcess[str]]:
        folder = tmp_path / f"killed-{step}"
        monkeypatch.setenv("LLAMAPIPE_CACHE", str(folder))
        command = [sys.executable, "-c", KILLED_AT_A_STEP, str(folder), str(step)]
        return folder, subprocess.run([*command, *registering(path, "--name", "mine")], capture_output=True, text=True)

    _, whole = registered(0)
    assert whole.returncode == 0, whole.stderr
    num_steps = int(whole.stderr.splitlines()[-1])
    assert num_steps >= 4
    for step in sorted({int(number) for number in np.linspace(1, num_steps, 6)}):
        folder, killed = registered(step)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        shown = cli("models", "show", "mine", "--json")
        assert shown.code in (0, 2)  # there as a whole, or not at all
        if shown.code == 0:
            assert Path(json.loads(shown.out)["files"][0]["path"]).read_bytes() == path.read_bytes()
            cli("models", "remove", "mine")
        assert cli(*registering(path, "--name", "mine")).code == 0
        assert len(list((folder / "catalogue/files").iterdir())) == 1
