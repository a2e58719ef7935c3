"""Real runs that an objective holds on fewer cores than there are."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from llamapipe import Pipeline
from llamapipe.control import read_log
from llamapipe.errors import UsageError
from llamapipe.report import RunSummary
from llamapipe.runtime import Machine, read_machine
from llamapipe.runtime.confinement import Confinement
from llamapipe.session import RunRequest, run
from llamapipe.session.planning import explain_plan

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two cores that it may bind to",
)


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pictures of 160x120, 24 a second."""
    path = tmp_path_factory.mktemp("clips") / "even.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for i in range(48):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((120, 160, 3), 4 * i, np.uint8), "bgr24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def request_of(camera: Path, operators: Path, tmp_path: Path):
    def make(**more: object) -> RunRequest:
        pipeline = Pipeline("levels")
        pipeline.add("test/level@v1", name="level", inputs={"frames": pipeline.frames}, outputs={"events": "events"})
        more = {"output": tmp_path / "out", "force": True, "record_events": True} | more
        return RunRequest(pipeline.spec(), [str(camera)], ops_files=[operators], **more)  # type: ignore[arg-type]

    return make


def ran(request: RunRequest, tmp_path: Path) -> RunSummary:
    summary = run(request, env={"LLAMAPIPE_CACHE": str(tmp_path / "cache")})
    assert summary.outcome == "done"
    assert summary.frames.delivered == 48
    return summary


def test_the_second_run_knows_what_the_first_one_needed(request_of, tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    request = request_of(slo="p95=2s", realtime=True)
    first = ran(request, tmp_path)
    assert first.cores[0].cores == len(before)
    assert first.cores[-1].cores == 1
    second = ran(request, tmp_path)
    assert [held.cores for held in second.cores] == [1]
    assert "took" in second.cores[0].why
    assert second.cost is not None
    assert second.cost.reserved < 1.05 * second.wall_s  # of one core
    assert os.sched_getaffinity(0) == before
    plan, _ = read_log((tmp_path / "out" / "events.jsonl").read_bytes().splitlines())
    assert plan.allotted == 2
    planned = explain_plan(request_of(slo="p95=2s", realtime=True), env={"LLAMAPIPE_CACHE": str(tmp_path / "cache")})
    assert planned.cores == 1


def test_a_job_far_from_its_deadline_is_done_on_one_core(request_of, tmp_path: Path) -> None:
    for _ in range(2):
        summary = ran(request_of(slo="deadline=60s"), tmp_path)
    assert [held.cores for held in summary.cores] == [1]


@pytest.mark.parametrize("more", [{}, {"slo": "deadline=60s", "cores": "all"}, {"slo": "deadline=60s", "workers": 2}])
def test_without_an_objective_or_where_somebody_says_so_a_run_has_all(request_of, tmp_path: Path, more) -> None:
    for _ in range(2):
        assert ran(request_of(**more), tmp_path).cores == []


def test_a_number_of_cores_that_is_asked_for_is_what_is_reserved(request_of, tmp_path: Path) -> None:
    summary = ran(request_of(cores=1, realtime=True), tmp_path)
    assert summary.workers == 2
    assert summary.cost is not None
    assert summary.cost.reserved < 1.05 * summary.wall_s


def test_a_limit_to_part_of_a_core_is_left_to_the_system(request_of, tmp_path: Path, monkeypatch) -> None:
    def limited() -> Machine:
        return replace(read_machine(), cores=1.5)

    def refuse(*_: object) -> bool:
        raise AssertionError("nobody has asked for that")

    monkeypatch.setattr("llamapipe.session.prepare.read_machine", limited)
    monkeypatch.setattr("llamapipe.session.execute.read_machine", limited)
    monkeypatch.setattr(Confinement, "to", refuse)
    summary = ran(request_of(realtime=True), tmp_path)
    assert summary.cost is not None
    assert summary.cost.reserved > 1.2 * (summary.wall_s - summary.load_s)


def test_more_cores_than_there_are_cannot_be_asked_for(request_of, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--cores 4096: expected a number from 1 to"):
        ran(request_of(cores=4096), tmp_path)
