"""run and eval, end to end on a small clip."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llamapipe.report import RunSummary
from llamapipe.runtime import read_machine
from tests.cli.conftest import PLAIN, Cli
from tests.processes import LONG_S, wait_until

FAILING = '''\
from llamapipe.data import Image
from llamapipe.operator import operator

@operator("acme/fail@v1", inputs={"frames": "frames"}, outputs={"frames": "frames"})
def fail(frames: Image) -> Image:
    """Fail."""
    raise RuntimeError("on purpose")
'''

STUCK = '''\
import time
from pathlib import Path

from llamapipe.data import Image
from llamapipe.operator import operator

@operator("acme/stuck@v1", inputs={"frames": "frames"}, outputs={"frames": "frames"})
def stuck(frames: Image, *, mark: str = "") -> Image:
    """Take far longer for one picture than anybody would wait."""
    if frames.seq == 15:
        Path(mark).touch()
        time.sleep(600)
    return frames.replaced(frames.bgr)
'''


def test_a_run_writes_its_files_and_says_so_on_stderr(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = cli("run", plain, "-i", clip, "-o", out)
    assert (ended.code, ended.out) == (0, "")
    assert "done: 20 of 20 frames delivered" in ended.err
    for name in ("small.mp4", "run.json", "report.html"):
        assert f"wrote {out / name}" in ended.err
        assert (out / name).stat().st_size > 0
    assert RunSummary.from_json((out / "run.json").read_bytes()).frames.decoded == 20
    # A long variant breaks at its slashes: the columns beside it stay in sight.
    assert "llamapipe/<wbr>resize@v1" in (out / "report.html").read_text()


def test_v_says_what_each_stage_did(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    ended = cli("run", plain, "-i", clip, "-o", tmp_path / "out", "-v")
    assert "stage resize: llamapipe/resize@v1, 20 items in " in ended.err


def test_explain_says_what_is_planned_and_how_it_was_decided(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    ended = cli("run", plain, "-i", clip, "-o", tmp_path / "out", "-q", "--explain", "--max-frames", "5")
    assert ended.code == 0
    assert "there is no objective" in ended.out
    assert ended.out.splitlines()[-1].split() == [
        *("resize", "llamapipe/resize@v1", "5", "nothing", "to", "decide:", "as", "planned,", "as", "frames", "come")
    ]
    ended = cli("run", plain, "-i", clip, "-o", tmp_path / "out", "-q", "--explain", "--force", "--slo", "deadline=60s")
    assert "from s" in ended.out
    assert "nothing is known yet of runs like it" in ended.out
    ended = cli("run", plain, "-i", clip, "-o", tmp_path / "out", "-q", "--explain", "--json", "--force")
    assert RunSummary.from_json(ended.out.encode()).plan is not None


def test_many_paced_sources_have_a_worker_a_core_unless_told_otherwise(
    cli: Cli, plain: Path, clip: Path, tmp_path: Path
) -> None:
    cores = max(1, int(read_machine().cores))

    def workers(count: int, *options: str) -> int:
        args = [part for _ in range(count) for part in ("-i", str(clip))]
        ended = cli("run", plain, *args, "-o", tmp_path / "out", "-q", "--json", "--force", *options)
        assert ended.code == 0, ended.err
        return RunSummary.from_json(ended.out.encode()).workers

    assert workers(cores + 1, "--realtime") == cores
    assert workers(1, "--realtime") == cores + 1  # somebody else is to decode and write meanwhile
    assert workers(cores + 1) == cores + 1
    assert workers(cores + 1, "--realtime", "--workers", str(cores + 1)) == cores + 1


def test_quiet_and_json_leave_only_the_summary(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    ended = cli("run", plain, "-i", clip, "-o", tmp_path / "out", "-q", "--json", "--set", "params.width=80")
    assert (ended.code, ended.err) == (0, "")
    summary = RunSummary.from_json(ended.out.encode())
    assert (summary.outcome, summary.exit_code) == ("done", 0)
    assert summary.stages[0].params["width"] == 80


def test_a_used_folder_is_refused_without_force(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    args = ("run", plain, "-i", clip, "-o", tmp_path / "out", "-q", "--max-frames", "2")
    assert cli(*args).code == 0
    ended = cli(*args)
    assert ended.code == 1
    assert "--force" in ended.err
    assert cli(*args, "--force").code == 0


def test_a_dry_run_writes_nothing(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "small.mp4" in cli("run", plain, "-i", clip, "-o", out, "--dry-run").out
    assert json.loads(cli("run", plain, "-i", clip, "-o", out, "--dry-run", "--json").out)["pipeline"] == "small"
    assert not out.exists()


def test_a_dry_run_that_explains_says_what_a_plan_says(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ("run", plain, "-i", clip, "-o", out, "--slo", "deadline=60s", "--dry-run")
    ended = cli(*asked, "--explain")
    assert (ended.code, ended.err) == (0, "")
    assert "small.mp4" in ended.out
    assert "has no model: one way to run it" in ended.out
    assert "feasible" in ended.out
    assert json.loads(cli(*asked, "--explain", "--json").out)["plan"]["objective"] == "deadline=60s"
    assert "plan" not in json.loads(cli(*asked, "--json").out)
    assert "has no model" not in cli(*asked).out
    assert not out.exists()


def test_what_will_do_nothing_is_told_and_no_error(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    plain.write_text(plain.read_text().replace("version: 1", "version: 1\non_overload: degrade"))
    said = "on_overload: degrade does nothing: without a floor of accuracy"
    ended = cli("validate", plain)
    assert (ended.code, f"warning: {plain}:2: {said}" in ended.err) == (0, True)
    ended = cli("validate", plain, "--json")
    assert (ended.code, json.loads(ended.out), said in ended.err) == (0, [], True)
    ended = cli("plan", plain, "-i", clip)
    assert (ended.code, said in ended.out) == (0, True)
    assert said in json.loads(cli("plan", plain, "-i", clip, "--json").out)["notes"][0]
    asked = ("run", plain, "-i", clip, "-o", tmp_path / "out")
    assert f"note: {said}" in cli(*asked, "--dry-run").out
    ended = cli(*asked)
    assert (ended.code, f"warning: {said}" in ended.err) == (0, True)
    assert said in RunSummary.from_json((tmp_path / "out" / "run.json").read_bytes()).notes[0]
    assert "does nothing" not in cli("validate", "people").err


def test_a_plan_is_of_as_many_frames_as_would_be_run(cli: Cli, plain: Path, clip: Path) -> None:
    asked = ("plan", plain, "-i", clip, "--slo", "deadline=60s")
    for more, frames in (((), 20), (("--max-frames", 5), 5), (("--loop", 3), 60)):
        assert f": {frames} frames take " in cli(*asked, *more).out


@pytest.mark.parametrize("command", ["run", "plan", "tune"])
def test_a_floor_is_a_share_and_asked_for_once(cli: Cli, plain: Path, clip: Path, tmp_path: Path, command: str) -> None:
    more = ("-o", tmp_path / "out") if command == "run" else ()
    ended = cli(command, plain, "-i", clip, *more, "--min-accuracy", 1.5)
    assert (ended.code, "--min-accuracy 1.5: expected a share from 0 to 1" in ended.err) == (2, True)
    ended = cli(command, plain, "-i", clip, *more, "--min-accuracy", 0.9, "--set", "accuracy.min=0.8")
    assert (ended.code, "--min-accuracy 0.9 and --set accuracy.min=0.8 both say" in ended.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_how_far_a_floor_of_the_command_line_may_give_way_is_set_beside_it(
    cli: Cli, plain: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a pipeline that has no floor of its own, too, wherever it is read."""
    monkeypatch.setenv("LLAMAPIPE_CACHE", str(tmp_path / "cache"))
    plain.write_text(plain.read_text().replace("version: 1", "version: 1\non_overload: degrade"))
    asked = (plain, "-i", clip, "--min-accuracy", 0.9, "--set", "accuracy.degraded=0.7")
    ended = cli("plan", *asked)
    assert (ended.code, "does nothing" in ended.out) == (0, False), ended.err
    config = tmp_path / "small.tuned.yaml"
    assert cli("tune", *asked, "--config", config, "--budget-s", 60).code == 0
    for more in ((), ("--tune",), ("--config", config)):
        ended = cli("run", *asked, "-o", tmp_path / "out", "--force", *more)
        assert ended.code == 0, ended.err


