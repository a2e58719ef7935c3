"""What a plan counts: every stage as often as it works on a frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from llamapipe.report import PlanView
from llamapipe.session import RunRequest, run
from llamapipe.session.planning import explain_plan

PIPELINE = """
version: 1
name: looks
slo: {latency_p95_ms: 10000}
ops:
  - {name: often, type: motion, inputs: $source.frames}
  - {name: seldom, type: motion, inputs: $source.frames, when: any($ops.often.events)}
sinks:
  - {type: jsonl, inputs: [$ops.often.events, $ops.seldom.events]}
"""


@pytest.fixture
def still(tmp_path: Path) -> Path:
    """Two seconds at 25 frames a second in which nothing happens."""
    path = tmp_path / "still.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 90, np.uint8), format="bgr24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_stage_that_frames_pass_by_costs_less_once_a_run_has_shown_it(still: Path, tmp_path: Path) -> None:
    path = tmp_path / "looks.yaml"
    path.write_text(PIPELINE, encoding="utf-8")
    env = {"LLAMAPIPE_CACHE": str(tmp_path / "cache")}

    def planned() -> PlanView:
        return explain_plan(RunRequest(path, [str(still)], realtime=True), env=env)

    assert [stage.items for stage in planned().stages] == [1.0, 1.0]
    summary = run(RunRequest(path, [str(still)], output=tmp_path / "out", realtime=True), env=env)
    assert summary.outcome == "done"
    often, seldom = planned().stages
    assert often.items == 1.0
    assert seldom.items < 0.1
