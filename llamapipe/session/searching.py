"""The search for a configuration: what to try next, within a budget of seconds and frames."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from llamapipe.clock import Clock
from llamapipe.errors import LlamapipeError, UsageError
from llamapipe.session.priors import accuracy_trend, cost_trend, is_profiled, latency_trend, pace_trend
from llamapipe.session.targets import Targets
from llamapipe.session.trials import Evaluator, Trial
from llamapipe.session.tunable import Tunable
from llamapipe.tune import Observation, Point, Predicted, Search, Space, Trend, Tried, preload

__all__ = ["BudgetTooShort", "OnStep", "Outcome", "Step", "search_configuration"]

_INITIAL = 1  # points spread over the space before any is chosen, where something says what they cost
_INITIAL_UNTOLD = 5  # the same where no stage has a model: of fewer, the search would learn that all cost the same
_NEGLIGIBLE = 0.02  # share of the reference's cost below which a stage is left as it is in the reference
_CHEAPER = 0.3  # of what the reference took: what another trial is expected to take, before there was one
_CLEARLY = 0.02  # below the floor, and no variation of batch or rate will do
_ROOMY_S = 2.0  # a shorter search is over before anything is fitted, and the run would share its cores with imports
_DONE = 0.003  # expected relative gain that is no longer worth a trial


class BudgetTooShort(UsageError):
    """Not even the reference could be tried in it."""


@dataclass(frozen=True, slots=True)
class Step:
    """Progress: a configuration is about to be tried (``tried`` None) or has been."""

    number: int
    points: int
    spent_s: float
    budget_s: float
    what: str
    tried: Tried | None = None
    best_core_ms: float | None = None  # of what fits so far


OnStep = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search found. ``best`` None: nothing fits, and ``nearest`` comes closest.

    ``close`` is then what is right enough, and no later than trials are unsure.
    """

    best: Tried | None
    nearest: Tried | None
    close: Tried | None
    tried: Sequence[Tried]


def search_configuration(
    evaluator: Evaluator,
    choices: Tunable,
    targets: Targets,
    *,
    budget_s: float,
    budget_frames: int | None,
    began_s: float,
    clock: Clock,
    hints: Sequence[Observation] = (),
    seed: int = 0,
    on_step: OnStep = lambda _: None,
) -> Outcome:
    """Try the reference, what a run takes untuned, and then what promises most, until nothing does or time is up.

    ``began_s`` is when the budget's time began. Raises BudgetTooShort where it is so for the reference.
    """
    frames = inf if budget_frames is None else budget_frames
    if budget_s >= _ROOMY_S and len(choices.space.points) > 1:
        threading.Thread(target=preload, name="llamapipe preload", daemon=True).start()
    return _Searcher(evaluator, choices, targets, budget_s, frames, began_s, clock, seed, on_step).run(hints)


