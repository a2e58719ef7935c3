"""The search for a configuration, under an evaluator that is a formula: what it finds, and that it keeps its budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import msgspec
import pytest

from llamapipe.errors import LlamapipeError, UsageError
from llamapipe.session.searching import Outcome, search_configuration
from llamapipe.session.targets import Targets
from llamapipe.session.trials import Trial
from llamapipe.session.tunable import Choice, Tunable
from llamapipe.testing.clock import FakeClock
from llamapipe.tune import Knob, Observation, Predicted, Scale, Space

SIDES, RATES, BATCHES = (256, 320, 416, 512, 640), (5.0, 8.333, 12.5, 25.0), (1, 4)


def space() -> Tunable:
    knobs = [
        Knob("detect.side", SIDES, Scale.LOG),
        Knob("detect.sample_fps", RATES, Scale.LOG),
        Knob("detect.batch", BATCHES, Scale.LOG),
    ]
    points = {
        (side, rate, batch): {"detect.side": side, "detect.sample_fps": rate, "detect.batch": batch}
        for side, rate, batch in product(SIDES, RATES, BATCHES)
    }
    return Tunable(Space(knobs, list(points)), points, (640, 25.0, 1), (416, 25.0, 1), (), accurate=True)


def cost_core_ms(choice: Choice) -> float:
    share = choice["detect.sample_fps"] / 25
    return 2 + share * (choice["detect.side"] / 640) ** 2 * (40 if choice["detect.batch"] == 1 else 34)


def accuracy(choice: Choice) -> float:
    return 1 - 0.25 * (1 - choice["detect.side"] / 640) - 0.06 * (25 / choice["detect.sample_fps"] - 1)


@dataclass
class Formula:
    """Takes half a second and as much as the cost says for each of 50 frames."""

    clock: FakeClock
    until_s: float = 1e9
    broken: Callable[[Choice], bool] = lambda _: False
    p95_ms: Callable[[Choice], float] = lambda choice: 4 * cost_core_ms(choice)
    asked: list[Choice] = field(default_factory=list)
    paced: int = 0

    def evaluate(self, choice: Choice, *, pace: Callable[[Predicted], bool]) -> Trial | None:
        self.asked.append(choice)
        cost, right = cost_core_ms(choice), accuracy(choice)
        took_s = 0.5 + 50 * cost / 1000
        if self.clock.now_s() + took_s > self.until_s:
            self.clock.advance(max(0.0, self.until_s - self.clock.now_s()))
            return None
        self.clock.advance(took_s)
        if self.broken(choice):
            raise LlamapipeError("no such network")
        found = Predicted(cost, 0.02, 1000 / cost, right, right - 0.02, min(1.0, right + 0.02))
        if pace(found):
            self.paced += 1
            ms = self.p95_ms(choice)
            found = msgspec.structs.replace(found, p50_ms=ms / 2, p95_ms=ms, p99_ms=ms)
        return Trial(found, took_s, 50)


def search(evaluator: Formula, targets: Targets, *, budget_s: float = 60, **more: Any) -> Outcome:
    return search_configuration(
        evaluator,
        more.pop("choices", None) or space(),
        targets,
        budget_s=budget_s,
        budget_frames=more.pop("budget_frames", None),
        began_s=evaluator.clock.now_s(),
        clock=evaluator.clock,
        **more,
    )


def cheapest(floor: float) -> float:
    return min(cost_core_ms(choice) for choice in space().choices.values() if accuracy(choice) - 0.02 >= floor)


def test_the_cheapest_that_is_right_enough_is_found_by_trying_a_part_of_the_space() -> None:
    evaluator = Formula(FakeClock())
    found = search(evaluator, Targets(0.85))
    assert found.best is not None
    assert found.best.fits
    assert found.best.predicted is not None
    assert found.best.predicted.cost_core_ms <= 1.05 * cheapest(0.85)
    assert len(evaluator.asked) <= len(space().choices) / 2
    assert [tried.what for tried in found.tried[:3]] == ["reference", "default", ""]


def test_without_profiles_a_few_points_are_spread_before_the_search_may_end() -> None:
    """Where the reference is what a run takes anyhow, its cost alone must not be taken to be everybody's."""
    evaluator = Formula(FakeClock())
    found = search(evaluator, Targets(0.8), choices=replace(space(), default=space().reference))
    assert len(evaluator.asked) > 5
    assert found.best is not None
    assert found.best.predicted is not None
    assert found.best.predicted.cost_core_ms <= 1.2 * cheapest(0.8)


def test_the_same_seed_tries_the_same() -> None:
    one, other = Formula(FakeClock()), Formula(FakeClock())
    search(one, Targets(0.85), seed=3)
    search(other, Targets(0.85), seed=3)
    assert one.asked == other.asked


@pytest.mark.parametrize("budget_s", [4.0, 9.0])
def test_the_budget_of_seconds_is_kept(budget_s: float) -> None:
    evaluator = Formula(FakeClock(), until_s=budget_s)
    found = search(evaluator, Targets(0.85), budget_s=budget_s)
    assert evaluator.clock.now_s() <= budget_s
    assert found.best is not None


def test_the_budget_of_frames_is_kept() -> None:
    evaluator = Formula(FakeClock())
    search(evaluator, Targets(0.85), budget_frames=220)
    assert len(evaluator.asked) == 4


def test_a_budget_that_is_too_short_for_the_reference_is_refused() -> None:
    with pytest.raises(UsageError, match="too short") as caught:
        search(Formula(FakeClock(), until_s=1.0), Targets(0.85), budget_s=1.0)
    assert "--budget-s 10)" in str(caught.value)


