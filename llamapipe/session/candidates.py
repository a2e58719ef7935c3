"""The ways in which a stage may run its model, from what the catalogue knows of this machine.

What the user has named is kept: a model, a backend, a precision, a size. Of the rest, those remain that are right
enough, and of these only such as no other one beats in cost and latency and accuracy at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import msgspec

from llamapipe.catalog import BatchPoint, Configuration, Floor, Profile, ProfileState, Variant
from llamapipe.control import Candidate
from llamapipe.control.plan import StagePlan
from llamapipe.errors import UsageError
from llamapipe.spec import CORE_SECONDS, Prices

__all__ = ["Choice", "Needs", "Weighed", "candidates_for", "way_to_run", "weigh"]

_CPU = "cpu"
_MOST_CANDIDATES = 4  # every worker loads them all
_MOST_ITEMS = 8  # of a batch: more wait for each other longer than they save
_PAYS = 0.05  # share of an item's cost that the next larger batch must save
_GUESS = 0.5  # relative deviation from which a prediction is none
_SHARE = 0.5  # of a latency objective that the first candidate may take


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run asks of all its models together."""

    floor: Floor | None = None
    second_floor: float = 0.0  # below which even an overloaded run does not go
    latency_s: float | None = None
    quantile: float = 0.95  # share of frames that are to meet it
    chooses: bool = False  # there is an objective: several candidates are of use
    threads: int | None = None  # that an invocation may take; None: any
    prices: Prices = CORE_SECONDS
    # Of a stage, how far variants agree on the run's own video; others are not known to. None: the catalogue is asked.
    agreed: Mapping[Variant, float] | None = None
    frames_per_s: float | None = None  # that come of themselves; None: as fast as they are worked on

    @property
    def most_items(self) -> int:
        """Of a batch: what comes while a candidate's share of the objective passes. More is never there to fill it."""
        if self.frames_per_s is None or self.latency_s is None:
            return _MOST_ITEMS
        return min(_MOST_ITEMS, 1 + int(_SHARE * self.latency_s * self.frames_per_s))

    @property
    def least(self) -> float:
        """The lowest accuracy of a candidate."""
        if self.floor is None:
            return 0.0
        return min(self.floor.value, self.second_floor) if self.chooses and self.second_floor else self.floor.value


class Choice(msgspec.Struct, frozen=True):
    """How a stage is to be run, for another process: variants with their batch, and how right each is."""

    first: tuple[Variant, int]
    candidates: tuple[tuple[Variant, int, float], ...] = ()  # empty: in the first way only

    @classmethod
    def of(cls, stage: StagePlan) -> Choice | None:
        """That of a stage; None for one without a model."""
        first, ways = stage.configuration, [(way.configuration, way.accuracy) for way in stage.candidates]
        if first.variant is None:
            return None
        kept = tuple((way.variant, way.batch, accuracy) for way, accuracy in ways if way.variant is not None)
        return cls((first.variant, first.batch), kept)


def candidates_for(
    default: Variant,
    wanted: Mapping[str, Any],
    profiles: Sequence[Profile],
    needs: Needs,
    configure: Callable[[Variant, int], Configuration],
) -> tuple[Candidate, ...]:
    """The candidates, the one that is budgeted for first; none where nothing fitting has been measured.

    ``default`` is the variant that would be taken without profiles: where no floor is given, only its model at its
    input size is considered. ``configure`` makes the configuration of a variant with a batch. Raises UsageError where
    variants have been measured and none of them reaches the floor.
    """
    fitting = [profile for profile in profiles if _fits(profile, default, wanted, needs)]
    if needs.floor is not None:
        known = [(profile, _accuracy(profile, needs, wanted.get("task"))) for profile in fitting]
        reaching = [(profile, value) for profile, value in known if value is not None and value >= needs.least]
        if known and not reaching:
            _refuse(needs.floor, known)
    else:
        reaching = [(profile, 1.0) for profile in fitting]
    batch = int(wanted.get("batch") or 0)
    found = [_candidate(profile, value, batch, needs, configure) for profile, value in reaching]
    return _worth_loading([c for c in found if c is not None], needs)


