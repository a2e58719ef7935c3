"""A script that defines its own operators and runs a pipeline of them: executed once, also with worker processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = '''\
from llamapipe import Pipeline
from llamapipe.data import Event, Events, Image
from llamapipe.operator import operator

@operator("acme/level@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
def level(frames: Image) -> Events:
    """How bright."""
    return Events([Event("level", value=float(frames.bgr.mean()))])

with Pipeline("own") as pipeline:
    ports = {"inputs": {"frames": pipeline.frames}, "outputs": {"events": "events"}}
    pipeline.add("acme/level@v1", name="level", **ports)

'''
LOOP = (
    "print('n', sum(len(r.events('level').items) for r in pipeline.run(CLIP, ops_files=[__file__], workers=WORKERS)))"
)


def executed(folder: Path, clip: Path, workers: str, *, guarded: bool) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    loop = LOOP.replace("CLIP", repr(str(clip))).replace("WORKERS", repr(workers))
    script.write_text(SCRIPT + (f"if __name__ == '__main__':\n    {loop}\n" if guarded else f"{loop}\n"))
    return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("workers", "guarded"), [("thread:1", False), ("thread:1", True), ("process:1", True)])
def test_a_script_runs_its_own_operators(tmp_path: Path, clip: Path, workers: str, guarded: bool) -> None:
    done = executed(tmp_path, clip, workers, guarded=guarded)
    assert (done.stdout, done.stderr, done.returncode) == ("n 12\n", "", 0)


def test_a_script_whose_work_is_not_guarded_says_so_instead_of_starting_itself_over(tmp_path: Path, clip: Path) -> None:
    done = executed(tmp_path, clip, "process:1", guarded=False)
    assert done.returncode == 1
    assert "put what it runs under: if __name__ == '__main__':" in done.stderr
