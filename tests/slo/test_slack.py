"""Slack: shares of the remaining time on the longest way, and budgets that never add up to more than the objective."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llamapipe.errors import UsageError
from llamapipe.slo import Effort, StageGraph

DIAMOND = StageGraph([(1, 2), (3,), (3,), ()])


def test_slack_is_the_share_of_the_longest_way() -> None:
    # 0 > 2 > 3 is the longest: 10 + 40 + 10 ms.
    efforts = [0.010, 0.020, 0.040, 0.010]
    assert DIAMOND.slack_s(0, 0.120, efforts) == pytest.approx(0.020)
    assert DIAMOND.slack_s(1, 0.090, efforts) == pytest.approx(0.060)
    assert DIAMOND.slack_s(3, 0.030, efforts) == pytest.approx(0.030)


def test_a_branch_that_is_not_taken_gives_its_time_back() -> None:
    taken = DIAMOND.slack_s(0, 0.120, [0.010, 0.020, 0.040, 0.010])
    not_taken = DIAMOND.slack_s(0, 0.120, [0.010, 0.020, 0.0, 0.010])
    assert not_taken == pytest.approx(0.120 / 4)
    assert not_taken > taken


def test_effort_counts_rounds_of_batches_and_the_queue() -> None:
    effort = Effort(latency_s=0.050, batch=4, parallelism=2, queue_s=0.010)
    assert effort.seconds(8) == pytest.approx(0.060)
    assert effort.seconds(9) == pytest.approx(0.110)
    assert effort.seconds(0) == 0.0


def test_late_items_have_no_slack() -> None:
    assert DIAMOND.slack_s(0, -0.5, [0.01] * 4) < 0
    assert DIAMOND.slack_s(0, 0.0, [0.01] * 4) == 0.0


def test_a_cycle_is_refused() -> None:
    with pytest.raises(UsageError, match="later stages only"):
        StageGraph([(1,), (0,)])


def test_paths_are_listed_in_order_of_stages() -> None:
    assert DIAMOND.paths() == [(0, 1, 3), (0, 2, 3)]
    assert DIAMOND.paths(limit=1) == [(0, 1, 3)]
    assert StageGraph([(), ()]).paths() == [(0,), (1,)]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[StageGraph, list[float]]:
    n = draw(st.integers(1, 7))
    consumers = [
        draw(st.lists(st.integers(i + 1, n - 1), unique=True, max_size=3)) if i < n - 1 else [] for i in range(n)
    ]
    efforts = draw(st.lists(st.floats(0, 10), min_size=n, max_size=n))
    return StageGraph(consumers), efforts


@given(graphs(), st.floats(0.001, 100))
def test_slack_is_that_of_the_worst_of_all_listed_paths(
    graph_and_efforts: tuple[StageGraph, list[float]], left: float
) -> None:
    graph, efforts = graph_and_efforts
    for path in graph.paths():
        for place, stage in enumerate(path):
            rest = sum(efforts[o] for o in path[place:])
            share = left if rest <= 0 else left * (efforts[stage] / rest)
            assert graph.slack_s(stage, left, efforts) <= share + 1e-9


@given(graphs(), st.floats(0.001, 100))
@example((StageGraph([()]), [5e-324]), 0.75)  # the least that there is: multiplied first it would be rounded up
def test_budgets_along_a_path_never_exceed_the_objective(
    graph_and_efforts: tuple[StageGraph, list[float]], slo: float
) -> None:
    graph, efforts = graph_and_efforts
    budgets = graph.budgets_s(slo, efforts)
    for path in graph.paths():
        if sum(efforts[stage] for stage in path) > 0:
            assert sum(budgets[stage] for stage in path) <= slo * (1 + 1e-9)
