"""The files of models that are about to be built or measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llamapipe.catalog import Model
from llamapipe.errors import AssetError
from llamapipe.inference import AssetStore

__all__ = ["fetched"]


def fetched(
    models: Sequence[Model], assets: AssetStore, *, named: bool, on_step: Callable[[str], None] = lambda _: None
) -> list[Model]:
    """Fetch what is not there yet, and return the models that can be had.

    Raises AssetError for one that cannot where the user has ``named`` it; of a task's models, only where none can.
    """
    found: list[Model] = []
    failure: AssetError | None = None
    for model in models:
        try:
            for file in model.files:
                if assets.path(file) is None:
                    on_step(f"{model.name}: fetching {file}")
                assets.pull(file)
        except AssetError as error:
            if named:
                raise
            failure = error
            on_step(f"{model.name} is left out: {error}")
            continue
        found.append(model)
    if failure is not None and not found:
        raise failure
    return found
