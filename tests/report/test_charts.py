"""Charts: what is drawn where, and that all of it can be seen."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from llamapipe.report import Quantiles, ShadowSummary, ShadowWindow, StageSummary
from llamapipe.report.charts import budget_chart, candidates_chart, latency_chart, timeline
from llamapipe.report.shadow_chart import shadow_chart
from llamapipe.report.trace import Span

WIDTH = 1000
COLOURS = {"detect": "red", "track": "blue"}


def span(start_s: float, end_s: float, stage: str = "detect", worker: str = "worker-0", **more: int) -> Span:
    return Span(worker, stage, start_s, end_s, more.get("items", 1), 0, more.get("failed", 0))


def seen(*windows: tuple[float, float | None, str]) -> ShadowSummary:
    rows = [ShadowWindow(at_s, 1, 24, f1, f1, f1, "a=<1>", verdict) for at_s, f1, verdict in windows]
    return ShadowSummary(0.02, 0.9, len(rows), 0, 0, None, rows)


@pytest.mark.parametrize("end_s", [0.0, 0.9, 59.5, 3600.0, 86400.0, 1e7])
def test_windows_are_dots_over_the_video_by_their_verdict_and_changes_are_lines_down(end_s: float) -> None:
    windows = [(0.0, 0.95, "fine"), (end_s, 0.3, "too little to judge"), (end_s, 0.8, "below the floor")]
    svg = shadow_chart(seen(*windows, (end_s, None, "changed to the reference"), (end_s, 0.99, "re-tuned")))
    dots = parts(svg, "circle")
    assert [dot.attrib["fill"] for dot in dots] == ["var(--accent)", "var(--soft)", "var(--bad)"]
    assert [line.attrib["class"] for line in parts(svg, "line")].count("front") == 2
    assert all(0 <= float(dot.attrib["cy"]) <= 340 and 80 <= float(dot.attrib["cx"]) <= WIDTH for dot in dots)
    assert len(parts(svg, "text")) < 25
    assert all(0 <= float(text.attrib["x"]) <= WIDTH for text in parts(svg, "text"))
    assert shadow_chart(seen((1.0, None, "too little to judge"))) == ""


def stage(name: str, budget_ms: float | None, there: Quantiles | None) -> StageSummary:
    return StageSummary(name, name, None, 1, {}, 1, 1, 0.1, 0, None, 0.0, 1, budget_ms=budget_ms, through_ms=there)


def parts(svg: str, tag: str) -> list[ElementTree.Element]:
    return [element for element in ElementTree.fromstring(svg).iter() if element.tag == tag]


def test_nothing_to_draw_draws_nothing() -> None:
    assert timeline([], COLOURS, 1.0) == ""
    assert latency_chart([], 100.0) == ""
    assert budget_chart([stage("draw", None, None)], COLOURS) == ""
    assert candidates_chart([], ["a"], ["red"], 1.0) == ""


@pytest.mark.parametrize("end_s", [0.001, 0.9, 1.0, 4.0, 9.99, 10.0, 59.5, 100.0, 3600.0, 100_000.0])
@pytest.mark.parametrize("begin_s", [0.0, 0.332, 12345.6])
def test_no_label_sticks_out(begin_s: float, end_s: float) -> None:
    """At some ten pixels a character, every label ends inside the picture."""
    chart = latency_chart([(begin_s, 0.01), (begin_s + end_s, 0.02)], None)
    for svg in (chart, timeline([span(0, end_s)], COLOURS, end_s)):
        for label in parts(svg, "text"):
            x, width = float(label.attrib["x"]), 8 * len(label.text or "")
            right = {"start": x + width, "middle": x + width / 2, "end": x}[label.attrib["text-anchor"]]
            assert right <= WIDTH, label.text


def test_a_row_a_worker_and_a_bar_an_invocation() -> None:
    svg = timeline([span(0, 1), span(2, 3, "track"), span(0, 1, worker="worker-1")], COLOURS, 4.0)
    bars = parts(svg, "rect")
    assert [(bar.attrib["fill"], bar.attrib["y"]) for bar in bars] == [("red", "2"), ("blue", "2"), ("red", "30")]
    assert [float(bar.attrib["width"]) for bar in bars] == [225.0, 225.0, 225.0]
    assert [float(bar.attrib["x"]) for bar in bars] == [90.0, 540.0, 90.0]


def test_bars_of_a_stage_that_touch_are_one_and_add_up() -> None:
    svg = timeline([span(0, 1, items=2), span(1, 2, items=3), span(2, 3, "track")], COLOURS, 10.0)
    assert [title.text for title in parts(svg, "title")] == [
        "detect: 2000.0 ms, 5 items",
        "track: 1000.0 ms, 1 items",
    ]


def test_an_invocation_that_failed_stands_out() -> None:
    svg = timeline([span(0, 1, failed=1), span(5, 6)], COLOURS, 10.0)
    assert [bar.attrib["fill"] for bar in parts(svg, "rect")] == ["var(--bad)", "red"]


def test_a_long_run_is_drawn_with_a_bounded_number_of_bars() -> None:
    spans = [span(i, i + 0.5, ("detect", "track")[i % 2]) for i in range(20_000)]
    assert len(parts(timeline(spans, COLOURS, 20_000.0), "rect")) <= 4000


def test_names_from_outside_are_escaped() -> None:
    svg = timeline([span(0, 1, "<b>", worker="<w>")], {}, 1.0)
    assert "<b>" not in svg
    assert "<w>" not in svg
    assert "&lt;b&gt;" in svg


def test_latencies_over_the_objective_are_red_and_the_objective_is_a_line() -> None:
    svg = latency_chart([(0.0, 0.05), (1.0, 0.15), (2.0, 0.1)], 100.0)
    dots = parts(svg, "circle")
    assert [dot.attrib["fill"] for dot in dots] == ["var(--accent)", "var(--bad)", "var(--accent)"]
    assert [float(dot.attrib["cx"]) for dot in dots] == [90.0, 540.0, 990.0]
    (line,) = [line for line in parts(svg, "line") if line.attrib["class"] == "limit"]
    assert line.attrib["y1"] == dots[2].attrib["cy"]  # 100 ms
    assert 'class="limit"' not in latency_chart([(0.0, 0.05)], None)


def test_ticks_are_round() -> None:
    svg = latency_chart([(0.0, 0.05), (7.0, 0.2)], None)
    labels = [label.text or "" for label in parts(svg, "text")]
    assert [label for label in labels if label.endswith("ms")] == ["0 ms", "50 ms", "100 ms", "150 ms", "200 ms"]
    assert all(re.fullmatch(r"\d s", label) for label in labels if not label.endswith("ms"))


def test_a_stage_stands_against_its_share_of_the_objective() -> None:
    there = Quantiles(20, 80, 90, 95, 30)
    svg = budget_chart([stage("detect", 100, there), stage("track", None, None), stage("<b>", 50, there)], COLOURS)
    assert [title.text for title in parts(svg, "title")] == [
        "detect: p50 20.0 ms, p95 80.0 ms of 100.0 ms",
        "<b>: p50 20.0 ms, p95 80.0 ms of 50.0 ms",
    ]
    p95, p50 = (float(bar.attrib["width"]) for bar in parts(svg, "rect")[:2])
    assert p95 == pytest.approx(4 * p50, abs=0.5)
    limits = [float(line.attrib["x1"]) for line in parts(svg, "line") if line.attrib["class"] == "limit"]
    left = float(parts(svg, "rect")[0].attrib["x"])
    assert limits[0] - left == pytest.approx(2 * (limits[1] - left), abs=0.5)
    assert max(limits) <= WIDTH


def test_columns_are_as_high_as_items_and_in_the_colours_of_who_served_them() -> None:
    spans = [Span("w", "detect", 0.0, 0.1, 3, 0), Span("w", "detect", 0.0, 0.1, 1, 3, choice=1)]
    spans.append(Span("w", "detect", 9.99, 10.1, 4, 4, choice=1))
    svg = candidates_chart(spans, ["good", "fast"], ["green", "blue"], 10.0)
    bars = [(bar.attrib["fill"], float(bar.attrib["height"])) for bar in parts(svg, "rect")]
    assert bars == [("green", pytest.approx(82.5)), ("blue", pytest.approx(27.5)), ("blue", pytest.approx(110.0))]
    assert parts(svg, "title")[0].text == "0.00 s: 3 items by good"


@pytest.mark.parametrize("length_s", [2.0, 3097.0, 30_000.0, 5e6])
def test_times_are_written_out_however_long_the_run(length_s: float) -> None:
    points = [(2.0 + length_s * i / 100, 0.02) for i in range(101)]
    charts = [
        latency_chart(points, None),
        latency_chart([(0.0, length_s)], None),
        timeline([span(0.0, length_s)], COLOURS, length_s),
        candidates_chart([span(0.0, length_s)], ["a"], ["red"], length_s),
    ]
    for chart in charts:
        labels = [text.text or "" for text in parts(chart, "text")]
        times = [label for label in labels if label.endswith((" s", " ms"))]
        assert times
        assert all(re.fullmatch(r"\d+(\.\d+)? m?s", time) for time in times), times
        assert len(set(times)) == len(times)


def test_frames_that_were_known_of_out_of_order_are_all_in_the_picture() -> None:
    dots = parts(latency_chart([(3.0, 0.02), (1.0, 0.02), (5.0, 0.02), (4.0, 0.02)], None), "circle")
    assert all(90 <= float(dot.attrib["cx"]) <= WIDTH - 10 for dot in dots)
