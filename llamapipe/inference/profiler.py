"""Profiles of variants: a few points measured, the rest predicted, all kept in the catalogue.

The grid (every variant of the models, every batch that each can take) is fixed beforehand; `ProfileSearch` says what of
it to measure, `measure` does so in processes of their own. Every point is kept as soon as it is there: a profiling that
was interrupted goes on where it was, and what was measured before is not measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Any, Protocol

import msgspec
import numpy as np

from llamapipe.catalog import Model, Variant
from llamapipe.catalog.profile import AccuracyFigure, BatchPoint, Profile, ProfileState
from llamapipe.errors import UsageError
from llamapipe.inference.assets import AssetStore
from llamapipe.inference.backends import BACKENDS
from llamapipe.inference.catalogue import CatalogueStore
from llamapipe.inference.choose import choose_variant
from llamapipe.inference.measuring import Measurement
from llamapipe.inference.models import model_named
from llamapipe.tune import BATCHES, SHARE, Figures, ProfileSearch

__all__ = ["GUESS", "Candidate", "Measure", "Profiled", "Step", "candidates", "figures_of", "profile_models"]

GUESS = 0.25
"""Deviation from which on predictions are no better than a guess: they could not tell two variants of a model apart."""

_NOT_LOADED = "cannot be loaded: "
_REPEATS = 3  # points that are measured once more, to learn how far two measurements differ
_USUAL_SPREAD = 0.03
_KNOWN = 80  # points of other models that are looked at


class Measure(Protocol):
    """Measures a variant at some batches: `llamapipe.inference.measuring.measure` with all else bound."""

    def __call__(self, variant: Variant, batches: Sequence[int]) -> Iterator[Measurement]:
        """See `llamapipe.inference.measuring.measure`."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant that could be had here, as far as can be told without loading it, with the batches to try."""

    variant: Variant
    batches: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """Progress: a measurement is about to be made (None) or has been."""

    variant: Variant
    batch: int
    num_measured: int
    budget: int
    num_points: int
    measurement: Measurement | None = None


@dataclass(frozen=True, slots=True)
class Profiled:
    """What a profiling came to. ``num_points`` is the grid without what turned out not to exist."""

    profiles: tuple[Profile, ...]
    num_points: int
    num_measured: int
    num_known: int  # of those measured, the points that an earlier profiling had measured
    spread: float  # relative deviation between two measurements of a point
    deviation: float  # median of what the model is unsure of at the points that it predicts, relative

    @property
    def guessed(self) -> bool:
        """Whether too little was measured for the predictions to be worth anything."""
        return self.deviation > GUESS


def candidates(model: Model, *, max_threads: int | None = None) -> list[Candidate]:
    """Variants of a model by every library, precision, input size and number of threads that this machine has."""
    threads = [1]
    while threads[-1] * 2 <= (max_threads if max_threads is not None else _num_cores()):
        threads.append(threads[-1] * 2)
    found: list[Candidate] = []
    for backend in BACKENDS.values():
        if model.format not in backend.formats:
            continue
        status = backend.status()
        if not status.available:
            continue
        for device in status.devices:
            for precision in sorted(backend.precisions(device)):
                for size in model.input_sizes:
                    asked: dict[str, Any] = {
                        "model": model.name,
                        "backend": backend.name,
                        "device": device,
                        "precision": precision,
                        "input_size": size,
                    }
                    batches = tuple(batch for batch in BATCHES if _can_be_had({**asked, "batch": batch}))
                    for number in threads if device == "cpu" else [1]:
                        variant = Variant(model.name, backend.name, device, precision, size, number)
                        if batches:
                            found.append(Candidate(variant, batches))
    return found


def _can_be_had(asked: Mapping[str, Any]) -> bool:
    try:
        choose_variant(**asked)
    except UsageError:
        return False
    return True


def _num_cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def profile_models(
    found: Sequence[Candidate],
    *,
    store: CatalogueStore,
    measure: Measure,
    digests: Mapping[str, str] | None = None,
    share: float = SHARE,
    seed: int = 0,
    again: bool = False,
    on_step: Callable[[Step], None] = lambda _: None,
) -> Profiled:
    """Profile variants of one or several models together, and keep what is found.

    ``digests`` are those of the models' own files, by name of model: what was measured of another file counts as
    unknown, and with ``again`` nothing counts as known. Variants that were found not to do what their source does are
    left as they are.
    Raises UsageError where nothing is left to measure.
    """
    session = _Session(found, store, measure, digests if digests is not None else {}, share, seed, again, on_step)
    return session.run()


