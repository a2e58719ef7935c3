"""Which variants meet a query: each constraint by itself, together, and what comes closest where none does."""

from __future__ import annotations

import pytest

from llamapipe.catalog import AccuracyFigure, Floor, Query
from llamapipe.control.serving.plan import Host, ServingPlan
from llamapipe.control.serving.policies import ServingState
from llamapipe.control.serving.selector import Live, Selector
from tests.control.serving.profiles import name, profile


def selector(*profiles, prices=None) -> Selector:
    found = Selector(lambda device: (prices or {}).get(device, 1.0))
    found.update(profiles)
    return found


def names(found: Selector, **query) -> list[str]:
    return [offer.profile.variant.model for offer in found.options(Query(**query)).offers]


FOUR = (
    profile("small", 0.01, agreement=0.7),
    profile("medium", 0.03, agreement=0.85),
    profile("large", 0.1, agreement=0.95),
    profile("faces", 0.005, task="faces"),
)


def test_a_task_is_served_by_its_variants_the_cheapest_first() -> None:
    assert names(selector(*FOUR), task="people") == ["small", "medium", "large"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"task": "people", "latency_s": 0.05}, ["small", "medium"]),
        ({"task": "people", "accuracy": Floor(0.8)}, ["medium", "large"]),
        ({"task": "people", "max_cost": 0.05}, ["small", "medium"]),
        ({"task": "people", "latency_s": 0.05, "accuracy": Floor(0.8)}, ["medium"]),
        ({"task": "people", "latency_s": 0.1, "num_items": 8}, ["small"]),  # 0.0803 s (p95) in one batch
        ({"model": "large"}, ["large"]),
        ({"variant": name("medium")}, ["medium"]),
        ({"model": "large", "latency_s": 0.05}, []),
        ({"variant": name("medium"), "accuracy": Floor(0.9)}, []),
        ({"model": "faces", "task": "people"}, []),
        ({"task": "cats"}, []),
    ],
)
def test_every_constraint_holds_however_the_query_is_put(query, expected) -> None:
    assert names(selector(*FOUR), **query) == expected


def test_the_nearest_misses_each_constraint_the_least() -> None:
    options = selector(*FOUR).options(Query(task="people", latency_s=0.05, accuracy=Floor(0.9)))
    assert options.reason == "task people: each constraint can be met, but not all of them by one variant"
    assert (options.nearest.variant, options.nearest.accuracy) == (name("medium"), 0.85)


def test_figures_of_different_kinds_are_never_compared() -> None:
    published = AccuracyFigure("coco_ap", 0.4, "coco", "published")
    measured = AccuracyFigure("coco_ap", 0.9, "clip", "measured")
    agreeing = AccuracyFigure("f1", 0.9, "clip", "agreement")
    found = selector(
        profile("a", accuracy=(published,)),
        profile("b", accuracy=(published, measured)),
        profile("c", accuracy=(agreeing,)),
    )
    assert names(found, task="people", accuracy=Floor(0.3, "coco_ap")) == ["a", "b"]
    assert names(found, task="people", accuracy=Floor(0.5, "coco_ap")) == []  # the one measured figure decides nothing
    assert names(found, task="people", accuracy=Floor(0.5)) == ["c"]
    reason = found.options(Query(task="people", accuracy=Floor(0.5, "top1"))).reason
    assert reason == "task people: no variant has a figure for top1"


def test_an_offer_whose_profile_has_changed_since_is_judged_by_what_is_known_now() -> None:
    found = selector(profile("a", agreement=0.7))
    offer = found.options(Query(task="people")).offers[0]
    found.update([profile("a", agreement=0.9)])
    assert found.accuracy(offer, Floor(0.8), "people") == pytest.approx(0.9)


def test_cost_is_a_price_where_the_device_has_one() -> None:
    found = selector(profile("a", 0.1), prices={"cpu": 3.0})
    assert names(found, task="people", max_cost=0.2) == []
    assert names(found, task="people", max_cost=0.31) == ["a"]


def test_a_rejected_variant_is_named_with_its_reason() -> None:
    found = selector(profile("a", state="rejected", reason="agreement 0.31 with its source"))
    assert found.options(Query(model="a")).reason == (
        f"nothing serves model a on this machine; rejected: {name('a')} (agreement 0.31 with its source)"
    )


def test_the_cheapest_replica_that_is_in_time_is_taken_and_slow_ones_are_not() -> None:
    found = selector(*FOUR)
    offers = found.offers
    live = [
        Live("busy", offers[name("small")], free_at_s=1.0),
        Live("slow", offers[name("medium")], free_at_s=0.0, slowdown=5.0),
        Live("well", offers[name("large")], free_at_s=0.0),
    ]
    assert found.select(Query(task="people", latency_s=0.15), live, 0.0).replica == "well"
    assert found.select(Query(task="people", latency_s=2.0), live, 0.0).replica == "busy"


def test_the_nearest_has_room_here() -> None:
    state = ServingState(
        ServingPlan(()), selector(profile("big", agreement=0.9, memory=5000), profile("tiny", agreement=0.5))
    )
    state.fleet.add_host(Host("local", (0,), 1000))
    options = state.servable(Query(task="people", accuracy=Floor(0.8)))
    assert options.reason.startswith("nothing that meets what was asked has room here")
    assert options.nearest.variant == name("tiny")
