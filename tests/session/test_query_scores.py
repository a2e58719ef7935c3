"""What a query may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from llamapipe.errors import UsageError
from llamapipe.session.serve import make_query


@pytest.mark.parametrize("score", [-0.1, 1.5, float("nan")])
def test_a_score_that_no_box_can_have_is_refused(score: float) -> None:
    with pytest.raises(UsageError, match="min_score: expected a score from 0 to 1"):
        make_query(task="person-detection", min_score=score)
    assert make_query(task="person-detection", min_score=0.5).min_score == 0.5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"latency": 5}, r"a query has no option 'latency' \(did you mean latency_ms\?\)"),
        ({"min_accuracy": 0.99}, r"a query has no option 'min_accuracy' \(did you mean accuracy\?\)"),
        ({"latency_ms": "50"}, r"latency_ms: expected milliseconds, got '50' \(write latency_ms=50, without quotes\)"),
        ({"latency_ms": True}, "latency_ms: expected milliseconds, got True"),
        ({"min_score": "0.5"}, "write min_score=0.5"),
        ({"max_cost": "1"}, "write max_cost=1"),
        ({"model": 5}, "model: expected a text, got 5"),
        ({"labels": 5}, "labels: expected a list of texts, got 5"),
    ],
)
def test_an_option_that_there_is_not_or_of_another_type_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_query(**{"task": "person-detection", **options})


def test_a_label_may_stand_alone() -> None:
    label: Any = "person"
    assert make_query(task="person-detection", labels=label).labels == ("person",)
