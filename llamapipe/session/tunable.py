"""What of a pipeline may be tuned: every stage's variants, batches, sampling rates, and the knobs that users name.

A choice is what a point of the search space sets: ``"stage.knob"`` to a value, as ``--set`` would.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import sqrt
from typing import Any

from llamapipe.catalog import Precision, Profile, ProfileState, Variant
from llamapipe.errors import LlamapipeError, UsageError
from llamapipe.inference import AssetStore, choose_variant, find_models, model_named, required_assets
from llamapipe.inference.profiler import candidates
from llamapipe.operator import Manifest
from llamapipe.session.pinned import as_sets
from llamapipe.session.resolve import LoadedPipeline
from llamapipe.spec import CORE_SECONDS, Prices, apply_sets, levels, split_knobs
from llamapipe.spec.model import OpSpec
from llamapipe.spec.yaml_tree import parse_scalar
from llamapipe.tune import Knob, Point, Scale, Space

__all__ = ["Choice", "StageChoices", "Tunable", "asked_knobs", "stage_choices", "still_stages", "tunable"]

Choice = Mapping[str, Any]
"""``"stage.knob"`` -> value."""

_LARGEST_BATCH = 8
# Share of an item's cost that a larger batch must save to be tried: another batch is another network to load.
_PAYS = 0.15
_RATES = (1, 2, 3, 5)  # every so manieth frame
_LEAST_RATE = 2.0  # frames a second that a stage looks at, at least
_MOST_POINTS = 3000
_AS_IT_IS = "as it is"
_FIXED = ("model", "backend", "device", "precision", "input_size", "threads")
_NAMES_VARIANT = ("model", "backend", "device", "precision", "input_size")
_OF_VARIANTS = ("model", "engine", "side")  # knobs of the space that say which variant it is
_ORDER = (Precision.FP32, Precision.BF16, Precision.FP16, Precision.INT8)  # the most exact first


@dataclass(frozen=True, slots=True)
class StageChoices:
    """What a stage with a model may run, the variant of the reference first, and that of a run without tuning."""

    stage: str
    task: str
    variants: tuple[Variant, ...]
    default: Variant
    batches: Mapping[Variant, tuple[int, ...]]
    profiles: Mapping[Variant, Profile]
    per_frame: bool  # looks at whole frames, one by one
    prices: Prices = CORE_SECONDS
    looks: Mapping[float, float] = field(default_factory=dict)  # by `skip_still`: share of frames that change, 0..1

    def core_s(self, variant: Variant, batch: int) -> float | None:
        """Seconds an item by the profile, of a core or of the device that the variant runs on; None: there is none."""
        profile = self.profiles.get(variant)
        return None if profile is None else profile.core_s_per_item(max(1, min(batch, profile.max_batch)))

    def cost_s(self, variant: Variant, batch: int) -> float | None:
        """The same, another device's by its price against a core's."""
        core_s = self.core_s(variant, batch)
        return None if core_s is None else core_s * self.prices.in_cores(variant.device)


@dataclass(frozen=True, slots=True)
class Tunable:
    """The space, and what its points set. ``notes`` say what could not be taken in."""

    space: Space
    choices: Mapping[Point, Choice]
    reference: Point
    default: Point
    stages: tuple[StageChoices, ...]
    notes: tuple[str, ...] = ()
    accurate: bool = False  # a knob changes what comes out

    def variant(self, point: Point, stage: StageChoices) -> tuple[Variant, int]:
        """(variant, batch) of a stage at a point."""
        choice = self.choices[point]
        found = next(v for v in stage.variants if _sets(stage.stage, v).items() <= choice.items())
        return found, int(choice[f"{stage.stage}.batch"])

    def variants_alone(self) -> Tunable:
        """With every other knob as it is at the reference."""
        kept = [at for at, knob in enumerate(self.space.knobs) if knob.name.rpartition(".")[2] not in _OF_VARIANTS]
        points = {p: c for p, c in self.choices.items() if all(p[at] == self.reference[at] for at in kept)}
        default = self.default if self.default in points else self.reference
        return replace(self, space=Space(self.space.knobs, list(points)), choices=points, default=default)

    def space_near(self, point: Point, stages: Sequence[str]) -> Space:
        """The space in which these stages have what they have at a point."""
        fixed = [at for at, knob in enumerate(self.space.knobs) if knob.name.split(".")[0] in stages]
        if not fixed:
            return self.space
        return Space(self.space.knobs, [p for p in self.space.points if all(p[at] == point[at] for at in fixed)])

    def rate(self, point: Point, stage: StageChoices, fps: float) -> float:
        """Share of frames that a stage looks at, those without motion included."""
        return min(1.0, float(self.choices[point].get(f"{stage.stage}.sample_fps", fps)) / fps)

    def looked_at(self, point: Point, stage: StageChoices, fps: float) -> float:
        """Share of frames that a stage looks at."""
        return self.rate(point, stage, fps) * stage.looks.get(self.skipped(point, stage), 1.0)

    def skipped(self, point: Point, stage: StageChoices) -> float:
        """Share of the picture that must change for the stage to look; 0: it looks anyhow."""
        return float(self.choices[point].get(f"{stage.stage}.skip_still", 0.0))


def asked_knobs(texts: Sequence[str]) -> dict[str, list[Any]]:
    """``STAGE.KNOB=V1,V2,...`` as values by knob. Raises UsageError."""
    found: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or "." not in key.strip(".") or not values:
            raise UsageError(
                f"--knob {text!r}: expected STAGE.KNOB=VALUE,VALUE,...",
                hint="for example: --knob detect.sample_fps=5,25",
            )
        if key.strip() in found:
            raise UsageError(f"--knob {key.strip()} is given twice", hint="give all its values at once")
        found[key.strip()] = [parse_scalar(value.strip()) for value in values.split(",")]
    return found


def tunable(
    loaded: LoadedPipeline,
    profiles: Sequence[Profile],
    assets: AssetStore,
    *,
    fps: float,
    asked: Mapping[str, Sequence[Any]],
    reference: Choice,
    prices: Prices = CORE_SECONDS,
    looks: Mapping[str, Mapping[float, float]] | None = None,
) -> Tunable:
    """The space of a pipeline on a video of ``fps``.

    ``asked`` are knobs with values that the user wants tried, the first is the reference's; ``reference`` are values
    of the reference that the user names. ``looks`` are values of `skip_still` to try, by stage of those that
    `still_stages` names, with the share of frames that each leaves to be looked at. Raises UsageError for a knob that
    is not there.
    """
    types = {op.type: loaded.registry.manifest(op.type) for op in loaded.spec.ops}
    for key, value in ((key, value) for key, values in asked.items() for value in values):
        apply_sets(loaded.spec, as_sets({key: value}), types, flag="--knob")
    for key, value in reference.items():
        apply_sets(loaded.spec, as_sets({key: value}), types, flag="--reference")
    notes: list[str] = []
    stages = [
        replace(
            stage,
            prices=prices,
            looks=(looks or {}).get(stage.stage, {}) if f"{stage.stage}.skip_still" not in asked else {},
        )
        for stage in stage_choices(loaded, profiles, assets, notes)
    ]
    stages = [_as_asked(stage, asked) for stage in stages]
    further = {key: values for key, values in asked.items() if not _is_of_variants(key, stages)}
    used = dict.fromkeys(v.device for stage in stages for v in stage.variants)
    devices = [device for device in used if device != "cpu"] if prices.devices else []
    notes += [f"costs go by prices: a second of {d} counts as {prices.in_cores(d):.3g} of a core" for d in devices]
    sampled = {
        stage.stage: _rates(fps)
        for stage in stages
        if stage.per_frame
        and f"{stage.stage}.sample_fps" not in asked
        and not _is_set(loaded, stage.stage, "sample_fps")
    }
    named = [Knob(key, tuple(map(_plain, values)), _scale(values)) for key, values in further.items()]
    if _count(stages, sampled, named) > _MOST_POINTS:  # one of them tells whether it pays
        stages = [replace(stage, looks=dict(list(stage.looks.items())[:1])) for stage in stages]
    while _count(stages, sampled, named) > _MOST_POINTS and any(len(rates) > 1 for rates in sampled.values()):
        sampled = {stage: rates[:-1] if len(rates) > 1 else rates for stage, rates in sampled.items()}
    points = _points(stages, sampled, further)
    knobs = [*_knobs(stages, sampled), *named] or [Knob("pipeline", (_AS_IT_IS,), Scale.CATEGORY)]
    space = Space(knobs, list(points))
    wanted = _reference(points, stages, sampled, reference)
    alone = {s.stage: 1 if 1 in s.batches[s.default] else s.batches[s.default][0] for s in stages}
    default = next(
        point
        for point, choice in points.items()
        if all(
            {**_sets(s.stage, s.default), f"{s.stage}.batch": alone[s.stage]}.items() <= choice.items() for s in stages
        )
        and not any(key.endswith(".sample_fps") and key.split(".")[0] in sampled for key in choice)
        and not any(s.looks and f"{s.stage}.skip_still" in choice for s in stages)
    )
    accurate = any(len(s.variants) > 1 or s.looks for s in stages) or bool(asked)
    accurate = accurate or any(len(r) > 1 for r in sampled.values())
    return Tunable(space, points, wanted, default, tuple(stages), tuple(notes), accurate)


def _is_of_variants(key: str, stages: Sequence[StageChoices]) -> bool:
    stage, _, knob = key.rpartition(".")
    return knob in (*_NAMES_VARIANT, "batch") and any(s.stage == stage for s in stages)


def _as_asked(stage: StageChoices, asked: Mapping[str, Sequence[Any]]) -> StageChoices:
    """With the variants and batches that a user wants tried, and no others. Raises UsageError where there are none."""
    for name in _NAMES_VARIANT:
        key = f"{stage.stage}.{name}"
        found: dict[Variant, Variant] = {}  # -> what it is like, or made of
        for value in asked.get(key, ()):
            alike = [v for v in stage.variants if _alike(_sets(stage.stage, v)[key], value)]
            made = {v: v for v in alike} or _made(stage, name, value)
            if not made:
                raise UsageError(
                    f"--knob {key}={value}: no such variant can be had here", hint="see: llamapipe models show MODEL"
                )
            found |= {v: of for v, of in made.items() if v not in found}
        if found:
            default = stage.default if stage.default in found else next(iter(found))
            batches = {v: stage.batches[of] for v, of in found.items()}
            stage = replace(stage, variants=tuple(found), default=default, batches=batches)
    sizes = tuple(dict.fromkeys(int(value) for value in asked.get(f"{stage.stage}.batch", ())))
    return replace(stage, batches=dict.fromkeys(stage.variants, sizes)) if sizes else stage


def _made(stage: StageChoices, name: str, value: Any) -> dict[Variant, Variant]:
    """Variants like those there are, but for one thing; of another model, as it is usually run."""
    found: dict[Variant, Variant] = {}
    for v in stage.variants:
        like = {} if name == "model" else {key: getattr(v, key) for key in _NAMES_VARIANT}
        with contextlib.suppress(LlamapipeError):
            variant = choose_variant(**{**like, name: value}, threads=v.threads)
            found.setdefault(variant, v)
    return found


def stage_choices(
    loaded: LoadedPipeline, profiles: Sequence[Profile], assets: AssetStore, notes: list[str]
) -> list[StageChoices]:
    """Of every stage with a model. What could not be taken in is added to ``notes``."""
    manifests = {op.name: loaded.registry.manifest(op.type) for op in loaded.spec.ops}
    depth = levels(loaded.spec, manifests)
    return [
        _stage(op, manifests[op.name], profiles, assets, notes, per_frame=not depth[op.name])
        for op in loaded.spec.ops
        if manifests[op.name].uses_model
    ]


def still_stages(loaded: LoadedPipeline) -> list[str]:
    """Stages with a model that could skip frames without motion: they look at the source's own, and do not yet."""
    manifests = {op.name: loaded.registry.manifest(op.type) for op in loaded.spec.ops}
    return [
        op.name
        for op in loaded.spec.ops
        if manifests[op.name].uses_model
        and manifests[op.name].can_skip_still
        and op.inputs.get(manifests[op.name].frames_input or "") == ("$source.frames",)
        and not _is_set(loaded, op.name, "skip_still")
    ]


