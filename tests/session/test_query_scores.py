"""What a query may ask of scores."""

from __future__ import annotations

import pytest

from llamapipe.errors import UsageError
from llamapipe.session.serve import make_query


@pytest.mark.parametrize("score", [-0.1, 1.5, float("nan")])
def test_a_score_that_no_box_can_have_is_refused(score: float) -> None:
    with pytest.raises(UsageError, match="min_score: expected a score from 0 to 1"):
        make_query(task="person-detection", min_score=score)
    assert make_query(task="person-detection", min_score=0.5).min_score == 0.5
