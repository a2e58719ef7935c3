"""Spare processes: they prepare beside everything else, become whoever is wanted, and are gone with their owner."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from llamapipe.clock import system_env
from llamapipe.runtime import ProcessWorker, Spares
from llamapipe.runtime.process import ProcessBoot
from llamapipe.runtime.serving.replica import ReplicaBoot
from tests.processes import wait_until

PREPARED = """
import os


def prepare():
    print(os.sched_getscheduler(0), os.sched_getscheduler(os.getpid()), flush=True)


def main():
    print("told", os.sched_getscheduler(0))


print("imported", os.sched_getscheduler(0))
"""


@pytest.fixture
def spares() -> Iterator[Spares]:
    made = Spares(ReplicaBoot.module, os.open(os.devnull, os.O_RDONLY), system_env())
    yield made
    made.close()


def test_a_spare_prepares_at_least_priority_and_works_at_the_usual_one(tmp_path: Path) -> None:
    """Nobody but root gets a thread back from the least priority: the one that works must never have had it."""
    (tmp_path / "prepared.py").write_text(PREPARED)
    process = subprocess.Popen(
        [sys.executable, "-m", "llamapipe.runtime.spare", "prepared"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    told, _ = process.communicate("go")
    idle, usual = str(os.SCHED_IDLE), str(os.SCHED_OTHER)
    assert told.split() == ["imported", idle, idle, usual, "told", usual]


def test_a_spare_is_taken_once_and_another_comes_when_asked_for(spares: Spares) -> None:
    assert spares.take() is None
    spares.fill()
    spares.fill()
    first = spares.take()
    assert first is not None
    assert spares.take() is None
    first.process.communicate()  # its input ends before it was told who it is
    assert first.process.returncode == 0
    first.errors.seek(0)
    assert first.errors.read() == b""
    first.errors.close()


def test_a_spare_that_has_died_is_nobody(spares: Spares) -> None:
    spares.fill()
    assert spares._spare is not None
    spares._spare.process.kill()
    spares._spare.process.wait()
    assert spares.take() is None


def test_a_held_spare_waits_where_it_is_until_it_may_go_on(spares: Spares) -> None:
    spares.fill()
    spares.hold()
    assert spares._spare is not None
    stat = Path(f"/proc/{spares._spare.process.pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    assert not spares.prepared
    spares.go_on()
    wait_until(lambda: spares.prepared)
    spares.hold()
    assert stat.read_text().rpartition(")")[2].split()[0] != "T"  # it has nothing to do that could be in the way


def test_a_held_spare_that_is_taken_goes_on(spares: Spares) -> None:
    spares.fill()
    spares.hold()
    taken = spares.take()
    assert taken is not None
    taken.process.communicate(timeout=60)
    assert taken.process.returncode == 0
    taken.errors.close()


def test_a_process_keeps_to_its_cores_from_its_first_moment(tmp_path: Path) -> None:
    """Not only once it has been told who it is: until then its imports would be in the way of others."""
    (tmp_path / "affine.py").write_text("import os; print(*os.sched_getaffinity(0), flush=True); input()")

    class AffineBoot(ProcessBoot, frozen=True, kw_only=True):
        module: ClassVar[str] = "affine"

    mine = os.sched_getaffinity(0)
    core = max(mine)
    with open(os.devnull) as nothing:
        boot = AffineBoot(
            name="r0", identity="r0", address="", token="", fd=nothing.fileno(), slot_bytes=1, cores=(core,)
        )
        env = {**system_env(), "PYTHONPATH": str(tmp_path)}
        worker = ProcessWorker("r0", boot, env)
        worker.start("ipc://@nobody")
        assert os.sched_getaffinity(0) == mine
        wait_until(lambda: os.pread(worker._errors.fileno(), 1, 0))
        assert os.pread(worker._errors.fileno(), 100, 0).decode().split() == [str(core)]
        worker.kill()
        worker.reap()


def test_that_no_spare_can_be_started_is_no_error(spares: Spares, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "eventfd", no_more)
    spares.fill()
    assert spares.take() is None


def test_no_spare_calls_the_maker_of_openvino() -> None:
    pytest.importorskip("openvino")
    code = "import sys; from llamapipe.runtime.serving.replica_process import prepare; prepare(); "
    code += "assert 'openvino' in sys.modules; assert 'openvino_telemetry' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