def test_a_floor_of_the_command_line_is_that_of_the_run(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    asked = ("run", plain, "-i", clip, "-o", tmp_path / "out", "--json")
    by_flag = json.loads(cli(*asked, "--min-accuracy", 0.9).out)["fingerprint"]["the accuracy asked for"]
    by_set = json.loads(cli(*asked, "--force", "--set", "accuracy.min=0.9").out)["fingerprint"]
    assert by_flag == by_set["the accuracy asked for"] == "min=0.9 metric=None degraded=None"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["-o", "OUT"], 2, "no source"),
        (["-i", "CLIP"], 2, "-o DIR"),
        (["-i", "missing.mp4", "-o", "OUT"], 1, "missing.mp4 does not exist"),
        (["-i", "TEXT", "-o", "OUT"], 1, "is no video"),
        (["-i", "EMPTY", "-o", "OUT"], 1, "is empty"),
        (["-i", "sample:biks", "-o", "OUT"], 2, "biks"),
        (["-i", "rtsp://me:hidden@127.0.0.1:1/x", "-o", "OUT"], 1, "rtsp://***@127.0.0.1:1/x"),
        (["-i", "CLIP", "-o", "TEXT"], 1, "is a file"),
        (["-i", "CLIP", "-o", "OUT", "--slo", "p95=200ms"], 2, "--realtime"),
        (["-i", "CLIP", "-o", "OUT", "--slo", "p95=soon"], 2, "200ms"),
        (["-i", "CLIP", "-o", "OUT", "--sink", "vidoe=x.mp4"], 2, "did you mean video?"),
        (["-i", "CLIP", "-o", "OUT", "--sink", "frames=../x"], 2, "../x"),
        (["-i", "CLIP", "-o", "OUT", "--start", "soon"], 2, "--start"),
        (["-i", "CLIP", "-o", "OUT", "--start", "2", "--end", "1"], 2, "--end"),
        (["-i", "CLIP", "-o", "OUT", "--end", "0"], 2, "--end 0"),
        (["-i", "CLIP", "-o", "OUT", "--workers", "process:"], 2, "process:3"),
        (["-i", "CLIP", "-o", "OUT", "--workers", "0"], 2, "process:3"),
        (["-i", "CLIP", "-o", "OUT", "--invocation-timeout", "nan"], 2, "invocation_timeout_s: expected seconds"),
        (["-i", "CLIP", "-o", "OUT", "--stall-timeout", "nan"], 2, "stall_timeout_s: expected seconds, over 0"),
        (["-i", "CLIP", "-o", "OUT", "--sink", "video=small.mp4"], 2, "cannot write small.mp4"),
        (["-i", "CLIP", "-o", "OUT", "--set", "resize.widht=3"], 2, "did you mean width?"),
        (["-i", "CLIP", "-o", "OUT", "--ops", "missing.py"], 2, "missing.py does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_run_that_cannot_begin_says_why_and_leaves_nothing(
    cli: Cli, plain: Path, clip: Path, tmp_path: Path, args: list[str], code: int, words: str
) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty.mp4").write_text("")
    places = {"OUT": "out", "TEXT": "text.mp4", "EMPTY": "empty.mp4"}
    given = [str(tmp_path / places[arg]) if arg in places else str(clip) if arg == "CLIP" else arg for arg in args]
    ended = cli("run", plain, *given)
    assert ended.code == code
    assert words in ended.err
    assert "hidden" not in ended.err
    assert "Traceback" not in ended.err
    assert ended.err.startswith("error: ")
    assert len(ended.err.splitlines()) <= 2
    assert not any((tmp_path / "out").rglob("*"))


