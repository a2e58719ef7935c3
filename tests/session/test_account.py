"""What a run is judged by: whole frames, whichever sink is listed first, and what of them was in time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from msgspec.structs import replace

from llamapipe.catalog import Configuration, Variant
from llamapipe.control import Controller, EdgePlan, RunPlan, SinkPlan
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.report import FrameCounts, LatencyTrace, RunSummary, SloResult
from llamapipe.session import RunRequest, run
from llamapipe.session.account import _knobs, _slo
from llamapipe.session.checkpoints import Tallies
from llamapipe.session.leaving import Leaving
from llamapipe.session.objective import Objective
from llamapipe.session.watch import Watcher
from llamapipe.spec import OpSpec, PipelineSpec, SinkSpec, parse_slo
from llamapipe.wire import Done, ItemOutputs
from tests.control.plans import detect_only

OPERATORS = '''
from llamapipe.data import Event, Events, Image
from llamapipe.operator import operator


@operator("test/half@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
def half(frames: Image) -> Events:
    """Cannot stand every other picture."""
    if frames.seq % 2:
        raise ValueError("cannot stand this one")
    return Events([Event("seen")])
'''
FPS = 20


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An operator, and a clip of two seconds."""
    folder = tmp_path_factory.mktemp("account")
    (folder / "half.py").write_text(OPERATORS)
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(2 * FPS):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 20 + 4 * i, np.uint8), format="bgr24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return folder


def pipeline(*sinks: tuple[str, str]) -> PipelineSpec:
    """Every frame, and two a second of them; ``sinks`` are (file, stage)."""
    source = {"frames": ("$source.frames",)}
    ops = (
        OpSpec(name="all", type="llamapipe/resize@v1", inputs=source, params={"width": 64}),
        OpSpec(name="few", type="llamapipe/sample@v1", inputs=source, params={"fps": 2.0}),
    )
    made = [SinkSpec(name=s, type="llamapipe/frames@v1", inputs=(f"$ops.{s}.frames",), path=p) for p, s in sinks]
    return PipelineSpec(name="two", ops=ops, sinks=tuple(made))


def two_sinks(*names: str, **more: Any) -> RunPlan:
    made = tuple(SinkPlan(name, "test/out@v1", (EdgePlan("input", "detect", "boxes", "boxes"),)) for name in names)
    return detect_only(sinks=made, workers=1, **more)


def watcher(plan: RunPlan, slo: str, **more: Any) -> Watcher:
    return Watcher(
        Controller(plan),
        started_s=100.0,
        num_frames=None,
        objective=Objective(parse_slo(slo)),
        on_progress=None,
        log=None,
        **more,
    )


def tell(watch: Watcher, at_s: float, *actions: act.Action) -> None:
    watch.event(ev.Tick(), at_s, list(actions))


@pytest.mark.parametrize("names", [("quick", "slow"), ("slow", "quick")])
def test_a_frame_is_as_late_as_its_last_sink_whatever_the_order(names: tuple[str, str]) -> None:
    told: list[tuple[float, float]] = []
    governor: Any = SimpleNamespace(event=lambda *_: None, delivered=told.extend, held=[])
    watch = watcher(two_sinks(*names), "p95=1s", governor=governor)
    tell(watch, 101.0, *(act.Deliver("cam0", seq, name, "delivered") for name in names for seq in (0, 1)))
    watch.delivered("cam0", "quick", [(101.1, 0.1), (101.2, 0.2)])
    assert (watch.latency.count, watch.first_delivered_s, told) == (0, None, [])
    watch.delivered("cam0", "slow", [(103.0, 2.0)])
    tell(watch, 103.1, act.Release("cam0", 0))
    watch.delivered("cam0", "slow", [(103.2, 0.5)])
    assert (watch.latency.count, watch.latency.max_s, watch.in_time) == (2, 2.0, 1)
    assert (watch.first_delivered_s, watch.last_delivered_s) == (103.0, 103.2)
    assert told == [(103.0, 2.0), (103.2, 0.5)]
    tell(watch, 103.3, act.Release("cam0", 1))
    assert len(watch.leaving) == 0


