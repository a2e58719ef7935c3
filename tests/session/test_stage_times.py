"""How long frames are at a stage: from when all is ready there until it is done, waiting included."""

from __future__ import annotations

import pytest

from llamapipe.catalog import Configuration
from llamapipe.control import EdgePlan, RunPlan, StagePlan, StreamPlan
from llamapipe.session.stage_times import StageTimes


def stage(name: str, *after: str) -> StagePlan:
    edges = tuple(EdgePlan("in", producer, "out", "boxes") for producer in after)
    return StagePlan(name, name, edges, {"out": "boxes"}, Configuration())


def test_a_join_waits_for_its_latest_producer_and_a_first_stage_for_the_capture() -> None:
    plan = RunPlan("p", (stage("a"), stage("b"), stage("c", "a", "b")), (), (StreamPlan("s"),), ())
    times = StageTimes(plan, 100.0)
    times.arrived("s", 0, [101.0, 102.0])
    times.done("a", [("s", 0, 0), ("s", 1, 0)], 103.0)
    times.done("b", [("s", 0, 0)], 104.0)
    times.done("c", [("s", 0, 0)], 104.5)
    times.done("c", [("s", 0, 1)], 105.0)  # its last item counts
    for seq in (0, 1):
        times.released("s", seq)
    times.released("s", 7)  # an undecodable one
    found = {name: (trace.count, trace.total_s) for name, trace in times.through.items()}
    assert found == {"a": (2, pytest.approx(3.0)), "b": (1, pytest.approx(3.0)), "c": (1, pytest.approx(1.0))}