class _Session:
    def __init__(
        self,
        found: Sequence[Candidate],
        store: CatalogueStore,
        measure: Measure,
        digests: Mapping[str, str],
        share: float,
        seed: int,
        again: bool,
        on_step: Callable[[Step], None],
    ) -> None:
        self._store = store
        self._measure = measure
        self._on_step = on_step
        names = {candidate.variant.name for candidate in found}
        everything = {profile.variant.name: profile for profile in store.profiles()}
        rejected = {
            name
            for name, profile in everything.items()
            if profile.state == ProfileState.REJECTED and not (again and profile.reason.startswith(_NOT_LOADED))
        }
        self._candidates = [c for c in found if c.variant.name not in rejected]
        self._profiles = {
            c.variant.name: _begun(c.variant, everything.get(c.variant.name), store.hardware, digests, again)
            for c in self._candidates
        }
        models = {candidate.variant.model for candidate in found}
        known = {
            (profile.variant, point.batch): point.median_s
            for name, profile in everything.items()
            if name not in names and profile.variant.model not in models
            for point in profile.points
            if point.count and point.batch in BATCHES
        }
        grid = [(c.variant, batch) for c in self._candidates for batch in c.batches]
        self._search = ProfileSearch(grid, known=dict(list(known.items())[:_KNOWN]), share=share, seed=seed)
        self._dead: dict[str, str] = {}  # variants that cannot be had at all, with the reason
        self._repeated: list[float] = []
        self._num_known = 0
        self._take_known()

    def run(self) -> Profiled:
        """Measure, predict, keep."""
        order: list[tuple[Variant, int]] = []
        while (asked := self._search.ask()) is not None:
            if self._measured(*asked):
                order.append(asked)
        if not self._search.num_measured:
            self._keep_dead()
            raise UsageError(
                "no variant could be measured: " + next(iter(self._dead.values()), "the grid is empty"),
                hint="see what works here: llamapipe doctor",
            )
        self._repeat(order[:_REPEATS])
        spread = sqrt(float(np.mean(np.square(self._repeated))) / 2) if self._repeated else self._spread_known()
        predicted = self._search.predict()
        by_variant: dict[str, dict[int, Figures]] = {}
        for (variant, batch), figures in predicted.items():
            by_variant.setdefault(variant.name, {})[batch] = figures
        finished = [
            _finished(self._profiles[name], figures, self._search.measured, spread)
            for name, figures in by_variant.items()
            if name not in self._dead
        ]
        self._store.put(*finished)
        self._keep_dead()
        guesses = [figures.deviation for figures in predicted.values() if not figures.count]
        return Profiled(
            tuple(self._store.profile(c.variant.name) or self._profiles[c.variant.name] for c in self._candidates),
            self._search.num_points,
            self._search.num_measured,
            self._num_known,
            spread,
            float(np.median(guesses)) if guesses else 0.0,
        )

    def _take_known(self) -> None:
        for candidate in self._candidates:
            profile = self._profiles[candidate.variant.name]
            for point in profile.points:
                if point.count and point.batch in candidate.batches:
                    self._num_known += 1
                    memory = point.peak_memory_bytes or profile.peak_memory_bytes
                    figures = Figures(
                        point.median_s, point.p95_s, point.core_s, profile.load_s, memory, count=point.count
                    )
                    self._search.tell(candidate.variant, point.batch, figures)

    def _measured(self, variant: Variant, batch: int) -> bool:
        self._tell(variant, batch, None)
        [measurement] = self._measure(variant, [batch])
        if measurement.error:
            self._failed(variant, batch, measurement.error)
        else:
            figures = figures_of(measurement)
            self._search.tell(variant, batch, figures)
            # Kept at once, with the measured points alone: a profiling that ends here goes on from them.
            profile = self._profiles[variant.name] = _with_point(self._profiles[variant.name], batch, figures)
            self._store.put(profile)
        self._tell(variant, batch, measurement)
        return not measurement.error

    def _failed(self, variant: Variant, batch: int, reason: str) -> None:
        """Find out how much cannot be had: this variant, its batches, or all batches of the model with its library."""
        if batch == 1:
            self._dead[variant.name] = reason
            self._search.fail(lambda other, _: other == variant)
            return
        smallest = min(b for b in BATCHES if b > 1)
        if batch > smallest:
            [probe] = self._measure(variant, [smallest])
            if not probe.error:  # too large, for the memory perhaps
                self._search.fail(lambda other, b: other == variant and b >= batch)
                return
        self._search.fail(lambda other, b: b > 1 and (other.model, other.backend) == (variant.model, variant.backend))

    def _repeat(self, points: Sequence[tuple[Variant, int]]) -> None:
        measured = self._search.measured
        for variant, batch in points:
            for measurement in self._measure(variant, [batch]):
                if not measurement.error:
                    self._repeated.append(log(measurement.median_s / measured[(variant, batch)].median_s))

    def _spread_known(self) -> float:
        spreads = [point.spread for profile in self._profiles.values() for point in profile.points if point.spread]
        return float(np.median(spreads)) if spreads else _USUAL_SPREAD

    def _keep_dead(self) -> None:
        dead = [
            msgspec.structs.replace(
                self._profiles[name], state=ProfileState.REJECTED.value, reason=f"{_NOT_LOADED}{reason}", points=()
            )
            for name, reason in self._dead.items()
        ]
        self._store.put(*dead)

    def _tell(self, variant: Variant, batch: int, measurement: Measurement | None) -> None:
        search = self._search
        self._on_step(Step(variant, batch, search.num_measured, search.budget, search.num_points, measurement))