@dataclass
class _Searcher:
    _evaluator: Evaluator
    _choices: Tunable
    _targets: Targets
    _budget_s: float
    _frames_left: float
    _began_s: float
    _clock: Clock
    _seed: int
    _on_step: OnStep
    _tried: list[Tried] = field(default_factory=list)
    _given_up: bool = False
    _last_frames: int = 0

    @property
    def _left_s(self) -> float:
        return self._budget_s - (self._clock.now_s() - self._began_s)

    def run(self, hints: Sequence[Observation]) -> Outcome:
        choices = self._choices
        reference = self._try(choices.reference, "reference")
        if reference is None:
            why = self._tried[-1].what if self._tried else ""
            if why:
                raise LlamapipeError(f"the reference cannot be run: {why}", hint="name another one with --reference")
            raise BudgetTooShort(
                f"the budget of {self._budget_s:.3g} s is too short to try the reference configuration",
                hint=f"give more: --budget-s {max(10, round(3 * self._budget_s))}"
                + ("" if self._frames_left == inf else "; --budget-frames bounds it besides, not instead"),
            )
        trend = cost_trend(choices, reference, self._targets.fps)
        space = choices.space_near(choices.reference, _negligible(choices, reference))
        if trend is not None and is_profiled(choices) and reference.predicted.accuracy == 1.0:
            space = _no_dearer(space, choices.reference, trend)
        initial = min(_INITIAL if trend is not None else _INITIAL_UNTOLD, len(space.points))
        fps, known_s = self._targets.fps, self._targets.latency_s(reference.predicted)
        search = Search(
            space,
            constraints=self._targets.constraints(
                accuracy=reference.predicted.accuracy is not None,
                trend=accuracy_trend(choices, reference, fps),
                pace=pace_trend(choices, reference, fps),
                latency=latency_trend(choices, reference, fps, known_s),
            ),
            seed=self._seed,
            initial=initial,
            trend=trend,
        )
        for hint in hints:
            search.tell(hint)
        # Another trial has no frames to count first, and costs less.
        self._tell(search, choices.reference, replace(reference, took_s=_CHEAPER * reference.took_s))
        if choices.default != choices.reference and (default := self._try(choices.default, "default")) is not None:
            self._tell(search, choices.default, default, hint=choices.default not in space.index)
        while self._left_s > self._usual_s and self._frames_left >= self._last_frames:
            search.budget = search.spent + self._left_s
            if len(self._tried) >= initial and self._fitting() and search.expected_gain() < _DONE:
                break
            asked = search.ask()
            if not asked:
                break
            trial = self._try(asked[0], "")
            if self._given_up:
                break
            if trial is not None:
                self._tell(search, asked[0], trial)
                self._rule_out(search, asked[0], trial)
            elif self._left_s > 0:
                search.fail(asked[0])
        return self._outcome()

    def _tell(self, search: Search, point: Point, trial: Trial, *, hint: bool = False) -> None:
        predicted = trial.predicted
        search.tell(
            Observation(
                point,
                predicted.cost_core_ms,
                noise=max(0.01, predicted.cost_deviation),
                cost=max(trial.took_s, 1e-3),
                measured=self._targets.measured(predicted),
                hint=hint,
            )
        )

    def _try(self, point: Point, what: str) -> Trial | None:
        choice = self._choices.choices[point]
        self._tell_step(what, None)
        began_s = self._clock.now_s()
        try:
            trial = self._evaluator.evaluate(choice, pace=self._is_worth_pacing)
        except LlamapipeError as error:
            failed = Tried(choice, None, False, self._clock.now_s() - began_s, error.message)
            self._tried.append(failed)
            self._tell_step(what, failed)
            return None
        if trial is None:  # the time was up, or nobody wants to know any more
            self._given_up = True
            return None
        self._frames_left -= trial.frames
        self._last_frames = trial.frames
        fits = self._targets.shortfall(trial.predicted) <= 0
        if self._targets.worth_pacing(trial.predicted) and trial.predicted.p95_ms is None:
            what = what or "dearer"  # than what fits: its latency does not matter
        tried = Tried(choice, trial.predicted, fits, trial.took_s, what)
        self._tried.append(tried)
        self._tell_step(what, tried)
        return trial

    def _rule_out(self, search: Search, point: Point, trial: Trial) -> None:
        """Where variants are not right enough, they are no better looking at fewer frames, nor in other batches."""
        accuracy = trial.predicted.accuracy
        if accuracy is None or accuracy >= self._targets.floor - _CLEARLY:
            return
        knobs = [knob.name for knob in search.space.knobs]
        for other in search.space.points:
            pairs = [(name, a, b) for name, a, b in zip(knobs, point, other, strict=True) if a != b]
            if all(
                name.endswith(".batch")
                or (name.endswith(".sample_fps") and float(b) < float(a))
                or (name.endswith(".skip_still") and float(b) > float(a))
                for name, a, b in pairs
            ):
                search.fail(other)

    def _tell_step(self, what: str, tried: Tried | None) -> None:
        fitting = self._fitting()
        self._on_step(
            Step(
                number=len(self._tried) + (tried is None),
                points=len(self._choices.space.points),
                spent_s=self._budget_s - self._left_s,
                budget_s=self._budget_s,
                what=what,
                tried=tried,
                best_core_ms=min((_cost(t) for t in fitting), default=None),
            )
        )

    @property
    def _usual_s(self) -> float:
        """What a trial is expected to take: one that time is not enough for would be for nothing."""
        took_s = [tried.took_s for tried in self._tried if tried.predicted is not None]
        others = took_s[1:] or [_CHEAPER * took_s[0]]
        return sum(others) / len(others)

    def _is_worth_pacing(self, predicted: Predicted) -> bool:
        best = min(map(_cost, self._fitting()), default=inf)
        return predicted.cost_core_ms < best and self._targets.worth_pacing(predicted)

    def _fitting(self) -> list[Tried]:
        return [tried for tried in self._tried if tried.fits]

    def _outcome(self) -> Outcome:
        measured = [tried for tried in self._tried if tried.predicted is not None]
        best = min(self._fitting(), key=_cost, default=None)
        nearest = close = None
        if best is None:

            def short(tried: Tried) -> float:
                return self._targets.shortfall(_predicted(tried))

            nearest = min(measured, key=short, default=None)
            close = min((t for t in measured if self._targets.close(_predicted(t))), key=short, default=None)
        return Outcome(best, nearest, close, self._tried)


def _predicted(tried: Tried) -> Predicted:
    assert tried.predicted is not None
    return tried.predicted


def _cost(tried: Tried) -> float:
    return _predicted(tried).cost_core_ms


def _no_dearer(space: Space, reference: Point, trend: Trend) -> Space:
    """Without what would be dearer than the reference by the profiles, and could not be more right."""
    most = trend.mean([reference])[0] + 1e-6
    return Space(
        space.knobs, [p for p, cost in zip(space.points, trend.mean(space.points), strict=True) if cost <= most]
    )


def _negligible(choices: Tunable, reference: Trial) -> list[str]:
    """Stages that had next to nothing to do: what they run with saves nothing, and nothing would be learned of it."""
    whole_s = sum(reference.by_stage.values())
    return [
        stage.stage
        for stage in choices.stages
        if reference.by_stage.get(stage.stage, 0.0) < _NEGLIGIBLE * whole_s and len(choices.stages) > 1
    ]
