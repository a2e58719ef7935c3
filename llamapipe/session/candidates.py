"""The ways in which a stage may run its model, from what the catalogue knows of this machine.

What the user has named is kept: a model, a backend, a precision, a size. Of the rest, those remain that are right
enough, and of these only such as no other one beats in cost and latency and accuracy at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from llamapipe.catalog import BatchPoint, Configuration, Floor, Profile, ProfileState, Variant
from llamapipe.control import Candidate
from llamapipe.errors import UsageError

__all__ = ["Needs", "candidates_for"]

_MOST_CANDIDATES = 4  # every worker loads them all
_MOST_ITEMS = 8  # of a batch: more wait for each other longer than they save
_PAYS = 0.05  # share of an item's cost that the next larger batch must save
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
    price: float = 1.0  # of a core-second

    @property
    def least(self) -> float:
        """The lowest accuracy of a candidate."""
        if self.floor is None:
            return 0.0
        return min(self.floor.value, self.second_floor) if self.chooses and self.second_floor else self.floor.value


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
        known = [(profile, _accuracy(profile, needs.floor)) for profile in fitting]
        reaching = [(profile, value) for profile, value in known if value is not None and value >= needs.least]
        if known and not reaching:
            _refuse(needs.floor, known)
    else:
        reaching = [(profile, 1.0) for profile in fitting]
    batch = int(wanted.get("batch") or 0)
    found = [_candidate(profile, value, batch, needs.price, configure) for profile, value in reaching]
    return _worth_loading([c for c in found if c is not None], needs)


def _fits(profile: Profile, default: Variant, wanted: Mapping[str, Any], needs: Needs) -> bool:
    variant = profile.variant
    if profile.state != ProfileState.READY or not profile.points:
        return False
    named = ("model", "backend", "device", "precision", "input_size", "threads")
    if any(wanted.get(knob) is not None and getattr(default, knob) != getattr(variant, knob) for knob in named):
        return False
    if wanted.get("threads") is None and needs.threads is not None and variant.threads != needs.threads:
        return False
    if variant.device != default.device:
        return False
    if needs.floor is None:
        return (variant.model, variant.input_size) == (default.model, default.input_size)
    task = wanted.get("task")
    return variant.model == default.model or (task is not None and task in profile.tasks)


def _accuracy(profile: Profile, floor: Floor) -> float | None:
    figure = profile.accuracy_of(floor.metric)
    return None if figure is None else figure.value


def _refuse(floor: Floor, known: Sequence[tuple[Profile, float | None]]) -> None:
    told = [(value, profile) for profile, value in known if value is not None]
    if not told:
        raise UsageError(
            f"accuracy {floor.metric} >= {floor.value:g} cannot be promised: no variant here has that figure",
            hint="ask for another metric, or for agreement by a bare number",
        )
    value, best = max(told, key=lambda entry: entry[0])
    raise UsageError(
        f"accuracy {floor.metric} >= {floor.value:g} cannot be had: the best on this machine is {best.variant.name} "
        f"with {value:.3f}",
        hint="lower the floor, or register a better model: llamapipe models register",
    )


def _candidate(
    profile: Profile, accuracy: float, batch: int, price: float, configure: Callable[[Variant, int], Configuration]
) -> Candidate | None:
    largest = min(batch or _MOST_ITEMS, profile.max_batch)
    if batch and batch > profile.max_batch:
        return None
    if not batch:
        costs = {n: profile.core_s_per_item(n) for n in _sizes(largest)}
        largest = 1
        for n, cost in costs.items():
            if cost < (1 - _PAYS) * costs[largest]:
                largest = n
    points = tuple(_known(profile.point(n)) for n in _sizes(largest))
    return Candidate(configure(profile.variant, largest), points, accuracy, price)


def _sizes(largest: int) -> list[int]:
    sizes = [n for n in (1, 2, 4, 8, 16, 32, 64) if n < largest]
    return [*sizes, largest]


def _known(point: BatchPoint) -> BatchPoint:
    return (
        point
        if point.p95_s >= point.median_s
        else BatchPoint(point.batch, point.median_s, point.median_s, point.core_s)
    )


def _cost(candidate: Candidate) -> float:
    last = candidate.points[-1]
    return candidate.price * candidate.cores * last.median_s / last.batch


def _worth_loading(candidates: Sequence[Candidate], needs: Needs) -> tuple[Candidate, ...]:
    """The front of cost, latency and accuracy, the budgeted one first."""
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (_cost(c), c.points[0].p95_s, -c.accuracy)):
        if not any(_beats(other, candidate) for other in front):
            front.append(candidate)
    if not front:
        return ()
    floor = needs.floor.value if needs.floor is not None else 0.0
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


def _beats(one: Candidate, other: Candidate) -> bool:
    return (
        _cost(one) <= _cost(other) and one.points[0].p95_s <= other.points[0].p95_s and one.accuracy >= other.accuracy
    )