def figures_of(measurement: Measurement) -> Figures:
    """What a measurement says of its grid point."""
    return Figures(
        measurement.median_s,
        measurement.p95_s,
        measurement.core_s,
        measurement.load_s,
        measurement.peak_memory_bytes,
        count=len(measurement.seconds),
    )


def _begun(variant: Variant, kept: Profile | None, hardware: str, digests: Mapping[str, str], again: bool) -> Profile:
    """The profile to go on from: what is kept, without points that say nothing of this file."""
    model = model_named(variant.model)
    if kept is None:
        accuracy = tuple(
            AccuracyFigure(a.metric, a.value, a.dataset, a.kind.value, *(a.interval or (None, None)))
            for a in model.accuracy
        )
        kept = Profile(variant, hardware, accuracy=accuracy, file_sha256=digests.get(variant.model, ""))
    digest = digests.get(variant.model, "") or kept.file_sha256
    same = kept.file_sha256 in ("", digest)  # figures of another file say nothing of this one
    measured = tuple(point for point in kept.points if point.count and same and not again)
    return msgspec.structs.replace(
        kept,
        state=ProfileState.READY.value,
        reason="",
        points=measured,
        file_sha256=digest,
        tasks=kept.tasks or model.tasks,
    )


def _with_point(profile: Profile, batch: int, figures: Figures) -> Profile:
    point = BatchPoint(batch, figures.median_s, figures.p95_s, figures.core_s, figures.count, 0.0, figures.memory_bytes)
    others = [other for other in profile.points if other.batch != batch]
    points = tuple(sorted((*others, point), key=lambda point: point.batch))
    memory = max(point.peak_memory_bytes for point in points)
    return msgspec.structs.replace(profile, points=points, load_s=figures.load_s, peak_memory_bytes=memory)


def _finished(
    profile: Profile,
    figures: Mapping[int, Figures],
    measured: Mapping[tuple[Variant, int], Figures],
    spread: float,
) -> Profile:
    """All points, measured or predicted; beside them what the measured ones, or else the model, say of loading."""
    points = tuple(
        BatchPoint(
            batch,
            found.median_s,
            found.p95_s,
            found.core_s,
            found.count,
            max(spread, found.deviation),
            found.memory_bytes,
        )
        for batch, found in sorted(figures.items())
    )
    observed = tuple(point for point in profile.points if point.batch not in figures)
    own = [found.load_s for (variant, _), found in measured.items() if variant == profile.variant]
    return msgspec.structs.replace(
        profile,
        points=tuple(sorted((*points, *observed), key=lambda point: point.batch)),
        load_s=float(np.median(own or [found.load_s for found in figures.values()])),
        peak_memory_bytes=max(found.memory_bytes for found in figures.values()),
    )


def digests_of(models: Sequence[str], assets: AssetStore, store: CatalogueStore) -> dict[str, str]:
    """Digests of the files that models are loaded from; none for a model of several files."""
    found: dict[str, str] = {}
    for name in models:
        kept = store.kept_model(name)
        files = model_named(name).files
        if kept is not None:
            found[name] = kept.sha256
        elif len(files) == 1:
            found[name] = assets.asset(files[0]).sha256
    return found
