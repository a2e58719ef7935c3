"""What a search expects before it has tried anything, and what one trial then tells of others."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from msgspec import structs

from llamapipe.catalog import BatchPoint, Profile, Variant
from llamapipe.errors import UsageError
from llamapipe.session.priors import accuracy_trend, cost_trend, is_profiled
from llamapipe.session.trials import Trial
from llamapipe.session.tunable import StageChoices, Tunable
from llamapipe.spec import Prices
from llamapipe.tune import Constraint, Interval, Knob, Observation, Point, Predicted, Scale, Search, Space

LARGE, SMALL, OTHER = (Variant(m, "x", "cpu", "fp32", (s, s)) for m, s in (("a", 640), ("a", 320), ("b", 352)))
COSTS_S = {LARGE: 0.04, SMALL: 0.01, OTHER: 0.005}
REFERENCE = Trial(Predicted(45, 0.1, 40, 1.0, 1.0, 1.0), 1.0, 40, {"detect": 0.04, "draw": 0.005}, {"detect": 1.0})


def made(profiled: bool = True, batch: int = 1) -> Tunable:
    profiles = {
        v: Profile(v, "here", points=tuple(BatchPoint(n, n * s, n * s, n * s, 9) for n in (1, 4)))
        for v, s in COSTS_S.items()
    }
    stage = StageChoices(
        "detect", "t", tuple(COSTS_S), LARGE, dict.fromkeys(COSTS_S, (batch,)), profiles if profiled else {}, True
    )
    points, names = {}, ("model", "backend", "device", "precision")
    for variant, rate in product(COSTS_S, (5.0, 25.0)):
        sets = {f"detect.{name}": getattr(variant, name) for name in names}
        sets |= {"detect.input_size": list(variant.input_size), "detect.batch": batch, "detect.sample_fps": rate}
        points[variant.name, rate] = sets
    knobs = [
        Knob("detect.variant", tuple(v.name for v in COSTS_S), Scale.CATEGORY),
        Knob("detect.sample_fps", (5.0, 25.0), Scale.LOG),
    ]
    first = (LARGE.name, 25.0)
    return Tunable(Space(knobs, list(points)), points, first, first, (stage,), accurate=True)


def expected(tunable: Tunable, floor: float) -> Search:
    """A search that was told the reference alone."""
    found = Search(
        tunable.space,
        constraints=[Constraint("accuracy", floor, at_least=True, trend=accuracy_trend(tunable, REFERENCE, 25.0))],
        initial=1,
        trend=cost_trend(tunable, REFERENCE, 25.0),
    )
    tell(found, (LARGE.name, 25.0), 45.0, 1.0)
    return found


def tell(search: Search, point: Point, cost: float, accuracy: float) -> None:
    measured = {"accuracy": Interval(accuracy, accuracy - 0.01, accuracy + 0.01)}
    search.tell(Observation(point, cost, noise=0.03, measured=measured))


def test_a_cost_is_what_profiles_say_of_the_frames_looked_at_and_what_other_stages_took() -> None:
    trend = cost_trend(made(), REFERENCE, 25.0)
    assert trend is not None
    costs = np.exp(trend.mean([(LARGE.name, 25.0), (LARGE.name, 5.0), (SMALL.name, 25.0)]))
    np.testing.assert_allclose(costs, [45.0, 13.0, 15.0])


def test_of_few_frames_a_batch_is_not_filled_and_takes_as_long_all_the_same() -> None:
    trend = cost_trend(made(batch=4), REFERENCE, 25.0)
    assert trend is not None
    every_frame, every_fifth = np.exp(trend.mean([(LARGE.name, 25.0), (LARGE.name, 5.0)]))
    np.testing.assert_allclose([every_frame, every_fifth], [45.0, 37.0])


def test_another_device_counts_by_its_price_against_a_cores() -> None:
    tunable = made()
    [stage] = tunable.stages
    other = structs.replace(OTHER, device="cuda:0")
    profile = structs.replace(stage.profiles[OTHER], variant=other)
    prices = Prices.model_validate({"devices": {"cpu": {"per_hour": 0.1}, "cuda": {"per_hour": 1.0}}})
    priced = replace(stage, profiles={**stage.profiles, other: profile}, prices=prices)
    assert priced.cost_s(LARGE, 1) == stage.cost_s(LARGE, 1) == 0.04
    assert priced.cost_s(other, 1) == pytest.approx(0.05)
    assert priced.core_s(other, 1) == 0.005  # how long it takes has no price


def test_where_a_core_is_free_nothing_is_cheaper() -> None:
    prices = Prices.model_validate({"devices": {"cpu": {"per_hour": 0}, "cuda": {"per_hour": 1.0}}})
    with pytest.raises(UsageError, match="a core costs nothing"):
        prices.in_cores("cuda:0")


def test_without_profiles_a_cost_goes_by_the_pixels_of_the_input() -> None:
    tunable = made(profiled=False)
    assert not is_profiled(tunable)
    trend = cost_trend(tunable, REFERENCE, 25.0)
    assert trend is not None
    costs = np.exp(trend.mean([(LARGE.name, 25.0), (SMALL.name, 25.0)]))
    np.testing.assert_allclose(costs, [45.0, 15.0])


def test_smaller_inputs_other_models_and_held_boxes_are_usually_less_right() -> None:
    trend = accuracy_trend(made(), REFERENCE, 25.0)
    assert trend is not None
    points = [(LARGE.name, 25.0), (LARGE.name, 5.0), (SMALL.name, 25.0), (SMALL.name, 5.0), (OTHER.name, 5.0)]
    usual = list(trend.mean(points))
    assert usual == sorted(usual, reverse=True)
    assert usual[0] == 1.0
    assert usual[2] == 0.88


def test_where_nothing_is_compared_nothing_is_usual() -> None:
    blind = replace(REFERENCE, predicted=Predicted(45, 0.1, 40, None, None, None))
    assert accuracy_trend(made(), blind, 25.0) is None


def test_another_model_that_is_usually_below_the_floor_is_worth_a_trial_if_it_would_be_much_cheaper() -> None:
    search = expected(made(), floor=0.8)
    other = search.predict([(OTHER.name, 25.0)]).feasible[0]
    assert 0.05 < other < 0.5
    tell(search, (SMALL.name, 5.0), 7.0, 0.81)
    assert search.expected_gain() > 0.01
    assert search.ask()[0][0] == OTHER.name


def test_one_trial_of_a_model_tells_of_it_at_other_rates() -> None:
    search = expected(made(), floor=0.8)
    tell(search, (OTHER.name, 25.0), 10.0, 0.95)
    assert search.predict([(OTHER.name, 5.0)]).feasible[0] > 0.7
    search = expected(made(), floor=0.8)
    tell(search, (OTHER.name, 25.0), 10.0, 0.5)
    assert search.predict([(OTHER.name, 5.0)]).feasible[0] < 0.05