@dataclass(frozen=True, slots=True)
class Weighed:
    """A variant that was considered for a stage, and what became of it."""

    profile: Profile
    chosen: int | None  # its place among the candidates, 0 the one that is budgeted for
    accuracy: float | None  # on the run's scale
    why: str


def weigh(
    default: Variant,
    wanted: Mapping[str, Any],
    profiles: Sequence[Profile],
    needs: Needs,
    candidates: Sequence[Candidate],
) -> list[Weighed]:
    """Why each profiled variant of the stage's task is a candidate, or lost. The candidates first, in their order."""
    places = {c.configuration.variant: i for i, c in enumerate(candidates)}
    task = wanted.get("task")
    found: list[Weighed] = []
    for profile in profiles:
        if profile.variant.model != default.model and (task is None or task not in profile.tasks):
            continue
        accuracy = _accuracy(profile, needs, task)
        place = places.get(profile.variant)
        why = _loss(profile, default, wanted, needs, candidates, accuracy) if place is None else _win(place, needs)
        found.append(Weighed(profile, place, accuracy, why))
    return sorted(found, key=lambda w: (w.chosen is None, w.chosen or 0, w.profile.variant.name))


def _win(place: int, needs: Needs) -> str:
    if place:
        return "for invocations that it suits better"
    if needs.latency_s is None:
        return "the cheapest that is right enough"
    return "the cheapest that is right enough and takes at most half of the objective, else the fastest"


def _loss(
    profile: Profile,
    default: Variant,
    wanted: Mapping[str, Any],
    needs: Needs,
    candidates: Sequence[Candidate],
    accuracy: float | None,
) -> str:
    variant = profile.variant
    if profile.state != ProfileState.READY:
        return f"rejected when it was built: {profile.reason}"
    if not _is_known(profile):
        return "not measured yet" if not profile.points else "what it takes is only guessed"
    for knob in ("model", "backend", "device", "precision", "input_size", "threads"):
        if wanted.get(knob) is not None and getattr(default, knob) != getattr(variant, knob):
            return f"the pipeline names another {knob.replace('_', ' ')}"
    if variant.device != default.device and not needs.prices.names(variant.device):
        return f"runs on {variant.device}, which has no price"
    if needs.threads is not None and variant.device == _CPU and variant.threads != needs.threads:
        return f"takes {variant.threads} threads: a worker has {needs.threads}"
    if needs.floor is None:
        if (variant.model, variant.input_size) != (default.model, default.input_size):
            return "another model or input size: without a floor, only the usual ones are considered"
    elif accuracy is None and needs.agreed is not None:
        return "not tried on this video"
    elif accuracy is None:
        return f"no figure of {needs.floor.metric}"
    elif accuracy < needs.least:
        return f"{needs.floor.metric} {accuracy:.3f} is below {needs.least:g}"
    best = candidates[0] if candidates else None
    if best is None or best.configuration.variant is None:
        return "does not fit"
    mine = profile.core_s_per_item(1) * needs.prices.of(variant.device)
    its = best.points[0].median_s * best.cores * best.price
    if mine >= its and profile.point(1).p95_s >= best.points[0].p95_s:
        return f"dearer and slower than {best.configuration.variant.name}"
    return "beaten by the candidates in cost, latency and accuracy together" if needs.chooses else "dearer"


def _fits(profile: Profile, default: Variant, wanted: Mapping[str, Any], needs: Needs) -> bool:
    variant = profile.variant
    if profile.state != ProfileState.READY or not _is_known(profile):
        return False
    named = ("model", "backend", "device", "precision", "input_size", "threads")
    if any(wanted.get(knob) is not None and getattr(default, knob) != getattr(variant, knob) for knob in named):
        return False
    other = needs.threads is not None and variant.device == _CPU and variant.threads != needs.threads
    if wanted.get("threads") is None and other:
        return False
    if variant.device != default.device and not needs.prices.names(variant.device):
        return False
    if needs.floor is None:  # nobody has said how right is right enough: nothing that changes what comes out
        same = (variant.model, variant.input_size, variant.precision)
        return same == (default.model, default.input_size, default.precision)
    task = wanted.get("task")
    return variant.model == default.model or (task is not None and task in profile.tasks)