@pytest.mark.parametrize("names", [("all", "few"), ("few", "all")])
def test_a_frame_that_is_kept_from_one_sink_counts_and_one_that_is_lost_at_one_does_not(
    names: tuple[str, str],
) -> None:
    left: list[tuple[str, float, float]] = []
    leaving = Leaving(2, lambda *frame: left.append(frame))
    ends = {
        "all": ["delivered", "delivered", "delivered", "filtered", "cancelled"],
        "few": ["delivered", "filtered", "dropped", "filtered", "cancelled"],
    }
    for seq in range(5):
        for name in names:
            leaving.ended(act.Deliver("s", seq, name, ends[name][seq], "sample", "overload"))
    leaving.taken("s", "all", [(1.0, 0.1), (2.0, 0.2), (3.0, 0.3)])
    leaving.taken("s", "few", [(1.5, 0.6)])
    assert left == [("s", 2.0, 0.2), ("s", 1.5, 0.6)]
    account = leaving.account
    assert (account.delivered, account.total, account.cancelled) == (2, 5, 1)
    assert (account.filtered, account.dropped) == ({"sample": 1}, {"overload": 1})
    for seq in range(5):
        leaving.released("s", seq)
    assert len(leaving) == 0
    assert account.total == 5


def test_a_frame_that_a_broken_sink_never_took_is_lost() -> None:
    left: list[tuple[str, float, float]] = []
    leaving = Leaving(1, lambda *frame: left.append(frame))
    leaving.ended(act.Deliver("s", 0, "a", "delivered"))
    leaving.released("s", 0)
    leaving.released("s", 1)  # after it broke it is not even given any
    assert (left, leaving.account.failed.total(), len(leaving)) == ([], 2, 0)


@pytest.mark.parametrize("names", [("quick", "slow"), ("slow", "quick")])
def test_what_is_learned_of_late_frames_does_not_hang_on_the_order_of_sinks(names: tuple[str, str]) -> None:
    made = two_sinks(*names, latency_slo_s=0.2)
    made = replace(made, policy=replace(made.policy, name="llamapipe", quantile=0.95))
    control = Controller(made)
    control.step(ev.Start(), 0.0)
    control.step(ev.ReplicaLoaded("w0/detect"), 0.5)
    control.step(ev.FramesArrived("cam0", 0, [1.0], [0.0]), 1.0)
    actions = control.step(ev.Tick(), 1.01)
    chooser = control._work.chooser
    sent = [a for a in (*actions, *control.step(ev.Tick(), 1.02)) if isinstance(a, act.Dispatch)]
    number = sent[0].invocation if sent else next(iter(control._work.invocations))
    control.step(ev.InvocationDone(number, [1]), 1.05)
    control.step(ev.Committed("cam0", "quick", 0), 1.1)
    assert chooser._margin_s == 0.0
    control.step(ev.Committed("cam0", "slow", 0), 3.0)
    assert chooser._margin_s > 0.0


def judged(slo: str, frames: FrameCounts, *latencies_s: float, in_time: int = 0) -> SloResult:
    trace = LatencyTrace()
    for latency_s in latencies_s:
        trace.add(1.0, latency_s)
    seen: Any = SimpleNamespace(latency=trace, in_time=in_time, waited_s=0.0, running_before_s=0.0)
    found = _slo(Objective(parse_slo(slo)), seen, 5.0, frames, "done")
    assert found is not None
    return found


def test_drops_count_against_a_deadline_as_against_a_latency() -> None:
    frames = FrameCounts(100, 40, dropped={"overload": 60})
    found = judged("deadline=10s,drops=1%", frames, in_time=40)
    assert (found.met, found.attainment, found.value) == (False, 0.4, 5.0)
    assert found.reason == "60.0% of frames were dropped, at most 1.0% may be"
    assert judged("deadline=10s,drops=60%", frames, in_time=40).met
    assert judged("deadline=10s", FrameCounts(100, 100), in_time=100).met


def test_an_objective_says_how_many_drops_it_allows() -> None:
    for text in ("p95<=200ms, drops<=1%", "deadline=30s, drops<=2.5%", "p95<=200ms", "deadline=30s"):
        assert Objective(parse_slo(text)).text == text


@pytest.mark.parametrize(
    ("frames", "is_judged"),
    [
        (FrameCounts(9, 0, dropped={"overload": 9}), True),
        (FrameCounts(9, 0, {"gate": 5}, failed={"look": 4}), True),
        (FrameCounts(9, 0, {"gate": 9}), False),
        (FrameCounts(9, 0, cancelled=9), False),
        (FrameCounts(), False),
    ],
)
def test_a_latency_of_no_frame_at_all_is_missed_where_one_was_wanted(frames: FrameCounts, is_judged: bool) -> None:
    for slo in ("p95=200ms", "p95=200ms,drops=100%"):
        found = judged(slo, frames)
        assert (found.judged, found.met) == ((True, False) if is_judged else (False, None))
        assert found.attainment == (0.0 if is_judged else None)
        assert found.reason


