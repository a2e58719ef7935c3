"""What happens when something goes wrong in a real run, once each; docs/faults.md has it a hundred times each."""

from __future__ import annotations

import http.server
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.media.sinks.clips import make_clip
from tests.processes import children, marked, memory_of, wait_until
from tests.session.conftest import clip

__all__ = ["clip"]

OPERATORS = '''
import time
from pathlib import Path
from typing import Any, ClassVar

from llamapipe.data import Event, Events, Image
from llamapipe.operator import Inputs, Manifest, Operator, Outputs, Param, Port, PortKind, State, operator


@operator("test/level@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
def level(frames: Image, *, wait_s: float = 0.0, fails: int = 0, slow: int = 0, marks: str = "") -> Events:
    """How bright the picture is. Every so manieth frame it fails, or takes ten times as long, at first."""
    for what, each in (("fails", fails), ("slow", slow)):
        mark = Path(marks) / f"{what}-{frames.seq}"
        if each and frames.seq % each == each - 1 and not mark.exists():
            mark.touch()
            if what == "fails":
                raise ValueError("not this time")
            time.sleep(10 * wait_s)
    if frames.seq == 20:
        (Path(marks) / "begun").touch()
    time.sleep(wait_s)
    return Events([Event("level", value=float(frames.bgr.mean()))])


class Sum(Operator):
    """Adds up how bright the pictures were so far."""

    manifest: ClassVar[Manifest] = Manifest(
        type="test/sum@v1",
        doc="Adds up.",
        inputs={"frames": Port(PortKind.FRAMES)},
        outputs={"events": Port(PortKind.EVENTS)},
        state=State.PER_STREAM,
    )
    total = 0.0

    def process(self, inputs: Inputs) -> Outputs:
        self.total += float(inputs["frames"].bgr.mean())
        return {"events": Events([Event("total", value=self.total)])}

    def snapshot(self) -> Any:
        return {"total": self.total}

    def restore(self, state: Any) -> None:
        self.total = state["total"]
'''

PIPELINE = """
version: 1
name: faults
params: {{wait_s: 0.01, fails: 0, slow: 0, marks: ""}}
ops:
  - name: level
    type: test/level@v1
    inputs: $source.frames
    wait_s: ${{params.wait_s}}
    fails: ${{params.fails}}
    slow: ${{params.slow}}
    marks: ${{params.marks}}
  - {{name: sum, type: test/sum@v1, inputs: $source.frames}}
sinks:
  - {{type: llamapipe/jsonl@v1, inputs: [$ops.level.events, $ops.sum.events], path: lines.jsonl}}
  - {{type: llamapipe/video@v1, input: $source.frames, path: out.mp4}}
{more}
"""

LOOPS = 20
FRAMES = 12 * LOOPS  # of the clip, so often


class Place:
    """A folder to run in."""

    def __init__(self, folder: Path, clip: Path) -> None:
        self.folder, self.clip = folder, clip
        self.mark = f"TEST_PLACE={folder}"  # in the environment of all that is started here
        (folder / "operators.py").write_text(OPERATORS)
        (folder / "marks").mkdir()

    def start(self, name: str, *options: str, more: str = "", limit_bytes: int = 0) -> subprocess.Popen[bytes]:
        """`llamapipe run`, in the background. ``limit_bytes``: no file may become larger."""
        pipeline = self.folder / f"{name}.yaml"
        pipeline.write_text(PIPELINE.format(more=more))
        command = [sys.executable, "-m", "llamapipe", "run", str(pipeline), "-i", str(self.clip), "-q"]
        command += ["-o", str(self.folder / name), "--ops", str(self.folder / "operators.py")]
        command += ["--set", f"params.marks={self.folder / 'marks'}", *options]

        def limit() -> None:
            if limit_bytes:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

        with (self.folder / "said").open("wb") as said:
            env = {**os.environ, "TEST_PLACE": str(self.folder)}
            return subprocess.Popen(command, stderr=said, preexec_fn=limit, env=env)

    def run(self, name: str, *options: str, loops: int = LOOPS, **more: Any) -> tuple[int, str]:
        """Exit code and what it said."""
        code = self.start(name, "--loop", str(loops), *options, **more).wait(120)
        return code, (self.folder / "said").read_text()

    def lines(self, name: str) -> list[str]:
        return (self.folder / name / "lines.jsonl").read_text().splitlines()

    def summary(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / name / "run.json").read_text())
        return found

    def unfinished(self, name: str) -> list[str]:
        """Files and folders that should not be there when it is over."""
        return [str(path) for path in (self.folder / name).rglob("*") if path.name.startswith(".")]

    def wait_until_it_runs(self, run: subprocess.Popen[bytes]) -> None:
        """Until some frames have been worked on."""
        wait_until((self.folder / "marks" / "begun").exists, "it runs", alive=lambda: run.poll() is None)


@pytest.fixture
def place(tmp_path: Path, clip: Path) -> Iterator[Place]:
    """Afterwards, no process is there that came of it: with the last one goes the memory that they shared."""
    place = Place(tmp_path, clip)
    yield place
    wait_until(lambda: not marked(place.mark), lambda: f"left: {marked(place.mark)}", timeout_s=20)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> list[str]:
    place = Place(tmp_path_factory.mktemp("undisturbed"), clip)
    assert place.run("a") == (0, "")
    return place.lines("a")


