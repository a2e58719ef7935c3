"""The program's choices on problems small enough to see."""

from __future__ import annotations

import pytest

from llamapipe.control.serving.program import Demand, Option, Problem, Room, Solution, greedy, is_least, solve
from llamapipe.control.serving.queueing import utilisation

ROOM = (Room("local", 4, 2**30),)


def option(variant, cores=1, load_s=0.5, running=0, memory=0) -> Option:
    return Option(variant, cores, memory, float(cores), load_s, {"local": running} if running else {})


@pytest.mark.parametrize("how", [solve, greedy])
@pytest.mark.parametrize(
    ("options", "demands", "expected"),
    [
        ((option("a"),), (Demand(25, {"a": 10}),), {"a": 3}),
        ((option("a"), option("b", 2)), (Demand(25, {"a": 10, "b": 26}),), {"b": 1}),  # two cores instead of three
        ((option("a", running=1), option("b")), (Demand(5, {"a": 10, "b": 11}),), {"a": 1}),  # a start has to pay
        ((option("a"), option("b")), (Demand(1, {"a": 10}), Demand(1, {"a": 10, "b": 50})), {"a": 1}),  # one for both
        ((option("a"),), (Demand(0.001, {"a": 10}),), {"a": 1}),  # however little is asked
        ((option("a", memory=2**29),), (Demand(100, {"a": 10}),), {"a": 2}),  # memory is a limit
        ((option("a"),), (Demand(100, {"a": 10}),), {"a": 4}),  # and so are cores
        ((option("a", 8),), (Demand(1, {"a": 10}),), {}),
        ((option("a", running=2),), (), {}),
    ],
)
def test_the_least_that_serves_is_kept(how, options, demands, expected) -> None:
    solution = how(Problem(options, demands, ROOM))
    assert {name: sum(hosts.values()) for name, hosts in solution.replicas.items()} == expected


@pytest.mark.parametrize("how", [solve, greedy])
def test_a_moment_of_loading_more_is_no_reason_for_a_variant_that_works_more_an_item(how) -> None:
    slow, quick = option("slow", load_s=0.5), option("quick", load_s=0.7)
    solution = how(Problem((slow, quick), (Demand(1, {"slow": 50, "quick": 60}),), ROOM))
    assert list(solution.replicas) == ["quick"]


@pytest.mark.parametrize("how", [solve, greedy])
def test_of_equal_costs_the_one_that_is_quicker_with_such_batches_as_come_is_chosen(how) -> None:
    """What serves most in batches of eight is not the best for queries that come one by one."""
    demand = Demand(5, {"a": 10, "b": 30}, {"a": 10, "b": 9})
    assert list(how(Problem((option("a"), option("b")), (demand,), ROOM)).replicas) == ["a"]


def test_of_equal_costs_the_one_that_takes_a_burst_better_is_chosen() -> None:
    solution = solve(Problem((option("a"), option("b")), (Demand(5, {"a": 10, "b": 30}),), ROOM))
    assert solution is not None
    assert solution.replicas == {"b": {"local": 1}}


def test_more_replicas_and_more_patience_may_be_busier() -> None:
    assert utilisation(1, 0.03, 0.03) < utilisation(1, 0.03, 0.3) < utilisation(4, 0.03, 0.3)


def test_rates_far_below_what_a_replica_serves_have_a_solution() -> None:
    """As shares of a replica they are within the tolerance that a solver takes for nothing."""
    options = (Option("a", 2, 0, 1.0, 0.5), Option("b", 3, 0, 1.0, 0.5))
    demands = (Demand(0.001, {"a": 0.0, "b": 25.0}), Demand(0.001, {"a": 25.0, "b": 0.0}))
    found = solve(Problem(options, demands, (Room("one", 2, 2**23), Room("two", 4, 2**22))))
    assert found is not None
    assert found.replicas == {"a": {"one": 1}, "b": {"two": 1}}
    assert found.unserved == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "replicas", "unserved", "expected"),
    [
        ((option("a", running=1), option("b", 2)), {"a": {"local": 1}}, 0.0, True),
        ((option("a", running=1), option("b", 2)), {"a": {"local": 1}}, 3.0, False),
        ((option("a", running=2),), {"a": {"local": 2}}, 0.0, False),  # another kind may do it with one
        ((option("a"),), {"a": {"local": 1}}, 0.0, False),  # a start has to pay
        ((option("a", 2, running=1), option("b")), {"a": {"local": 1}}, 0.0, False),
        ((), {}, 0.0, False),
    ],
)
def test_nothing_is_cheaper_than_one_replica_of_the_cheapest_kind(options, replicas, unserved, expected) -> None:
    problem = Problem(options, (Demand(5, {o.variant: 10 for o in options}),), ROOM)
    assert is_least(problem, Solution(replicas, unserved)) is expected
