"""One process from the engine's side: how it is told who it is, how it ends, and what is kept of what it writes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llamapipe.clock import system_env
from llamapipe.errors import LlamapipeError
from llamapipe.runtime import ProcessWorker, process
from llamapipe.runtime.process import ProcessBoot, _keep_short


class OwnBoot(ProcessBoot, frozen=True, kw_only=True):
    module: ClassVar[str] = "own"


Make = Callable[..., ProcessWorker]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A worker whose process runs ``code``, and is told ``length`` bytes at least."""

    def worker(code: str, length: int = 0) -> ProcessWorker:
        (tmp_path / "own.py").write_text(code)
        null = os.open(os.devnull, os.O_RDONLY)
        boot = OwnBoot(name="r0", identity="r0", address="", token="", fd=null, slot_bytes=1, cache_root="x" * length)
        return ProcessWorker("r0", boot, {**system_env(), "PYTHONPATH": str(tmp_path)})

    return worker


def test_nobody_waits_for_a_process_that_has_much_to_be_told(make: Make, tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
while not Path({str(tmp_path / "go")!r}).exists():
    time.sleep(0.01)
size = int.from_bytes(sys.stdin.buffer.read(8), "little")
sys.exit(5 if len(sys.stdin.buffer.read(size)) == size > 300_000 else 6)
"""
    worker = make(code, 300_000)
    worker.start("ipc://@nobody")
    (tmp_path / "go").touch()
    assert worker.reap(wait_s=60) == "process ended with exit code 5"


def test_a_process_that_ends_before_it_was_told_all_says_how_it_ended(make: Make) -> None:
    worker = make("import sys; sys.stdin.buffer.read(8); sys.exit(3)", 300_000)
    worker.start("ipc://@nobody")
    assert worker.reap(wait_s=60) == "process ended with exit code 3"


def test_a_process_that_ended_while_its_input_was_not_written_yet_says_how_it_ended(make: Make) -> None:
    worker = make("import sys; sys.exit(3)")
    worker.start("ipc://@nobody")
    assert worker._process is not None
    worker._process.wait()
    assert worker._process.stdin is not None
    worker._process.stdin.write(b"late")  # it is in the buffer, and goes nowhere
    assert worker.reap() == "process ended with exit code 3"


def test_a_signal_without_a_name_is_told_by_its_number(make: Make) -> None:
    worker = make(f"import os; os.kill(os.getpid(), {signal.SIGRTMIN + 1})")
    worker.start("ipc://@nobody")
    assert worker.reap(wait_s=60) == f"process was killed by signal {signal.SIGRTMIN + 1}"


def test_a_process_that_cannot_be_watched_is_not_left_behind(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = process._start

    def remember(*args: Any) -> Any:
        found = start(*args)
        started.append(found.process)
        return found

    def no_more(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(process, "_start", remember)
    monkeypatch.setattr(os, "pidfd_open", no_more)
    worker = make("input()")
    with pytest.raises(LlamapipeError, match="worker r0 cannot be started: Too many open files"):
        worker.start("ipc://@nobody")
    assert started[0].returncode == -signal.SIGKILL
    assert worker.pid is None


def test_a_process_is_started_once(make: Make) -> None:
    worker = make("input()")
    told = worker.start("ipc://@nobody")
    pid = worker.pid
    assert (worker.start("ipc://@nobody"), worker.pid) == (told, pid)
    worker.kill()
    worker.reap()


def test_of_what_a_process_writes_the_end_is_kept(make: Make) -> None:
    code = """
import sys
from llamapipe.runtime.process import _keep_short
for i in range(40):
    print(f"{i} ", "x" * 100_000, flush=True)
    _keep_short(2)
sys.exit("it broke")
"""
    worker = make(code)
    worker.env = {**worker.env, "PYTHONPATH": os.pathsep.join([worker.env["PYTHONPATH"], str(Path.cwd())])}
    worker.start("ipc://@nobody")
    assert worker._process is not None
    worker._process.wait(60)
    assert 100_000 < os.fstat(worker._errors.fileno()).st_size < 1_300_000
    assert worker.reap() == "process ended with exit code 1: it broke"


def test_a_file_that_has_a_name_is_left_as_it_is(tmp_path: Path) -> None:
    with (tmp_path / "log").open("a+b") as named, (tmp_path / "gone").open("a+b") as nameless:
        (tmp_path / "gone").unlink()
        for file in (named, nameless):
            file.write(b"x" * (2 << 20))
            file.flush()
            _keep_short(file.fileno())
        assert os.fstat(named.fileno()).st_size == 2 << 20
        assert os.fstat(nameless.fileno()).st_size == 1 << 16
    read, write = os.pipe()
    _keep_short(write)
    os.close(read)
    os.close(write)
