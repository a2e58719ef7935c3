"""Variants side by side: what none beats comes first, and figures of different kinds are never mixed."""

from __future__ import annotations

import re
from pathlib import Path

from llamapipe.catalog import AccuracyFigure, BatchPoint, Profile, ProfileState, Variant
from llamapipe.report.profiles import kind_of, meaning_of, metric_of, rows_of, short_names, write_profiles_html


def profile(
    backend: str, ms: float, agreement: float | None = None, *, model: str = "m", threads: int = 1, reason: str = ""
) -> Profile:
    variant = Variant(model, backend, "cpu", "fp32", (64, 64), threads)
    if reason:
        return Profile(variant, "here", ProfileState.REJECTED, reason)
    points = tuple(BatchPoint(n, ms * n / 1000, ms * n / 900, ms * n / 1000, n == 1) for n in (1, 4))
    figures = () if agreement is None else (AccuracyFigure("agreement", agreement, "clip", "agreement", 0.1, 0.95),)
    return Profile(variant, "here", points=points, accuracy=figures)


def names(profiles: list[Profile]) -> list[str]:
    return [row.name + ("*" if row.on_front else "") for row in rows_of(profiles)]


def test_the_front_comes_first_then_the_beaten_and_the_rejected_last() -> None:
    rejected, slow, fast, right = (
        profile("torch", 0, reason="F1 0.1"),
        profile("onnxruntime", 30, 0.8),
        profile("openvino", 10, 0.8),
        profile("tensorrt", 20, 0.9),
    )
    assert names([rejected, slow, fast, right]) == ["openvino*", "tensorrt*", "onnxruntime", "torch"]


def test_cost_keeps_a_slower_variant_on_the_front() -> None:
    """Two threads take 15 ms of two cores, one takes 20 ms of one."""
    assert names([profile("a", 15, 0.8, threads=2), profile("a", 20, 0.8)]) == ["a/t2*", "a/t1*"]


def test_what_is_the_same_in_all_is_left_out_of_names() -> None:
    assert short_names([profile("a", 1), profile("b", 1)]) == ["a", "b"]
    assert short_names([profile("a", 1), profile("a", 1, model="n", threads=2)]) == ["m/a/t1", "n/a/t2"]


def test_the_metric_is_agreement_where_it_is_known_else_the_usual_one() -> None:
    published = AccuracyFigure("coco_ap", 0.3, "COCO", "published")
    alone = Profile(Variant("m", "a"), "here", accuracy=(published,))
    assert metric_of([alone]) == "coco_ap"
    assert metric_of([alone, profile("a", 1, 0.5)]) == "agreement"
    assert metric_of([alone], "ap50") == "ap50"
    assert rows_of([alone], "ap50")[0].accuracy is None
    assert metric_of([]) == "agreement"


def figured(backend: str, *figures: AccuracyFigure) -> Profile:
    return Profile(Variant("m", backend), "here", accuracy=figures)


def test_what_was_measured_for_all_goes_before_agreement() -> None:
    """Against the same labels: figures of two clips say nothing of each other."""
    agrees = AccuracyFigure("agreement", 0.9, "clip", "agreement")
    here, there = (AccuracyFigure("ap50", 0.8, clip, "measured", task="person-detection") for clip in ("clip", "other"))
    both = [figured("a", agrees, here), figured("b", agrees, here)]
    assert metric_of(both) == "ap50"
    assert meaning_of(both, "ap50").endswith("against the labels of clip (person-detection)")
    assert metric_of([both[0], figured("b", agrees)]) == "agreement"
    assert metric_of([both[0], figured("b", agrees, there)]) == "agreement"


def test_kinds_of_one_metric_are_not_mixed() -> None:
    published, measured = (AccuracyFigure("ap50", v, "d", kind) for v, kind in ((0.3, "published"), (0.8, "measured")))
    profiles = [figured("a", published, measured), figured("b", published)]
    assert kind_of(profiles, "ap50") == "measured"
    values = [row.accuracy.value if row.accuracy else None for row in rows_of(profiles, "ap50")]
    assert values == [0.8, None]
    assert kind_of(profiles, "coco_ap") == ""


def test_the_page_needs_nothing_else_and_runs_nothing_from_outside(tmp_path: Path) -> None:
    profiles = [profile("openvino", 10, 0.8), profile("torch", 0, reason="<script>alert(1)</script>")]
    write_profiles_html(tmp_path / "page.html", "<b>all</b>", profiles)
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "<b>all" not in page
    assert not re.findall(r"(?:src|href)=|url\(|@import", page)
    assert page.count("<svg") == 2
    assert "openvino, batch 1: 10.0 ms, p95 11.1 ms, measured" in page
    assert "openvino, batch 4: 40.0 ms, p95 44.4 ms, predicted" in page


def test_without_accuracy_there_is_one_chart(tmp_path: Path) -> None:
    write_profiles_html(tmp_path / "page.html", "m", [profile("openvino", 10)])
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 1
    assert "agreement has not been measured" in page


def test_every_point_lies_inside_its_chart(tmp_path: Path) -> None:
    several = [profile("a", 0.001, 0.0), profile("b", 1, 1.0), profile("c", 5000, 0.5), profile("d", 5000, 0.5)]
    for profiles in (several, several[:1]):
        write_profiles_html(tmp_path / "page.html", "m", profiles)
        page = (tmp_path / "page.html").read_text()
        places = re.findall(r'<circle cx="([-\d.]+)" cy="([-\d.]+)"', page)
        assert len(places) == 3 * len(profiles)
        assert all(0 <= float(x) <= 1000 and 0 <= float(y) <= 340 for x, y in places)
