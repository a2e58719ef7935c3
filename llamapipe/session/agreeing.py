"""How far variants agree on the video that is run, where a floor asks for agreement.

The reference agrees with itself. Of what would be cheaper, a few configurations are tried on sampled frames of the
video, as `llamapipe tune` does it and within the same budget, at any latency: that is left to the run, which decides
by it invocation by invocation. What is found is kept in the catalogue, with the video that it was found on, and holds
for videos like it. Figures that variants were built with are of other frames: they are gone by only where this video
cannot be looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llamapipe.catalog import Precision, Variant
from llamapipe.clock import Clock, Env
from llamapipe.errors import InterruptedRun, LlamapipeError
from llamapipe.inference import AssetStore, cache_root
from llamapipe.session.checkpoints import killed_before
from llamapipe.session.likeness import unlike_the_first
from llamapipe.session.observing import uses_profiles
from llamapipe.session.prepare import OnAsset, profiles_here, sources_of
from llamapipe.session.request import Agreements, RunRequest
from llamapipe.session.resolve import load_asked
from llamapipe.session.searching import OnStep
from llamapipe.session.tunable import StageChoices, stage_choices
from llamapipe.session.tune_request import TuneRequest
from llamapipe.session.tuning import Tuned, tune
from llamapipe.spec import parse_slo
from llamapipe.tune import Tuning

__all__ = ["with_agreements"]


def with_agreements(
    request: RunRequest,
    *,
    clock: Clock,
    env: Env,
    on_step: OnStep = lambda _: None,
    on_asset: OnAsset | None = None,
    interrupt: threading.Event | None = None,
    untried: str = "",
) -> RunRequest:
    """The request with what its floor needs to know of variants; as it is where there is no such floor.

    Or where it goes on with a run, which has chosen already.

    ``untried`` says why nothing is to be tried now. What is known of other frames counts then, else the reference runs.

    Raises InterruptedRun, and SpecError, UsageError, SourceError or AssetError where pipeline or sources cannot be had.
    """
    if request.agreed is not None or request.config is not None or not request.sources:
        return request
    if killed_before(request) is not None:
        return request
    loaded = load_asked(request, env=env)
    floor = loaded.spec.accuracy
    if floor is None or (floor.metric or "agreement") != "agreement":
        return request
    profiles = profiles_here(env)
    try:
        stages = stage_choices(loaded, profiles, AssetStore(cache_root(env), env=env), [])
    except LlamapipeError:
        return request  # the run says what is wrong, of all stages at once
    if not any(stage.profiles for stage in stages):
        why = "nothing is known of variants here" if uses_profiles(env) else "there are no profiles, or they are off"
        tasks = ", ".join(dict.fromkeys(stage.task for stage in stages if stage.task)) or "TASK"
        note = f"{why}, so the reference runs; for cheaper variants: llamapipe models profile --task {tasks}"
        return replace(request, agreed=Agreements({}, note, warns=True)) if stages else request
    variants = [profile.variant for profile in profiles]
    only = {s.stage: {v: 1.0 for v in variants if _finds_same(v, s.variants[0])} for s in stages}
    sources = sources_of(request.sources, env, on_asset)
    video = next((spec for spec in sources if spec.kind == "file" and Path(spec.uri).is_file()), None)
    if video is None:
        why = "no frames of a live source are tried unasked (run --tune, or llamapipe tune, records some)"
        return replace(request, agreed=_untried(stages, only, why))
    if untried:
        return replace(request, agreed=_untried(stages, only, untried))
    try:
        asked = replace(TuneRequest.of_run(request, video.uri), slo=request.slo, before_run=True, variants_alone=True)
        found = tune(asked, on_step=on_step, interrupt=interrupt, clock=clock, env=env)
    except InterruptedRun:
        raise
    except LlamapipeError as error:
        return replace(request, agreed=_untried(stages, only, f"nothing cheaper could be tried: {error.message}"))
    tuning = found.tuning
    slo = parse_slo(request.slo) if request.slo is not None else loaded.spec.slo
    unlike = unlike_the_first(request, slo, clock=clock, env=env)
    by_stage = {s.stage: only[s.stage] | _found(s.stage, len(stages), tuning, variants) for s in stages}
    remarks = [*request.remarks, *([unlike] if unlike else [])]
    return replace(request, agreed=Agreements(by_stage, _said(found)), remarks=remarks)


def _untried(stages: Sequence[StageChoices], only: Mapping[str, Mapping[Variant, float]], why: str) -> Agreements:
    """What may run although nothing is tried on this video: what was built to agree enough, or the reference alone."""
    built: dict[str, dict[Variant, float]] = {}
    for stage in stages:
        figures = {p.variant: p.accuracy_of("agreement", task=stage.task or None) for p in stage.profiles.values()}
        built[stage.stage] = {variant: figure.value for variant, figure in figures.items() if figure is not None}
    if all(built[stage.stage] for stage in stages if stage.profiles):
        note = f"{why}; it goes by how far variants agreed on the frames that they were built with"
        return Agreements({name: {**built[name], **same} for name, same in only.items()}, note, warns=True)
    return Agreements(only, f"the reference runs, which agrees with itself: {why}", warns=True)


def _found(stage: str, num_stages: int, tuning: Tuning, variants: Sequence[Variant]) -> dict[Variant, float]:
    """Lower ends of the intervals of all that was tried.

    Of several stages only the best configuration counts: errors of stages add up at the sinks, and of variants that
    were right enough each with the others' references nobody knows what they are together.
    """
    tried = [t for t in tuning.tried if num_stages == 1 or t.values.items() <= tuning.values.items()]
    found: dict[Variant, float] = {}
    for one in tried:
        if one.predicted is not None and (low := one.predicted.accuracy_low) is not None:
            found |= {v: low for v in variants if _is_of(v, stage, one.values)}
    return found


def _is_of(variant: Variant, stage: str, values: Mapping[str, Any]) -> bool:
    """Whether the variant finds what was found with these values."""
    backend, device, precision = (str(values[f"{stage}.{name}"]) for name in ("backend", "device", "precision"))
    height, width = values[f"{stage}.input_size"]
    other = Variant(str(values[f"{stage}.model"]), backend, device, precision, (int(height), int(width)))
    return _finds_same(variant, other)


def _finds_same(one: Variant, other: Variant) -> bool:
    """Libraries that compute a network in the same precision do; but each quantises in its own way."""
    same = (one.model, one.device, one.precision, one.input_size)
    quantised = one.precision == Precision.INT8 and one.backend != other.backend
    return same == (other.model, other.device, other.precision, other.input_size) and not quantised


def _said(found: Tuned) -> str:
    tuning = found.tuning
    num = sum(tried.predicted is not None for tried in tuning.tried)
    fit = sum(tried.fits for tried in tuning.tried)
    said = f"{fit} of {num} configurations agree with the reference by at least {tuning.floor:g} on {tuning.video}"
    if found.cached_from is not None:
        return f"{said}; tried earlier, the video is alike (distance {found.cached_from[1]:.2f})"
    return f"{said}; tried in {tuning.took_s:.1f} s"