def test_a_killed_worker_changes_nothing_and_leaves_nothing(place: Place, undisturbed: list[str]) -> None:
    run = place.start("a", "--loop", str(LOOPS), "--workers", "process:2")
    place.wait_until_it_runs(run)
    os.kill(children(run.pid)[0], signal.SIGKILL)
    assert run.wait(60) == 0
    assert place.lines("a") == undisturbed
    assert "SIGKILL" in str(place.summary("a")["notes"])
    assert place.unfinished("a") == []


def test_a_worker_that_is_stopped_for_a_while_changes_nothing_and_is_kept(place: Place, undisturbed: list[str]) -> None:
    run = place.start("a", "--loop", str(LOOPS), "--workers", "process:2")
    place.wait_until_it_runs(run)
    stopped = children(run.pid)[0]
    os.kill(stopped, signal.SIGSTOP)
    time.sleep(2.5)
    os.kill(stopped, signal.SIGCONT)
    assert run.wait(60) == 0
    assert place.lines("a") == undisturbed
    assert place.summary("a")["notes"] == []


def test_invocations_that_fail_or_are_slow_at_first_change_nothing(place: Place, undisturbed: list[str]) -> None:
    options = ("--set", "params.fails=33", "--set", "params.slow=35", "--set", "params.wait_s=0.04")
    assert place.run("a", *options, "--workers", "process:2")[0] == 0
    marks = Counter(mark.name.partition("-")[0] for mark in (place.folder / "marks").glob("*-*"))
    assert marks == {"fails": FRAMES // 33, "slow": FRAMES // 35}
    assert place.lines("a") == undisturbed
    frames = place.summary("a")["frames"]
    assert frames["delivered"] == frames["decoded"] == FRAMES


def test_a_killed_run_leaves_no_process_and_is_gone_on_with(place: Place, undisturbed: list[str]) -> None:
    run = place.start("a", "--loop", str(LOOPS), "--workers", "process:2")
    place.wait_until_it_runs(run)
    left = children(run.pid)
    assert {run.pid, *left} <= set(marked(place.mark))
    assert all(map(memory_of, left))
    run.kill()
    run.wait()
    wait_until(lambda: not marked(place.mark), "its workers go on without it", timeout_s=20)
    code, said = place.run("a", "--workers", "process:2", "--resume")
    assert (code, place.lines("a")) == (0, undisturbed), said
    assert place.unfinished("a") == []


def test_a_run_into_the_folder_of_a_killed_one_leaves_nothing_of_it(place: Place, undisturbed: list[str]) -> None:
    run = place.start("a", "--loop", str(LOOPS))
    place.wait_until_it_runs(run)
    run.kill()
    run.wait()
    assert place.run("a", "--force")[0] == 0
    assert place.lines("a") == undisturbed
    assert place.unfinished("a") == []


@pytest.mark.parametrize("kind", ["2", "process:2"])
def test_ctrl_c_finishes_every_output_and_leaves_nothing(place: Place, undisturbed: list[str], kind: str) -> None:
    run = place.start("a", "--loop", str(50 * LOOPS), "--workers", kind)
    place.wait_until_it_runs(run)
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 130
    frames = place.summary("a")["frames"]
    lines = place.lines("a")
    assert 0 < frames["delivered"] <= frames["decoded"] < 50 * FRAMES
    assert lines[: len(undisturbed)] == undisturbed[: len(lines)]
    assert (place.folder / "a" / "out.mp4").exists()
    assert place.unfinished("a") == []


def test_a_full_disk_stops_the_run_with_its_reason_and_leaves_nothing_half_written(place: Place) -> None:
    code, said = place.run("a", limit_bytes=10_000)
    assert code == 1
    assert said.startswith("error: ")
    assert "lines.jsonl" in said or "out.mp4" in said
    assert {path.name for path in (place.folder / "a").iterdir()} <= {"run.json"}
    frames = place.summary("a")["frames"]
    ended = sum(sum(frames[how].values()) for how in ("filtered", "dropped", "failed"))
    assert frames["decoded"] == frames["delivered"] + ended + frames["cancelled"]


def test_a_slow_consumer_of_a_paced_source_gets_every_frame_that_was_not_dropped(place: Place, tmp_path: Path) -> None:
    received: list[int] = []
    begun = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            lines = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.extend(line["frame"] for line in lines if "outcome" not in line)
            if received and received[-1] >= 30 and not begun.is_set():
                begun.set()
                time.sleep(3.0)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Keep the output clean."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        hook = f'  - {{type: llamapipe/webhook@v1, inputs: [$ops.level.events], url: "{address}", batch: 1}}'
        place.clip = make_clip(  # of so many pictures a second that nobody has room for those of 3 s
            tmp_path / "fast.mp4", times=range(400), time_base=Fraction(1, 100), size=(64, 48), rate=100
        )
        options = ("--realtime", "--drop-policy", "drop-oldest", "--set", "params.wait_s=0")
        code, said = place.run("a", *options, loops=1, more=hook)
        server.shutdown()
    frames = place.summary("a")["frames"]
    assert code == 0, said
    assert frames["decoded"] == frames["delivered"] + sum(frames["dropped"].values()) == 400
    assert sum(frames["dropped"].values()) > 0
    assert len(received) == frames["delivered"]
    assert received == sorted(set(received))
