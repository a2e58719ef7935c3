"""What a run's stages may be changed to while it goes on, and how a configuration is put into a change.

Only what a worker can load beside what it runs is changed: the variant and batch of stages with a model, and how often
they look. Other values of a configuration stay as the run began with.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from llamapipe.catalog import Profile, Variant
from llamapipe.clock import Env
from llamapipe.control import StagePlan
from llamapipe.control import events as ev
from llamapipe.errors import UsageError
from llamapipe.inference import AssetStore, cache_root
from llamapipe.session.candidates import Needs
from llamapipe.session.compile import Compiled, compile_pipeline
from llamapipe.session.pinned import with_pinned
from llamapipe.session.request import RunRequest
from llamapipe.session.resolve import load_asked, load_pipeline
from llamapipe.session.tunable import stage_choices
from llamapipe.tune import Tuning

__all__ = ["change_to", "ways_to_stand_by"]

_THREADS = 1  # of an invocation: a worker is one


def ways_to_stand_by(
    request: RunRequest, tuning: Tuning, profiles: Sequence[Profile], *, env: Env
) -> dict[str, list[tuple[Variant, int]]]:
    """(variant, batch) by stage: all that a search could find, and what the reference has."""
    loaded = load_asked(request, env=env)
    found = {
        stage.stage: [(variant, batch) for variant in stage.variants for batch in stage.batches[variant]]
        for stage in stage_choices(loaded, profiles, AssetStore(cache_root(env), env=env), [])
    }
    for stage in _compiled(request, msgspec.structs.replace(tuning, values=tuning.reference), profiles, env).stages:
        if stage.name in found and stage.configuration.variant is not None:
            found[stage.name].append((stage.configuration.variant, stage.configuration.batch))
    return found


def change_to(
    tuning: Tuning,
    why: str,
    request: RunRequest,
    stages: Sequence[StagePlan],
    profiles: Sequence[Profile],
    *,
    env: Env,
) -> ev.Change:
    """To a tuning's values, of a run with these stages. Raises UsageError where one cannot be run like that."""
    wanted = {stage.name: stage for stage in _compiled(request, tuning, profiles, env).stages}
    settings = [
        ev.Setting(
            stage.name,
            _number(stage, wanted[stage.name]),
            wanted[stage.name].sample_fps,
            wanted[stage.name].hold_unless is not None,
        )
        for stage in stages
        if stage.changeable
    ]
    return ev.Change(settings, why)


def _compiled(request: RunRequest, tuning: Tuning, profiles: Sequence[Profile], env: Env) -> Compiled:
    loaded = load_pipeline(request.pipeline, env=env, params=request.params, ops_files=request.ops_files)
    manifests = {op.type: loaded.registry.manifest(op.type) for op in loaded.spec.ops}
    return compile_pipeline(
        with_pinned(loaded.spec, tuning, request.sets, manifests, min_accuracy=request.min_accuracy),
        loaded.registry,
        AssetStore(cache_root(env), env=env),
        profiles=profiles,
        needs=Needs(threads=_THREADS),
    )


def _number(stage: StagePlan, wanted: StagePlan) -> int:
    variant, batch = wanted.configuration.variant, wanted.configuration.batch
    for number, way in enumerate(stage.ways):
        if (way.configuration.variant, way.configuration.batch) == (variant, batch):
            return number
    name = "" if variant is None else variant.name
    raise UsageError(
        f"stage {stage.name} cannot be changed to {name}, batch {batch}, while the run goes on",
        hint="it was not there when the run began; begin another run with it",
    )