def test_an_operator_that_always_fails_ends_with_1_and_its_reason(cli: Cli, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "fail.py").write_text(FAILING, encoding="utf-8")
    path = tmp_path / "fail.yaml"
    path.write_text(
        PLAIN.replace("type: resize", "type: acme/fail@v1").replace(', width: "${params.width}"', ""), encoding="utf-8"
    )
    args = ("run", path, "--ops", tmp_path / "fail.py", "-i", clip, "-o", tmp_path / "out", "-q")
    ended = cli(*args)
    assert ended.code == 1
    assert "on purpose" in ended.err
    assert "Traceback" not in ended.err


def test_one_bad_source_among_several_is_named_and_the_rest_is_done(
    cli: Cli, plain: Path, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    ended = cli("run", plain, "-i", clip, "-i", tmp_path / "text.mp4", "-o", tmp_path / "out", "-q")
    assert ended.code == 1
    assert "error: text: " in ended.err
    assert (tmp_path / "out" / "clip" / "small.mp4").is_file()


def test_a_missed_deadline_is_3_and_the_files_are_there(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    ended = cli("run", plain, "-i", clip, "-o", tmp_path / "out", "--slo", "deadline=1ms")
    assert ended.code == 3
    assert "SLO deadline=0.001s: missed" in ended.err
    assert (tmp_path / "out" / "small.mp4").is_file()


@contextmanager
def _running(plain: Path, clip: Path, out: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    # In its own process group, with SIGINT and SIGHUP not ignored (as nohup would have it): a foreground command.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL);"
        "from llamapipe.cli.app import call; sys.exit(call(sys.argv[1:]))"
    )
    args = ["run", str(plain), "-i", str(clip), "-o", str(out), "--realtime", "--loop", "200", *more]
    process = subprocess.Popen([sys.executable, "-c", code, *args], stderr=subprocess.PIPE, text=True)
    try:
        _read_until(process, "running")
        yield process
    finally:
        process.kill()
        process.communicate()


def _read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stderr is not None
    read = ""
    for line in process.stderr:
        read += line
        if line.startswith(word):
            return read
    raise AssertionError(f"it ended without having said {word}: {read}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_interrupt_finishes_every_output(
    plain: Path, clip: Path, tmp_path: Path, number: signal.Signals
) -> None:
    import av

    out = tmp_path / "out"
    with _running(plain, clip, out) as process:
        process.send_signal(number)
        err = process.communicate(timeout=LONG_S)[1]
    assert process.returncode == 130
    assert "stopping" in err
    summary = RunSummary.from_json((out / "run.json").read_bytes())
    assert (summary.outcome, summary.exit_code) == ("cancelled", 130)
    with av.open(str(out / "small.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == summary.frames.delivered > 0


def test_the_second_interrupt_gives_up_and_leaves_no_half_file(clip: Path, tmp_path: Path) -> None:
    """The first one waits for what is being worked on, which takes ten minutes here: the second one does not."""
    out, mark = tmp_path / "out", tmp_path / "mark"
    (tmp_path / "stuck.py").write_text(STUCK, encoding="utf-8")
    pipeline = tmp_path / "stuck.yaml"
    pipeline.write_text(
        PLAIN.replace("type: resize", "type: acme/stuck@v1").replace('width: "${params.width}"', f"mark: {mark}"),
        encoding="utf-8",
    )
    with _running(pipeline, clip, out, "--ops", str(tmp_path / "stuck.py")) as process:
        wait_until(mark.exists, "it is stuck", alive=lambda: process.poll() is None)
        process.send_signal(signal.SIGINT)
        err = _read_until(process, "stopping")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)
        process.send_signal(signal.SIGINT)
        err += process.communicate(timeout=LONG_S)[1]
    assert process.returncode == 130
    assert "gave up" in err
    assert "Traceback" not in err
    assert not out.exists() or list(out.iterdir()) == []


TRUTH = "1,1,10,10,50,50,1,-1,-1,-1\n2,1,12,10,50,50,1,-1,-1,-1\n"


def test_eval_compares_boxes_with_the_truth(cli: Cli, tmp_path: Path) -> None:
    truth, found = tmp_path / "gt.txt", tmp_path / "found.txt"
    truth.write_text(TRUTH)
    found.write_text("1,1,10,10,50,50,0.9\n2,1,200,10,50,50,0.8\n")
    ended = cli("eval", found, truth, "--json")
    result = json.loads(ended.out)
    assert (ended.code, result["truths"], result["ap"]) == (0, 2, {"0.5": 0.5})
    assert "AP@0.5" in cli("eval", found, truth, "--iou", "coco").out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["missing.jsonl", "gt.txt"], "missing.jsonl"),
        (["gt.txt", "missing.txt"], "missing.txt"),
        (["gt.txt", "gt.txt", "--iou", "2"], "--iou"),
        (["bad.txt", "gt.txt"], "bad.txt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_eval_of_what_is_no_such_file_is_one_error(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gt.txt").write_text(TRUTH)
    Path("bad.txt").write_text("a picture, perhaps\n")
    ended = cli("eval", *args)
    assert ended.code in (1, 2)
    assert ended.err.startswith("error: ")
    assert words in ended.err
    assert "bug in llamapipe" not in ended.err


def test_an_error_of_a_stage_names_it_once(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    ended = cli("run", plain, "-i", clip, "-o", tmp_path / "out", "-q", "--set", "params.width=0")
    assert ended.code == 1
    assert ended.err.count("stage") == 1
    assert "stage resize: expected width, height or both, or else max_side, got width 0" in ended.err


def test_a_run_that_is_refused_leaves_no_folder(cli: Cli, plain: Path, clip: Path, tmp_path: Path) -> None:
    """Of all that it was refused for, the last is found when its folders have been made."""
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "mine", tmp_path / "mine" / "new" / "out"):
        ended = cli("run", plain, "-i", clip, "-o", folder, "--shadow", 0.1)
        assert ended.code == 2
        assert list((tmp_path / "mine").iterdir()) == []
