"""What a worker process takes to start."""

from __future__ import annotations

import subprocess
import sys

NOT_NEEDED = ["av", "cv2", "networkx", "openvino", "onnxruntime", "pydantic", "rich", "scipy", "typer", "yaml"]


def test_a_worker_imports_nothing_that_only_plans_need() -> None:
    """A lost worker is missed for as long as another one's imports take, and all processes take them at once."""
    program = (
        "import sys, llamapipe.session.worker_process\n"
        "from llamapipe.operator import load_registry\n"
        "load_registry()\n"
        f"print(*[module for module in {NOT_NEEDED!r} if module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
