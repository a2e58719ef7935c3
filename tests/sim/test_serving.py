"""Serving in virtual time: what policies attain and reserve, and what happens when the machine misbehaves."""

from __future__ import annotations

import pytest

from llamapipe.catalog import Floor, Query
from llamapipe.control.serving import Host, ServingPlan, StaticPlan
from llamapipe.sim.arrivals import Rate, diurnal, poisson, spike, steady
from llamapipe.sim.serving import ServingResult, ServingWorld, simulate_serving
from tests.control.serving.profiles import name, profile

_PROFILES = (
    profile("small", 0.012, agreement=0.75, load_s=0.15),
    profile("medium", 0.03, agreement=0.85, load_s=0.25),
    profile("medium", 0.018, threads=2, agreement=0.85, load_s=0.25),
    profile("large", 0.06, agreement=0.95, load_s=0.5),
)
_QUERY = Query(task="people", latency_s=0.2, accuracy=Floor(0.8))


def serve(rate: Rate, policy="llamapipe", static=None, query=_QUERY, seed=1, **world) -> ServingResult:
    plan = ServingPlan((Host("local", (0, 1), 1000),), policy=policy, static=StaticPlan(static or {}))
    arrivals = [(2.0 + at_s, query) for at_s in poisson(rate, seed)]
    return simulate_serving(plan, _PROFILES, arrivals, ServingWorld(seed, **world), announced=[query], validate=True)


@pytest.mark.parametrize(
    "rate",
    [
        spike(10, 45, 40, start_s=10, length_s=8),
        diurnal(8, 45, 40, period_s=40),
    ],
    ids=["spike", "diurnal"],
)
def test_scaling_attains_what_the_others_do_and_reserves_less(rate: Rate) -> None:
    own = serve(rate)
    static = serve(rate, "static", {name("medium"): 2})
    infaas = serve(rate, "infaas")
    assert own.attainment >= max(static.attainment, infaas.attainment) - 0.002
    assert own.reserved < 0.95 * static.reserved
    assert own.reserved < infaas.reserved


def test_what_is_answered_late_is_at_most_one_in_a_hundred() -> None:
    result = serve(spike(10, 90, 40, start_s=10, length_s=8))  # more than the machine can do
    assert result.num_late <= 0.01 * len(result.outcomes)
    assert {outcome.code for outcome in result.outcomes} == {"", "overload"}


def test_a_hog_on_one_core_is_noticed_within_two_seconds_and_its_replica_comes_back() -> None:
    def hog(core: int, at_s: float) -> float:
        return 3.0 if core == 0 and 10 <= at_s < 15 else 1.0

    result = serve(steady(25, 25), "static", {name("medium"): 2}, slowdown=hog)
    interfered = [at_s for at_s, _, state in result.states if state == "interfered"]
    back = [at_s for at_s, _, state in result.states if state == "active" and at_s > 15]
    assert len(interfered) == 1
    assert 10 <= interfered[0] <= 12
    assert back[0] <= 17
    assert result.attainment > 0.98


def test_queries_of_a_replica_that_is_killed_are_answered_by_another() -> None:
    result = serve(steady(20, 20), losses=(5.0, 9.0, 13.0), query=Query(task="people", accuracy=Floor(0.8)))
    assert all(not outcome.code for outcome in result.outcomes)


def test_a_variant_that_cannot_be_loaded_leaves_the_others_to_serve() -> None:
    result = serve(steady(10, 20), unloadable=frozenset({name("medium"), name("medium", 2)}))
    assert {outcome.variant for outcome in result.outcomes if outcome.in_time} == {name("large")}


def test_the_same_seed_gives_the_same_run() -> None:
    rate = diurnal(5, 40, 10, period_s=10)
    assert serve(rate).outcomes == serve(rate).outcomes