def _is_set(loaded: LoadedPipeline, stage: str, knob: str) -> bool:
    return any(op.name == stage and knob in op.params for op in loaded.spec.ops)


def _stage(
    op: OpSpec,
    manifest: Manifest,
    profiles: Sequence[Profile],
    assets: AssetStore,
    notes: list[str],
    *,
    per_frame: bool,
) -> StageChoices:
    knobs, _ = split_knobs(op.params, manifest)
    wanted = {**manifest.defaults, **knobs}
    asked = {key: wanted.get(key) for key in (*_FIXED, "task", "decoder")}
    default = choose_variant(**asked, batch=1)
    task = str(wanted.get("task") or "")
    fitting = [p for p in profiles if _fits(p, default, wanted, task)]
    batch = int(wanted.get("batch") or 0)
    if fitting:
        kept = {p.variant: p for p in _cheapest(fitting)}
        kept |= {p.variant: p for p in fitting if p.variant == default}
        variants = list(kept)
        batches = {v: (batch,) if batch else _batches(p) for v, p in kept.items()}
        if default not in kept and all(assets.path(file) is not None for file in required_assets(default)):
            variants.append(default)
            batches[default] = (batch or 1,)
    else:
        kept, variants = {}, _untold(default, wanted, task, assets)
        batches = dict.fromkeys(variants, (batch or 1,))
        asks = f"--task {task}" if task else default.model
        notes.append(
            f"stage {op.name}: nothing is known of its variants here, so cost is guessed by their input's pixels; "
            f"measure them first: llamapipe models profile {asks}"
        )
    batches = {
        v: tuple(dict.fromkeys((*sizes, *([1] if v == default and not batch else [])))) for v, sizes in batches.items()
    }
    ordered = _by_accuracy(variants, kept, task)
    default = default if default in variants else ordered[0]
    return StageChoices(op.name, task, tuple(ordered), default, batches, kept, per_frame)


