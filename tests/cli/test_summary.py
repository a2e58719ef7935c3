"""The last lines of a run: good news is no warning."""

from __future__ import annotations

import pytest

from llamapipe.cli.summary import show_decisions, show_summary
from llamapipe.cli.terminal import Terminal
from llamapipe.report import ShadowSummary
from tests.report.test_html import summary


def test_that_a_configuration_has_held_is_a_note_and_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    shadow = ShadowSummary(0.02, 0.9, 4, 0, 0, 0.95, [])
    show_summary(summary(shadow=shadow, notes=[str(shadow), "drums"]), Terminal(), None)
    told = capsys.readouterr().err
    assert "\nshadow: 4 windows judged, agreement at least 0.950" in told
    assert "warning: drums" in told
    nothing = ShadowSummary(0.02, 0.9, 0, 3, 0, None, [])
    show_summary(summary(shadow=nothing, notes=[str(nothing)]), Terminal(), None)
    assert "warning: shadow: no window of frames could be judged: 3 had too few boxes" in capsys.readouterr().err


def test_each_operation_has_its_share_of_a_deadline(capsys: pytest.CaptureFixture[str]) -> None:
    run = summary()
    stage = type(run.stages[0])(*("blur", "t", None, 1, {}, 20, 20, 1.5, 0, None, 0.1, 1), budget_ms=20.0, frame_ms=7.5)
    show_decisions(summary(stages=[stage]), Terminal())
    assert "blur       20.0               7.5" in capsys.readouterr().out
