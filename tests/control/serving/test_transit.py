"""What a query takes beside its invocation is learned, and held against variants that are nearly too slow."""

from __future__ import annotations

import numpy as np

from llamapipe.catalog import Query
from llamapipe.control.serving import actions as act
from llamapipe.control.serving import events as ev
from llamapipe.control.serving.plan import Host, ServingPlan
from llamapipe.control.serving.selector import Selector
from llamapipe.control.serving.serving import ServingController
from llamapipe.control.serving.transit import Transit
from tests.control.serving.profiles import profile

QUERY = Query(task="people", latency_s=0.05)


def chosen(selector: Selector, query: Query = QUERY) -> list[str]:
    return [offer.profile.variant.model for offer in selector.options(query).offers]


def test_the_99th_percentile_is_found_from_above_and_from_below() -> None:
    rng = np.random.default_rng(0)
    seconds = rng.exponential(0.001, 20_000)
    expected = -0.001 * np.log(0.01)
    for begins_s in (0.0, 0.05):
        transit = Transit(begins_s)
        for one in seconds:
            transit.observe(one)
        assert 0.6 * expected < transit.late_s < 1.6 * expected
        assert 0.6 * expected < transit.used_s < 1.6 * expected


def test_one_query_that_was_long_on_its_way_changes_no_decision() -> None:
    """One in a hundred is: a variant that was right for those before is right for those after it."""
    transit = Transit(0.004)
    assert not transit.observe(0.02)
    assert not any(transit.observe(0.001) for _ in range(100))
    assert not transit.observe(0.02)
    assert transit.observe(0.02)


def test_a_variant_is_fast_enough_with_its_way_or_not_at_all() -> None:
    selector = Selector(lambda device: 1.0)
    selector.update([profile("quick", 0.01), profile("close", 0.043, tail=1.05)])
    assert chosen(selector) == ["quick", "close"]
    for _ in range(50):
        selector.travelled(0.01)
    assert chosen(selector) == ["quick"]
    for _ in range(5000):
        selector.travelled(0.0001)
    assert chosen(selector) == ["quick", "close"]


def test_a_host_on_which_a_variant_is_usually_slower_is_believed_unless_another_is_not() -> None:
    selector = Selector(lambda device: 1.0)
    selector.update([profile("close", 0.04)])
    [name] = selector.offers
    selector.seems(name, "one", 0.4)
    assert chosen(selector) == []
    selector.seems(name, "two", 0.0)
    assert chosen(selector) == ["close"]
    selector.seems(name, "two", 0.4)
    assert chosen(selector) == []


def test_control_learns_the_way_from_queries_that_did_not_wait() -> None:
    control = ServingController(ServingPlan((Host("local", (0,), 1000),)), [profile("only", 0.01)])
    [start] = [
        a for a in control.step(ev.QueryArrived(0, Query(task="people")), 0.0) if isinstance(a, act.StartReplica)
    ]
    now_s, late_s = 1.0, []
    actions = control.step(ev.ReplicaReady(start.replica, 0.1), now_s)
    for number in range(1, 40):
        [sent] = [action for action in actions if isinstance(action, act.Serve)]
        control.step(ev.BatchDone(sent.batch_id, 0.01, {}), now_s + 0.014)  # 4 ms of it on the way
        late_s.append(control._state.selector.transit.late_s)
        now_s += 1.0
        actions = control.step(ev.QueryArrived(number, Query(task="people")), now_s)
    assert late_s[0] == 0.0  # the first had waited for the replica
    assert 0.003 < late_s[-1] < 0.006