def _fits(profile: Profile, default: Variant, wanted: Mapping[str, Any], task: str) -> bool:
    variant = profile.variant
    if profile.state != ProfileState.READY or not profile.points or variant.threads != default.threads:
        return False
    if any(wanted.get(knob) is not None and getattr(default, knob) != getattr(variant, knob) for knob in _FIXED):
        return False
    return variant.model == default.model or (bool(task) and task in profile.tasks)


def _cheapest(profiles: Sequence[Profile]) -> list[Profile]:
    """Of libraries that compute a network in the same precision, and so find the same, the cheapest."""
    best: dict[tuple[object, ...], Profile] = {}
    for profile in profiles:
        v = profile.variant
        quantised = v.backend if v.precision == Precision.INT8 else ""  # each library has its own
        key = (v.model, v.device, v.precision, v.input_size, quantised)
        if key not in best or _best_cost(profile) < _best_cost(best[key]):
            best[key] = profile
    return list(best.values())


def _best_cost(profile: Profile) -> float:
    return min(profile.core_s_per_item(n) for n in range(1, min(_LARGEST_BATCH, profile.max_batch) + 1))


def _batches(profile: Profile) -> tuple[int, ...]:
    """One, and the size up to which a larger one pays."""
    largest = 1
    for n in (2, 4, 8):
        if n <= min(_LARGEST_BATCH, profile.max_batch):
            cost = profile.core_s_per_item(n)
            if cost < (1 - _PAYS) * profile.core_s_per_item(largest):
                largest = n
    return (1,) if largest == 1 else (1, largest)


