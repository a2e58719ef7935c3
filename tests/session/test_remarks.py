"""What is said beside a result that its user should know, too."""

from __future__ import annotations

import pytest

from llamapipe.report import SloResult
from llamapipe.session.remarks import disturbed


@pytest.mark.parametrize(
    ("slo", "foreign", "said"),
    [
        (SloResult("p99<=60ms", True, False, 97.0, 60.0, "", 0.97), 0.04, "took 4% of the cores' time"),
        (SloResult("p99<=60ms", True, False, 97.0, 60.0, "", 0.97), 0.01, ""),
        (SloResult("p99<=60ms", True, True, 50.0, 60.0, "", 1.0), 0.5, ""),
        (SloResult("p99<=60ms", False, None, None, 60.0, "no frames", None), 0.5, ""),
        (None, 0.5, ""),
    ],
)
def test_a_missed_objective_is_told_with_what_others_took(slo: SloResult | None, foreign: float, said: str) -> None:
    notes = disturbed(slo, foreign)
    assert len(notes) == bool(said)
    assert all(said in note and "p99<=60ms may be met without them" in note for note in notes)