def _accuracy(profile: Profile, needs: Needs, task: str | None) -> float | None:
    if needs.floor is None:
        return None
    if needs.agreed is not None:
        return needs.agreed.get(profile.variant)
    figure = profile.accuracy_of(needs.floor.metric, task=task)
    return None if figure is None else figure.value


def _refuse(floor: Floor, known: Sequence[tuple[Profile, float | None]]) -> None:
    told = [(value, profile) for profile, value in known if value is not None]
    if not told:
        raise UsageError(
            f"accuracy {floor.metric} >= {floor.value:g} cannot be promised: no variant here has that figure",
            hint="give a bare number, which is agreement and measured on the video itself; or measure it: "
            "llamapipe models build --ground-truth LABELS",
        )
    value, best = max(told, key=lambda entry: entry[0])
    raise UsageError(
        f"accuracy {floor.metric} >= {floor.value:g} cannot be had: the best on this machine is {best.variant.name} "
        f"with {value:.3f}",
        hint="lower the floor, or register a better model: llamapipe models register",
    )


def _candidate(
    profile: Profile, accuracy: float, batch: int, needs: Needs, configure: Callable[[Variant, int], Configuration]
) -> Candidate | None:
    largest = min(batch or needs.most_items, profile.max_batch)
    if batch and batch > profile.max_batch:
        return None
    if not batch:
        costs = {n: profile.core_s_per_item(n) for n in _sizes(largest)}
        largest = 1
        for n, cost in costs.items():
            if cost < (1 - _PAYS) * costs[largest]:
                largest = n
    points = tuple(_known(profile.point(n)) for n in _sizes(largest))
    return Candidate(configure(profile.variant, largest), points, accuracy, needs.prices.of(profile.variant.device))


def way_to_run(
    variant: Variant,
    batch: int,
    profiles: Sequence[Profile],
    needs: Needs,
    configure: Callable[[Variant, int], Configuration],
) -> Candidate:
    """This variant with this batch, with what its profile says of it, if there is one."""
    profile = next((p for p in profiles if p.variant == variant and p.points), None)
    known = None if profile is None else _candidate(profile, 1.0, batch, needs, configure)
    return known or Candidate(configure(variant, batch), price=needs.prices.of(variant.device))


def _sizes(largest: int) -> list[int]:
    sizes = [n for n in (1, 2, 4, 8, 16, 32, 64) if n < largest]
    return [*sizes, largest]


def _is_known(profile: Profile) -> bool:
    """Whether something was measured, or predicted well enough to go by."""
    return bool(profile.points) and min(p.spread if not p.count else 0.0 for p in profile.points) <= _GUESS


def _known(point: BatchPoint) -> BatchPoint:
    return (
        point
        if point.p95_s >= point.median_s
        else BatchPoint(point.batch, point.median_s, point.median_s, point.core_s)
    )


def _worth_loading(candidates: Sequence[Candidate], needs: Needs) -> tuple[Candidate, ...]:
    """The front of cost and latency, and below the floor of accuracy too; the budgeted one first.

    More accuracy than was asked for is nothing that an invocation would be given for its money.
    """
    floor = needs.floor.value if needs.floor is not None else 0.0
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.full_batch_cost, c.points[0].p95_s, -c.accuracy)):
        if not any(_beats(other, candidate, floor) for other in front):
            front.append(candidate)
    if not front:
        return ()
    good = [c for c in front if c.accuracy >= floor] or front
    may_take_s = inf if needs.latency_s is None else _SHARE * needs.latency_s
    in_time = [c for c in good if c.points[0].p95_s <= may_take_s]
    first = in_time[0] if in_time else min(good, key=lambda c: c.points[0].p95_s)
    if not needs.chooses:
        return (first,)
    fastest = min(good, key=lambda c: c.points[0].p95_s)
    chosen = [first]
    for candidate in [fastest, *front]:
        if candidate not in chosen and len(chosen) < _MOST_CANDIDATES:
            chosen.append(candidate)
    return tuple(chosen)


def _beats(one: Candidate, other: Candidate, floor: float) -> bool:
    return (
        one.full_batch_cost <= other.full_batch_cost
        and one.points[0].p95_s <= other.points[0].p95_s
        and min(one.accuracy, floor) >= min(other.accuracy, floor)
    )
