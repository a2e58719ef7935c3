"""What a search expects before it has tried anything: profiles for cost, and the usual for accuracy."""

from __future__ import annotations

from itertools import product

import numpy as np

from llamapipe.catalog import BatchPoint, Profile, Variant
from llamapipe.session.priors import trend_of, usual_accuracies
from llamapipe.session.trials import Trial
from llamapipe.session.tunable import StageChoices, Tunable
from llamapipe.tune import Knob, Predicted, Scale, Space

LARGE, SMALL, OTHER = (Variant(m, "x", "cpu", "fp32", (s, s)) for m, s in (("a", 640), ("a", 320), ("b", 352)))
COSTS_S = {LARGE: 0.04, SMALL: 0.01, OTHER: 0.005}
REFERENCE = Trial(Predicted(45, 0.1, 40, 1.0, 1.0, 1.0), 1.0, 40, {"detect": 0.04, "draw": 0.005}, {"detect": 1.0})


def made(profiled: bool = True) -> Tunable:
    profiles = {v: Profile(v, "here", points=(BatchPoint(1, s, s, s, 9),)) for v, s in COSTS_S.items()}
    stage = StageChoices(
        "detect", "t", tuple(COSTS_S), LARGE, dict.fromkeys(COSTS_S, (1,)), profiles if profiled else {}, True
    )
    points, names = {}, ("model", "backend", "device", "precision")
    for variant, rate in product(COSTS_S, (5.0, 25.0)):
        sets = {f"detect.{name}": getattr(variant, name) for name in names}
        sets |= {"detect.input_size": list(variant.input_size), "detect.batch": 1, "detect.sample_fps": rate}
        points[variant.name, rate] = sets
    knobs = [
        Knob("detect.variant", tuple(v.name for v in COSTS_S), Scale.CATEGORY),
        Knob("detect.sample_fps", (5.0, 25.0), Scale.LOG),
    ]
    first = (LARGE.name, 25.0)
    return Tunable(Space(knobs, list(points)), points, first, first, (stage,), accurate=True)


def test_a_cost_is_what_profiles_say_of_the_frames_looked_at_and_what_other_stages_took() -> None:
    trend = trend_of(made(), REFERENCE, 25.0)
    assert trend is not None
    costs = np.exp(trend.mean([(LARGE.name, 25.0), (LARGE.name, 5.0), (SMALL.name, 25.0)]))
    np.testing.assert_allclose(costs, [45.0, 13.0, 15.0])


def test_smaller_inputs_other_models_and_held_boxes_are_usually_less_right() -> None:
    tunable = made()
    hints = {tuple(h.point): h for h in usual_accuracies(tunable, tunable.space, REFERENCE, 25.0)}
    usual = {point: hint.measured["accuracy"].value for point, hint in hints.items()}
    assert all(hint.hint for hint in hints.values())
    assert usual[LARGE.name, 25.0] == 1.0
    assert usual[LARGE.name, 25.0] > usual[LARGE.name, 5.0] > usual[SMALL.name, 5.0] > usual[OTHER.name, 5.0]
    assert usual[SMALL.name, 25.0] == 0.88


def test_without_profiles_nothing_is_expected() -> None:
    tunable = made(profiled=False)
    assert trend_of(tunable, REFERENCE, 25.0) is None
    assert usual_accuracies(tunable, tunable.space, REFERENCE, 25.0) == []