def test_times_of_a_run_that_is_gone_on_with_come_after_the_earlier_ones() -> None:
    keeper: Any = SimpleNamespace(first=SimpleNamespace(tallies=Tallies(wall_s=60.0, running_s=50.0)), notes=())
    watch = watcher(two_sinks("a"), "deadline=1h", keeper=keeper)
    dispatch = act.Dispatch(0, "w0/detect", "w0", "detect", [("cam0", 0, 0)])
    watch.invocation(dispatch, Done(0, [ItemOutputs(1, [], [])], 102.0, 103.0))
    (span,) = watch.trace.spans
    assert (span.start_s, span.end_s) == (62.0, 63.0)
    assert watch.stages["detect"].latency.points == [(63.0, 1.0)]


def test_what_a_stage_finds_hangs_on_knobs_that_the_summary_has() -> None:
    (made,) = detect_only(workers=1).stages
    assert _knobs(made) == {"sample_fps": None}
    configuration = Configuration(Variant("net", "onnxruntime"), min_score=0.3, labels=("car",))
    made = replace(made, configuration=configuration, sample_fps=5.0)
    assert _knobs(made) == {"sample_fps": 5.0, "min_score": 0.3, "labels": ["car"]}


@pytest.mark.parametrize("order", [1, -1])
def test_attainment_is_a_share_where_one_sink_has_fewer_frames(work: Path, tmp_path: Path, order: int) -> None:
    spec = pipeline(*[("a", "all"), ("f", "few")][::order])
    summary = run(RunRequest(spec, [str(work / "clip.mp4")], output=tmp_path / "out", slo="deadline=60s"))
    assert summary.slo is not None
    assert (summary.slo.met, summary.slo.attainment) == (True, 1.0)
    assert len(list((tmp_path / "out" / "a").iterdir())) == 2 * FPS
    # What the filter leaves out is done with as well: the video was worked off.
    assert summary.x_realtime is not None
    assert summary.x_realtime == pytest.approx(summary.fps * 2 * FPS / summary.frames.delivered / FPS)


def halves(work: Path, *sources: str, **more: Any) -> RunSummary:
    op = OpSpec(name="half", type="test/half@v1", inputs={"frames": ("$source.frames",)})
    sink = SinkSpec(name="lines", type="llamapipe/jsonl@v1", inputs=("$ops.half.events",))
    spec = PipelineSpec(name="half", ops=(op,), sinks=(sink,))
    return run(RunRequest(spec, list(sources), ops_files=[work / "half.py"], **more))


def test_x_realtime_is_of_frames_that_came_through(work: Path, tmp_path: Path) -> None:
    summary = halves(work, str(work / "clip.mp4"), output=tmp_path / "out")
    assert summary.frames.delivered == FPS
    assert summary.x_realtime == pytest.approx(summary.fps / FPS)


def test_what_is_said_meanwhile_is_of_frames_that_are_through_not_of_those_that_have_come() -> None:
    watch = watcher(two_sinks("out"), "p95=1s")
    control = watch._controller
    control.ledger.decoded["cam0"] = 26
    control.ledger.accounts["cam0", "out"].delivered = 5
    watch._first_pts_s["cam0"], watch._last_pts_s["cam0"] = 0.0, 1.0  # 25 a second
    watch.first_dispatch_s = 101.0
    said = watch.progress(103.0)
    assert (said.fps, said.x_realtime) == (2.5, pytest.approx(0.1))


def test_x_realtime_of_several_sources_is_against_all_of_them(work: Path, tmp_path: Path) -> None:
    clip = str(work / "clip.mp4")
    summary = halves(work, clip, clip, output=tmp_path / "out", realtime=True)
    assert summary.x_realtime is not None
    assert 0.3 < summary.x_realtime < 0.7  # half of the frames, at the sources' own rate


def test_the_first_frame_is_counted_from_enter(work: Path, tmp_path: Path) -> None:
    summary = halves(work, str(work / "clip.mp4"), output=tmp_path / "out", waited_s=10.0, max_frames=3)
    assert summary.first_frame_s is not None
    assert summary.first_frame_s > 10.0