def _untold(default: Variant, wanted: Mapping[str, Any], task: str, assets: AssetStore) -> list[Variant]:
    """Variants of models that are here already, by the library that would be taken anyhow."""
    models = find_models(task) if task and wanted.get("model") is None else [model_named(default.model)]
    found = {default: None}
    for model in models:
        if model.name != default.model and any(assets.path(file) is None for file in model.files):
            continue
        for candidate in candidates(model, max_threads=1):
            v = candidate.variant
            if v.precision != Precision.FP32 or v.device != default.device:
                continue
            if wanted.get("input_size") is not None and v.input_size != default.input_size:
                continue
            try:
                usual = choose_variant(model=v.model, input_size=list(v.input_size), backend=wanted.get("backend"))
            except LlamapipeError:
                continue
            if usual == v:
                found[v] = None
    return list(found)


def _by_accuracy(variants: Sequence[Variant], profiles: Mapping[Variant, Profile], task: str) -> list[Variant]:
    """The most accurate first, as far as anybody knows.

    By measured agreement where it is known of all; else by the order of preference of models, precision, and size.
    """
    figures = {v: p.accuracy_of("agreement", task=task or None) for v, p in profiles.items()}
    known = {v: figure.value for v, figure in figures.items() if figure is not None}
    order = {model.name: i for i, model in enumerate(find_models(task))} if task else {}

    def rank(v: Variant) -> tuple[float, ...]:
        usual = (order.get(v.model, 0), _ORDER.index(Precision(v.precision)), -v.input_size[0] * v.input_size[1])
        return (-known[v], *usual) if len(known) == len(variants) else usual

    return sorted(variants, key=rank)


def _sets(stage: str, variant: Variant) -> dict[str, Any]:
    return {
        f"{stage}.model": variant.model,
        f"{stage}.backend": variant.backend,
        f"{stage}.device": variant.device,
        f"{stage}.precision": variant.precision,
        f"{stage}.input_size": list(variant.input_size),
    }


def _rates(fps: float) -> tuple[float, ...]:
    return tuple(round(fps / n, 3) for n in _RATES if n == 1 or fps / n >= _LEAST_RATE)