def test_seconds_that_are_over_are_not_blamed_on_the_frames_nor_the_other_way_round() -> None:
    with pytest.raises(UsageError, match="--budget-frames bounds it besides, not instead"):
        search(Formula(FakeClock(), until_s=1.0), Targets(0.85), budget_s=1.0, budget_frames=3)
    found = search(Formula(FakeClock()), Targets(0.85), budget_frames=3)
    assert [tried.what for tried in found.tried] == ["reference", "default"]


def test_latency_is_measured_where_it_decides_and_bounds_what_is_chosen() -> None:
    evaluator = Formula(FakeClock(), p95_ms=lambda choice: 150.0 if choice["detect.batch"] == 4 else 60.0)
    found = search(evaluator, Targets(0.85, latency=(0.95, 0.1), fps=25.0))
    assert found.best is not None
    assert found.best.values["detect.batch"] == 1
    assert evaluator.paced < len(evaluator.asked)
    assert all(t.predicted is None or t.predicted.p95_ms is not None for t in found.tried if t.fits)


def test_a_deadline_is_met_by_what_is_fast_enough() -> None:
    found = search(Formula(FakeClock()), Targets(0.5, seconds=10, num_frames=1000))
    assert found.best is not None
    assert found.best.predicted is not None
    assert found.best.predicted.frames_per_s >= 100


def test_where_nothing_fits_what_comes_closest_is_told() -> None:
    found = search(Formula(FakeClock()), Targets(0.5, seconds=1, num_frames=1000))
    assert found.best is None
    assert found.nearest is not None
    assert found.nearest.predicted is not None
    rates = [tried.predicted.frames_per_s for tried in found.tried if tried.predicted is not None]
    assert found.nearest.predicted.frames_per_s == max(rates)


def test_what_cannot_be_run_is_told_and_passed_over() -> None:
    found = search(Formula(FakeClock(), broken=lambda choice: choice["detect.batch"] == 4), Targets(0.85))
    assert any(tried.predicted is None and tried.what == "no such network" for tried in found.tried)
    assert found.best is not None
    assert found.best.values["detect.batch"] == 1


def test_a_reference_that_cannot_be_run_ends_the_search() -> None:
    with pytest.raises(LlamapipeError, match="reference cannot be run: no such network"):
        search(Formula(FakeClock(), broken=lambda _: True), Targets(0.85))


def test_what_is_not_right_enough_is_not_tried_at_lower_rates() -> None:
    evaluator = Formula(FakeClock())
    search(evaluator, Targets(0.85))
    for at, choice in enumerate(evaluator.asked[2:], 2):
        for before in evaluator.asked[2:at]:
            if before["detect.side"] == choice["detect.side"] and accuracy(before) < 0.83:
                assert choice["detect.sample_fps"] > before["detect.sample_fps"]


def test_hints_of_another_video_save_trials() -> None:
    plain = Formula(FakeClock())
    search(plain, Targets(0.85))
    choices = space().choices
    hints = [
        Observation(
            point,
            cost_core_ms(choice),
            noise=0.2,
            measured=Targets(0.85).measured(
                Predicted(cost_core_ms(choice), 0.1, 10, accuracy(choice), accuracy(choice) - 0.02, 1.0)
            ),
            hint=True,
        )
        for point, choice in choices.items()
    ][::3]
    told = Formula(FakeClock())
    found = search(told, Targets(0.85), hints=hints)
    assert found.best is not None
    assert found.best.predicted is not None
    assert found.best.predicted.cost_core_ms <= 1.05 * cheapest(0.85)
    assert len(told.asked) < len(plain.asked)


@pytest.mark.parametrize(("late", "close"), [(1.4, True), (1.6, False)])
def test_what_is_right_enough_and_a_little_late_is_close(late: float, close: bool) -> None:
    """A trial is short and cold: a run may well be in time with it."""
    evaluator = Formula(FakeClock(), p95_ms=lambda choice: late * 100 + cost_core_ms(choice) - cost_core_ms(best))
    best = min(space().choices.values(), key=lambda choice: (accuracy(choice) < 0.87, cost_core_ms(choice)))
    found = search(evaluator, Targets(0.85, latency=(0.95, 0.1)))
    assert found.best is None
    assert found.nearest is not None
    assert (found.close is not None) is close
    assert found.close is None or found.close.predicted is not None


def test_what_is_not_right_enough_or_cannot_keep_up_is_not_close() -> None:
    targets = Targets(0.85, latency=(0.95, 0.1), fps=25.0)
    fine = Predicted(10.0, 0.02, 30.0, 0.9, 0.88, 0.92, p50_ms=50, p95_ms=120, p99_ms=150)
    assert targets.close(fine)
    assert not targets.close(msgspec.structs.replace(fine, accuracy_low=0.84))
    assert not targets.close(msgspec.structs.replace(fine, frames_per_s=24.0))
    assert not targets.close(msgspec.structs.replace(fine, p95_ms=None))


class Interrupted(Formula):
    def evaluate(self, choice: Choice, *, pace: Callable[[Predicted], bool]) -> Trial | None:
        if len(self.asked) == 3:
            self.asked.append(choice)
            return None
        return super().evaluate(choice, pace=pace)


def test_a_search_that_nobody_waits_for_any_more_tries_nothing_further() -> None:
    evaluator = Interrupted(FakeClock())
    outcome = search(evaluator, Targets(0.8, None, None, 500, 25.0))
    assert len(evaluator.asked) == 4
    assert len(outcome.tried) == 3
