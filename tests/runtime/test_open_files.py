"""The limit of open files: raised by what starts processes and by the command line, by no import."""

from __future__ import annotations

import subprocess
import sys

LOW = 256
BEGIN = f"""
import resource, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
hard = 1 << 15 if hard == resource.RLIM_INFINITY else min(hard, 1 << 15)
resource.setrlimit(resource.RLIMIT_NOFILE, ({LOW}, hard))

def tell():
    print(*("all" if limit == hard else limit for limit in resource.getrlimit(resource.RLIMIT_NOFILE)))
"""


def told(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


def test_a_session_with_processes_has_as_many_as_it_may_and_an_import_leaves_the_limit() -> None:
    code = """
from llamapipe.session.serve import Session
session = Session(profiles=[])
tell()
with session:
    tell()
"""
    assert told(code) == [f"{LOW} all", "all all"]


def test_a_session_in_threads_leaves_the_limit() -> None:
    code = "from llamapipe.session.serve import Session\nwith Session(profiles=[], workers='thread'): tell()"
    assert told(code) == [f"{LOW} all"]


def test_the_command_line_has_as_many_as_it_may() -> None:
    code = (
        "from llamapipe.cli import app\nimport llamapipe.runtime\ntell()\napp.call = lambda args: tell()\napp.run_cli()"
    )
    assert told(code) == [f"{LOW} all", "all all"]
