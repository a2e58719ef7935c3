"""OpenVINO tells nobody that it was imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
sys.path[:0] = os.environ["SEARCH"].split(os.pathsep)
from llamapipe.inference.backends.openvino import OpenVino
from llamapipe.inference.backends.untold import openvino
{what}
assert "openvino" in sys.modules
assert "openvino_telemetry" not in sys.modules
"""


@pytest.mark.parametrize(
    "what",
    ["assert OpenVino().status().available", "assert openvino().opset13.reshape"],
)
def test_a_fresh_home_stays_empty(what: str, tmp_path: Path) -> None:
    """Not even an id is left there, and nothing is sent."""
    pytest.importorskip("openvino")
    # No CI in this environment: there, the package would keep still by itself.
    env = {"HOME": str(tmp_path), "PATH": "", "SEARCH": ":".join(path for path in sys.path if path)}
    program = PROGRAM.format(what=what)
    subprocess.run([sys.executable, "-c", program], env=env, check=True, timeout=60)
    assert list(tmp_path.rglob("*")) == []


def test_a_program_may_import_the_telemetry_afterwards(tmp_path: Path) -> None:
    """The package is only hidden while OpenVINO is imported."""
    pytest.importorskip("openvino_telemetry")
    what = "openvino(); assert sys.modules.get('openvino_telemetry', 0) == 0"
    env = {"HOME": str(tmp_path), "PATH": "", "SEARCH": ":".join(path for path in sys.path if path)}
    program = PROGRAM.format(what=what)
    subprocess.run([sys.executable, "-c", program], env=env, check=True, timeout=60)
