"""Profiling as users ask for it: by model or by task, with pictures to call the variants with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from llamapipe.clock import Env
from llamapipe.errors import UsageError
from llamapipe.inference import AssetStore, cache_root, find_models, model_named
from llamapipe.inference.catalogue import open_catalogue
from llamapipe.inference.measuring import measure
from llamapipe.inference.profiler import Profiled, Step, candidates, digests_of, profile_models
from llamapipe.media import sample_frames
from llamapipe.session.fetching import fetched
from llamapipe.tune import SHARE

__all__ = ["profile"]

_CLIP = "bikes.mp4"


def profile(
    names: Sequence[str] = (),
    *,
    task: str | None = None,
    pictures: Path | None = None,
    share: float = SHARE,
    seed: int = 0,
    again: bool = False,
    env: Env,
    on_step: Callable[[Step], None] = lambda _: None,
    on_fetch: Callable[[str], None] = lambda _: None,
) -> Profiled:
    """Profile models by name, or all of a task, together; what is found is kept in the catalogue.

    ``pictures`` is a video to call them with; None: the calibration video of the first model that has one, else a
    sample clip. Raises UsageError, AssetError, SourceError.
    """
    if bool(names) == (task is not None):
        raise UsageError("name models, or a task", hint="for example --task person-detection")
    if not 0 < share <= 1:
        raise UsageError(f"share {share:g}: expected more than 0 and at most 1")
    models = [model_named(name) for name in names] if task is None else find_models(task)
    assets = AssetStore(cache_root(env), env=env)
    models = fetched(models, assets, named=bool(names), on_step=on_fetch)
    with open_catalogue(env) as store:
        kept = [store.kept_model(model.name) for model in models]
        given = [one.calibration for one in kept if one is not None and one.calibration is not None]
        videos = [path for path in (pictures, *given) if path is not None and path.is_file()]
        if pictures is not None and not pictures.is_file():
            raise UsageError(f"{pictures}: no such video")
        frames = sample_frames(videos[0] if videos else assets.pull(_CLIP))
        return profile_models(
            [candidate for model in models for candidate in candidates(model)],
            store=store,
            measure=partial(measure, frames=frames, assets=assets, env=env),
            digests=digests_of([model.name for model in models], assets, store),
            share=share,
            seed=seed,
            again=again,
            on_step=on_step,
        )
