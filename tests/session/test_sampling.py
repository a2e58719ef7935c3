"""What a plan looks at where no stage has a model: a few frames, and nothing stays of it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from llamapipe.report import PlanView
from llamapipe.session import RunRequest, run
from llamapipe.session.planning import explain_plan
from llamapipe.spec import OpSpec, PipelineSpec, SinkSpec
from tests.media.sinks.clips import make_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 pictures a second, as it says: what a clip says decides how many a second have to be done."""
    return make_clip(tmp_path_factory.mktemp("clips") / "even.mp4", times=range(25), time_base=Fraction(1, 25), rate=25)


def planned(clip: Path, tmp_path: Path, *, path: str | None = None, **more: object) -> PlanView:
    ops = (OpSpec(name="old", type="llamapipe/vintage@v1", inputs={"frames": ("$source.frames",)}),)
    sink = SinkSpec(name="video", type="llamapipe/video@v1", inputs=("$ops.old.frames",), path=path)
    request = RunRequest(PipelineSpec(name="looks", ops=ops, sinks=(sink,)), [str(clip)], **more)  # type: ignore[arg-type]
    return explain_plan(request, env={"LLAMAPIPE_CACHE": str(tmp_path / "cache")})


def test_stages_have_times_and_budgets_and_what_no_frame_can_do_is_infeasible(clip: Path, tmp_path: Path) -> None:
    fine = planned(clip, tmp_path, realtime=True, slo="p95=10s")
    assert fine.feasible
    assert fine.stages[0].takes_ms
    assert fine.stages[0].budget_ms == pytest.approx(10_000)
    for slo in ("p95=0.01ms", "p50=0.01ms"):
        assert planned(clip, tmp_path, realtime=True, slo=slo).feasible is False
    assert not [path for path in tmp_path.iterdir() if path.name != "cache"]


def test_a_deadline_is_shared_by_what_stages_took_before_the_run_and_in_it(clip: Path, tmp_path: Path) -> None:
    view = planned(clip, tmp_path, slo="deadline=30s")
    assert view.stages[0].budget_ms
    assert view.stages[0].takes_ms
    ops = tuple(
        OpSpec(name=name, type="llamapipe/vintage@v1", inputs={"frames": (source,)})
        for name, source in (("old", "$source.frames"), ("older", "$ops.old.frames"))
    )
    sink = SinkSpec(name="video", type="llamapipe/video@v1", inputs=("$ops.older.frames",))
    asked = RunRequest(
        PipelineSpec(name="looks", ops=ops, sinks=(sink,)),
        [str(clip)],
        output=tmp_path / "out",
        slo="deadline=30s",
        workers=1,
    )
    summary = run(asked, env={"LLAMAPIPE_CACHE": str(tmp_path / "cache")})
    shares = [(stage.budget_ms or 0.0, stage.frame_ms or 0.0) for stage in summary.stages]
    left_ms = 1000 * (30 - summary.waited_s - summary.load_s) / summary.frames.decoded
    assert sum(budget_ms for budget_ms, _ in shares) == pytest.approx(left_ms, rel=0.01)
    assert shares[0][0] / shares[1][0] == pytest.approx(shares[0][1] / shares[1][1])
    assert sum(frame_ms for _, frame_ms in shares) < left_ms
    assert summary.plan is not None
    assert [stage.budget_ms for stage in summary.plan.stages] == [budget_ms for budget_ms, _ in shares]


def test_the_price_of_a_core_counts(clip: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("version: 1\ncurrency: EUR\ndevices: {cpu: {per_second: 2}}\n", encoding="utf-8")
    view = planned(clip, tmp_path, realtime=True, slo="p95=10s", prices=prices)
    assert view.predicted_core_s
    assert view.predicted_cost == pytest.approx(2 * view.predicted_core_s)


def test_where_a_sink_would_write_elsewhere_nothing_is_looked_at(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "kept.mp4"
    view = planned(clip, tmp_path, path=str(path), realtime=True, slo="p95=0.01ms")
    assert not path.exists()
    assert (view.feasible, view.stages[0].takes_ms) == (None, None)
    assert view.reason == "no stage has a model, and no frames were looked at"
