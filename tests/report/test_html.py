"""The HTML report: one file, everything escaped, every figure of the summary in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from llamapipe.report import (
    Considered,
    CostSummary,
    Decided,
    FrameCounts,
    PlanView,
    RunSummary,
    ServedBy,
    ShadowSummary,
    ShadowWindow,
    SloResult,
    StageSummary,
    StageView,
    StreamSummary,
    TriedRow,
    TuningSummary,
)
from llamapipe.report.html import environment, render_report, write_report_html
from llamapipe.report.summary import Quantiles
from llamapipe.report.trace import LatencyTrace, PictureStrip, Span, TraceRecorder
from llamapipe.tune import Predicted

LATENCY = Quantiles(10, 150, 180, 200, 20)


def summary(**changes: Any) -> RunSummary:
    frames = FrameCounts(20, 14, {"gate": 1}, {"overload": 2}, {"blur: ValueError: <b>": 3})
    stage = StageSummary("blur", "llamapipe/blur@v1", None, 1, {}, 20, 20, 1.5, 3, LATENCY, 0.1, 1)
    stream = StreamSummary("cam", "rtsp://***@cam/1", 640, 480, 25.0, "done", None, frames, 0.8, [])
    given: dict[str, Any] = {
        "pipeline": "p",
        "outcome": "done",
        "error": None,
        "exit_code": 0,
        "started_at": "2026-01-02T03:04:05+00:00",
        "wall_s": 75.0,
        "load_s": 0.25,
        "fps": 12.5,
        "x_realtime": None,
        "frames": frames,
        "latency_ms": LATENCY,
        "slo": SloResult("p95<=100ms", True, False, 150.0, 100.0),
        "cost_core_s": 2.0,
        "cpu_s": 1.0,
        "workers": 2,
        "stages": [stage],
        "streams": [stream],
        "outputs": ["annotated.mp4"],
        "versions": {"llamapipe": "1.2.3"},
    }
    return RunSummary(**{**given, **changes})


def report(graph: str = "source", **changes: Any) -> str:
    trace, latency = TraceRecorder(), LatencyTrace()
    trace.add(Span("worker-0", "blur", 0, 1, 1, 0, 1))
    latency.add(0.0, 0.05)
    latency.add(1.0, 0.15)
    return render_report(summary(**changes), trace=trace, latency=latency, pictures=PictureStrip(), graph=graph)


def words(html: str) -> str:
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL).split())


def test_nothing_is_loaded_from_elsewhere() -> None:
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"|url\(|@import|<script', report()) == []


def test_what_comes_from_outside_is_escaped() -> None:
    html = report(graph="<i>", pipeline="<script>alert(1)</script>", error="<u>", outputs=["<s>.mp4"])
    for tag in ("<i>", "<script>", "<u>", "<s>", "ValueError: <b>"):
        assert tag not in html
    assert "&lt;script&gt;alert(1)" in html


def test_the_ledger_adds_up_and_says_why() -> None:
    text = words(report())
    assert "cam done 20 14 1 2 3 0 1 filtered: gate; 2 dropped: overload; 3 failed: blur: ValueError: &lt;b&gt;" in text
    assert "14 of 20 frames delivered" in text


def test_an_objective_is_met_missed_or_not_judged() -> None:
    assert "missed SLO p95&lt;=100ms" in words(report())
    assert "met SLO p95" in words(report(slo=SloResult("p95<=100ms", True, True, 50.0, 100.0)))
    assert "not judged SLO p95&lt;=100ms: read unpaced" in words(
        report(slo=SloResult("p95<=100ms", False, reason="read unpaced"))
    )
    assert "SLO" not in words(report(slo=None))


def test_cost_plan_decisions_and_shares_are_told_where_there_are_any() -> None:
    assert not {"Cost", "Plan and decisions", "Who served what", "Shares"} & set(
        re.findall(r"<h2>(.*?)</h2>", report())
    )
    lost = Considered("<big>", "lost", "agreement 0.3 is below 0.8", None, 90.0, 80.0, 80.0, 0.3)
    view = StageView("blur", "llamapipe/blur@v1", 100.0, 9.0, "small", [lost], "the cheapest")
    plan = PlanView(
        "p", "p95<=100ms", True, "9 ms of 100 ms", "llamapipe", 2, 1.0, 9.0, 1.0, 1.0, 25.0, 3.0, "EUR", 0.9, [view]
    )
    stage = StageSummary("blur", "llamapipe/blur@v1", "small", 1, {}, 20, 20, 1.5, 3, LATENCY, 0.1, 1)
    served = [ServedBy("small", 19, 19, 1.0), ServedBy("<big>", 1, 1, 0.5)]
    decided = [Decided("small", "cheapest", "the cheapest in time", 19)]
    stage = structs.replace(stage, cost=0.25, budget_ms=100.0, through_ms=LATENCY, served_by=served, decisions=decided)
    cost = CostSummary("EUR", 3.0, 0.25, {"workers": 2.0, "decode": 1.0}, 150.0, {"cpu": 6.0}, {"cpu": 0.5})
    html = report(cost=cost, plan=plan, stages=[stage])
    text = words(html)
    assert "<big>" not in html
    assert "3 EUR reserved, 0.25 of invocations" in text
    assert "workers 2 67 % decode 1 33 % reserved 3 150 a thousand frames" in text
    assert "cpu: 6.0 s reserved at 0.5 a second" in text
    assert "lost: agreement 0.3 is below 0.8" in text
    assert "blur small 19 the cheapest in time" in text
    assert "small: 19 items &lt;big&gt;: 1 items" in text
    assert "time at each stage against its share" in html


TRIED = [
    TriedRow("reference", "", True, False, 1.0, 40.0, 12.0, 1.0, 1.0, 1.0),
    TriedRow("", "blur.input_size=320x320", True, True, 0.5, 10.0, 50.0, 0.93, 0.91, 0.96, 80.0),
    TriedRow("no such <network>", "blur.batch=8", False, False, 0.1),
]


def tuned(**changes: Any) -> TuningSummary:
    predicted = Predicted(10.0, 0.1, 50.0, 0.93, 0.91, 0.96, 60.0, 80.0, 90.0)
    values = {"blur.input_size": [320, 320]}
    asked = ("p95<=100ms", "agreement", 0.9, values, predicted, "<b>street</b>.mp4", "", 2.5, 3.0, 40, 48, TRIED)
    return structs.replace(TuningSummary(*asked, notes=["cost is <guessed>"], cost_core_ms=12.5), **changes)


def test_a_tuned_run_shows_the_search_and_what_it_promised_against_what_came() -> None:
    html = report(tuning=tuned())
    text = words(html)
    assert "<b>street" not in html
    assert "<network>" not in html
    assert "<guessed>" not in html
    assert html.count("cost by trial") == 1
    assert "3 of 40 configurations tried on 48 frames in 2.5 s of 3.0 s" in text
    assert "blur.input_size=320x320" in text
    assert "2 * chosen 10.0 50 0.930 0.910 80 ms" in text
    assert "latency p95, ms 80.0 150.0" in text
    assert "cost, core-ms a frame 10.0 12.5" in text
    assert "frames a second 50.0 at most 12.5" in text
    assert "agreement 0.930 (0.910 to 0.960) – not measured: --shadow" in text
    assert "not all of it as tuned" not in text
    assert "set otherwise for this run" in words(report(tuning=tuned(overruled=["blur.input_size"])))
    unpaced = words(report(tuning=tuned(), latency_ms=None))
    assert "latency p95, ms 80.0 – read as fast as it can be" in unpaced
    untuned = report()
    assert "The search" not in untuned
    assert "Predicted against actual" not in untuned


def shadow(*verdicts: str) -> ShadowSummary:
    windows = [
        ShadowWindow(10.0 * i, 240 * i, 96, 0.95 - 0.1 * i, 0.9 - 0.1 * i, 0.98, "blur.batch=<2>", verdict)
        for i, verdict in enumerate(verdicts)
    ]
    return ShadowSummary(0.02, 0.9, len(verdicts), 7, 1, 0.85, windows)


def test_what_the_shadow_saw_is_a_chart_a_table_and_the_accuracy_that_came() -> None:
    html = report(tuning=tuned(), shadow=shadow("fine", "below the floor", "changed to the reference"))
    text = words(html)
    assert "<2>" not in html
    assert (
        "3 windows judged, agreement at least 0.850; 7 had too few boxes to judge by, for 1 there was no time" in text
    )
    assert "agreement with the reference over the video" in html
    assert "10.0 240 96 0.850 0.800 to 0.980 below the floor" in text
    assert "agreement 0.930 (0.910 to 0.960) 0.850 at least measured while it ran" in text
    nothing = words(report(shadow=ShadowSummary(0.02, 0.9, 0, 0, 0, None, [])))
    assert "0 windows judged; 0 had too few boxes" in nothing
    assert "Agreement while it ran" not in report()


def test_what_a_user_should_know_of_the_run_is_in_its_report() -> None:
    assert "Notes 1 worker was lost &lt;there&gt;" in words(report(notes=["1 worker was lost <there>"]))
    assert "Notes" not in words(report())


def test_the_share_of_a_deadline_is_of_the_time_that_workers_have_for_a_frame() -> None:
    stage = StageSummary("blur", "llamapipe/blur@v1", "small", 1, {}, 20, 20, 1.5, 3, LATENCY, 0.1, 1)
    stage = structs.replace(stage, budget_ms=100.0, frame_ms=75.0)
    html = report(stages=[stage], slo=SloResult("deadline=30s", True, True, 20.0, 30.0))
    assert "blur: 75.0 ms a frame of 100.0 ms" in html
    assert "How much of its workers' time a frame took" in html
    assert "waiting included" not in html


def test_only_a_latency_that_is_judged_is_a_line_in_the_chart() -> None:
    assert 'class="limit"' in report()
    assert 'class="limit"' not in report(slo=SloResult("p95<=100ms", False, None, None, 100.0))
    assert 'class="limit"' not in report(slo=SloResult("deadline<=30s", True, True, 20.0, 30.0))
    assert "latency over time" not in report(latency_ms=None)


def test_times_are_in_the_unit_that_fits() -> None:
    assert "1 min 15 s in all, 250 ms of it loading" in words(report())


def test_a_run_that_did_nothing_has_a_report_too() -> None:
    html = report(frames=FrameCounts(), stages=[], streams=[], outputs=[], latency_ms=None, slo=None, error="no source")
    assert "no source" in words(html)


def test_the_file_is_the_report(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"trace": TraceRecorder(), "latency": LatencyTrace(), "pictures": PictureStrip()}
    write_report_html(tmp_path / "report.html", summary(), graph="g", **parts)
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert written == render_report(summary(), graph="g", **parts)
    assert RunSummary.from_json(summary().to_json()) == summary()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0994, "99 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (59.994, "59.99 s"),
        (59.996, "1 min 0 s"),
        (119.4, "1 min 59 s"),
        (119.7, "2 min 0 s"),
        (7200.0, "120 min 0 s"),
    ],
)
def test_a_time_is_rounded_before_its_unit_is_chosen(seconds: float, text: str) -> None:
    assert environment().filters["seconds"](seconds) == text
