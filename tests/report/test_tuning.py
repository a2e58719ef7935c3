"""The page of a tuning, and the course that it draws."""

from __future__ import annotations

from pathlib import Path

from llamapipe.report.search_charts import best_so_far
from llamapipe.report.tuned import difference, rows_of
from llamapipe.report.tuning import write_tuning_html
from llamapipe.tune import Predicted, Tried, Tuning, VideoSignature

REFERENCE = {"detect.input_size": [640, 640], "detect.batch": 1}
SMALL = {"detect.input_size": [320, 320], "detect.batch": 1, "detect.sample_fps": 5.0}


def predicted(cost: float, accuracy: float | None = 0.9) -> Predicted:
    low, high = (None, None) if accuracy is None else (accuracy - 0.05, min(1.0, accuracy + 0.05))
    return Predicted(cost, 0.1, 50.0, accuracy, low, high)


def tuning(*tried: Tried, accuracy: float | None = 0.9) -> Tuning:
    signature = VideoSignature(640, 480, 25.0, (1.0,), 0.1, 0.1, (0.5,))
    asked = ("people", "d", "p95<=100ms", "agreement", 0.85, "here", signature, "<b>street</b>.mp4")
    return Tuning(*asked, SMALL, predicted(10, accuracy), REFERENCE, tried, 40, 48, 3.0, 2.5)


TRIED = (
    Tried(REFERENCE, predicted(40, 1.0), True, 1.0, "reference"),
    Tried({**SMALL, "detect.sample_fps": 2.5}, predicted(5, 0.5), False, 0.5),
    Tried(SMALL, predicted(10), True, 0.5),
    Tried({"detect.batch": 8}, None, False, 0.1, "no such <network>"),
)


def test_the_course_is_the_cheapest_that_fits_so_far() -> None:
    assert best_so_far(rows_of(tuning(*TRIED))) == [(1, 40), (2, 40), (3, 10), (4, 10)]
    assert best_so_far(rows_of(tuning(*TRIED[1:2]))) == []


def test_a_configuration_is_told_by_what_it_has_other_than_the_reference() -> None:
    assert difference(TRIED[2], tuning(*TRIED)) == "detect.input_size=320x320 detect.sample_fps=5.0"
    assert difference(TRIED[0], tuning(*TRIED)) == ""


def test_the_page_has_both_charts_every_trial_and_nothing_unescaped(tmp_path: Path) -> None:
    write_tuning_html(tmp_path / "t.html", tuning(*TRIED))
    page = (tmp_path / "t.html").read_text()
    assert page.count("<svg") == 2
    assert page.count("<circle") == 8  # what was chosen has a ring in both
    assert page.count("<b>chosen</b>") == 1
    assert "no such &lt;network&gt;" in page
    assert "<b>street" not in page


def test_without_accuracy_there_is_one_chart(tmp_path: Path) -> None:
    plain = tuning(Tried({}, predicted(3, None), True, 0.2, "reference"), accuracy=None)
    write_tuning_html(tmp_path / "t.html", plain)
    assert (tmp_path / "t.html").read_text().count("<svg") == 1
