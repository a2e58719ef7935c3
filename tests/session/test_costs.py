"""What a run costs: reserved device time and the part of invocations, in core-seconds or in money."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamapipe.catalog import Configuration, Variant
from llamapipe.control import EdgePlan, RunPlan, SinkPlan, StagePlan, StreamPlan, WorkerPlan
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.session import RunRequest, run
from llamapipe.session.costs import CostMeter, prices_for
from llamapipe.spec import CORE_SECONDS, Prices

PRICES = "version: 1\ncurrency: EUR\ndevices: {cpu: {per_second: 2}, cuda: {per_second: 10}}\n"
PIPELINE = """
name: small
ops:
  - {name: resize, type: resize, inputs: $source.frames, width: 160}
sinks:
  - {type: video, input: $ops.resize.frames, path: small.mp4}
"""


def plan(variant: Variant | None = None) -> RunPlan:
    return RunPlan(
        "p",
        (StagePlan("detect", "detect", (), {}, Configuration(variant)),),
        (SinkPlan("video", "llamapipe/video@v1", (EdgePlan("input", "", "frames", "frames"),), params={"threads": 1}),),
        (StreamPlan("s"),),
        (WorkerPlan("w"),),
    )


def metered(run_plan: RunPlan, prices: Prices, cores: float = 8) -> CostMeter:
    meter = CostMeter(run_plan, prices, cores=cores, decoders={"s": 2})
    meter.event(ev.Start(), 0.0, [act.StartWorker("w")])
    meter.event(ev.StreamEnded("s", 10), 4.0, [])
    meter.event(ev.WorkerLost("w", "killed"), 5.0, [act.StartWorker("w", 1)])
    meter.event(ev.StreamClosed("s"), 6.0, [])
    return meter


def test_workers_decoders_and_encoders_count_from_start_to_end() -> None:
    cost = metered(plan(), CORE_SECONDS).summary(10.0, 1.5, 100)
    assert (cost.unit, cost.reserved_by) == ("core-s", {"workers": 10.0, "decode": 8.0, "encode": 6.0})
    assert (cost.reserved, cost.marginal, cost.reserved_per_1000_frames) == (24.0, 1.5, 240.0)


def test_no_more_cores_are_reserved_than_there_are() -> None:
    cost = metered(plan(), CORE_SECONDS, cores=2).summary(10.0, 0.0, 0)
    assert cost.reserved == pytest.approx(2 * 4 + 2 * 2 + 1 * 4)
    assert cost.reserved_per_1000_frames is None


def test_wide_replicas_hold_their_threads_and_accelerators_their_price() -> None:
    prices = Prices.model_validate(
        {"currency": "EUR", "devices": {"cpu": {"per_second": 2}, "cuda": {"per_second": 10}}}
    )
    wide = metered(plan(Variant("m", "onnxruntime", threads=3)), prices).summary(10.0, 0.0, 1)
    assert wide.reserved_by["workers"] == 3 * 10 * 2
    gpu = metered(plan(Variant("m", "tensorrt", "cuda:0")), prices)
    assert gpu.summary(10.0, 0.0, 1).reserved_by["workers"] == 10 * (2 + 10)
    assert gpu.rates == {"detect": [10.0]}


def test_the_users_own_prices_hold_unless_others_are_named(tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path), "HOME": "/nowhere"}
    assert prices_for(None, env) is CORE_SECONDS
    (tmp_path / "llamapipe").mkdir()
    (tmp_path / "llamapipe" / "prices.yaml").write_text(PRICES)
    assert prices_for(None, env).unit == "EUR"
    other = tmp_path / "other.yaml"
    other.write_text(PRICES.replace("EUR", "USD"))
    assert prices_for(other, env).unit == "USD"
    assert prices_for(None, {"LLAMAPIPE_CONFIG": str(tmp_path / "llamapipe")}).unit == "EUR"


def test_a_run_says_what_it_cost(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "prices.yaml").write_text(PRICES)
    (tmp_path / "small.yaml").write_text(PIPELINE)
    request = RunRequest(tmp_path / "small.yaml", [str(clip)], output=tmp_path / "out", prices=tmp_path / "prices.yaml")
    summary = run(request)
    cost = summary.cost
    assert cost is not None
    assert cost.unit == "EUR"
    assert 0 < cost.marginal <= cost.reserved
    assert cost.reserved == pytest.approx(sum(cost.reserved_by.values())) == pytest.approx(2 * cost.device_s["cpu"])
    assert all(part > 0 for part in cost.reserved_by.values())
    assert summary.cost_core_s == cost.device_s["cpu"]
    assert summary.stages[0].cost == pytest.approx(2 * summary.stages[0].busy_s)
    assert "EUR" in (tmp_path / "out" / "report.html").read_text()