def _knobs(stages: Sequence[StageChoices], sampled: Mapping[str, Sequence[float]]) -> list[Knob]:
    found: list[Knob] = []
    for stage in stages:
        engines = dict.fromkeys(_engine(v) for v in stage.variants)
        batches = sorted({n for sizes in stage.batches.values() for n in sizes})
        found += [
            Knob(f"{stage.stage}.model", tuple(dict.fromkeys(v.model for v in stage.variants)), Scale.CATEGORY),
            Knob(f"{stage.stage}.engine", tuple(engines), Scale.CATEGORY),
            Knob(f"{stage.stage}.side", tuple(sorted({_side(v) for v in stage.variants})), Scale.LOG),
            Knob(f"{stage.stage}.batch", tuple(batches), Scale.LOG),
        ]
        if stage.stage in sampled:
            found.append(Knob(f"{stage.stage}.sample_fps", tuple(sorted(sampled[stage.stage])), Scale.LOG))
        if stage.looks:
            found.append(Knob(f"{stage.stage}.skip_still", (0.0, *stage.looks), Scale.CATEGORY))
    return found


def _engine(variant: Variant) -> str:
    return f"{variant.backend}/{variant.device}/{variant.precision}"


def _side(variant: Variant) -> float:
    return round(sqrt(variant.input_size[0] * variant.input_size[1]), 2)


def _count(stages: Sequence[StageChoices], sampled: Mapping[str, Sequence[float]], named: Sequence[Knob]) -> int:
    count = 1
    for stage in stages:
        count *= sum(len(sizes) for sizes in stage.batches.values()) * len(sampled.get(stage.stage, (1,)))
        count *= 1 + len(stage.looks)
    for knob in named:
        count *= len(knob.values)
    return count


def _points(
    stages: Sequence[StageChoices], sampled: Mapping[str, Sequence[float]], asked: Mapping[str, Sequence[Any]]
) -> dict[Point, Choice]:
    parts: list[list[tuple[Point, dict[str, Any]]]] = []
    for stage in stages:
        own: list[tuple[Point, dict[str, Any]]] = []
        rates = sampled.get(stage.stage)
        for variant in stage.variants:
            for batch in stage.batches[variant]:
                point: Point = (variant.model, _engine(variant), _side(variant), batch)
                sets = {**_sets(stage.stage, variant), f"{stage.stage}.batch": batch}
                if rates is None:
                    own.append((point, sets))
                    continue
                own.append(((*point, rates[0]), sets))
                own += [((*point, rate), {**sets, f"{stage.stage}.sample_fps": rate}) for rate in rates[1:]]
        if stage.looks:
            still = f"{stage.stage}.skip_still"
            own = [
                ((*point, share), {**sets, still: share} if share else sets)
                for point, sets in own
                for share in (0.0, *stage.looks)
            ]
        parts.append(own)
    for key, values in asked.items():
        parts.append([((_plain(value),), {key: value}) for value in values])
    found: dict[Point, Choice] = {}
    for combination in product(*parts):
        place: Point = tuple(value for point, _ in combination for value in point)
        found[place] = {key: value for _, sets in combination for key, value in sets.items()}
    if not parts:
        return {(_AS_IT_IS,): {}}
    return found


def _reference(
    points: Mapping[Point, Choice],
    stages: Sequence[StageChoices],
    sampled: Mapping[str, Sequence[float]],
    named: Choice,
) -> Point:
    fitting = [point for point, choice in points.items() if all(_alike(choice.get(k), v) for k, v in named.items())]
    if not fitting:
        told = ", ".join(f"{key}={value}" for key, value in named.items())
        raise UsageError(
            f"--reference {told}: no such configuration can be had here", hint="see: llamapipe models show"
        )
    place = {(s.stage, v): i for s in stages for i, v in enumerate(s.variants)}

    def rank(point: Point) -> tuple[int, int]:
        choice = points[point]
        exact = sum(
            place[s.stage, next(v for v in s.variants if _sets(s.stage, v).items() <= choice.items())] for s in stages
        )
        return exact, sum(key.endswith((".sample_fps", ".skip_still")) for key in choice)

    return min(fitting, key=rank)


def _alike(has: Any, wanted: Any) -> bool:
    return has == wanted or (isinstance(has, list) and has == [wanted, wanted])


def _plain(value: Any) -> int | float | str:
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else str(value)


def _scale(values: Sequence[Any]) -> Scale:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return Scale.LINEAR if len(numbers) == len(values) else Scale.CATEGORY
