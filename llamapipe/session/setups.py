"""What a stage's workers are set up with, wherever they run.

A worker process imports this and nothing that makes plans: the time its imports take is time a lost worker is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from llamapipe.catalog import Configuration
from llamapipe.control.plan import StagePlan
from llamapipe.inference import AssetStore, load_predictor
from llamapipe.operator import Predictor
from llamapipe.spec.when import parse_when

__all__ = ["predictor_loader", "when_atoms"]


def predictor_loader(assets: AssetStore) -> Callable[[Configuration], Predictor]:
    """What loads the variant of a stage's configuration."""
    return partial(_load, assets)


def _load(assets: AssetStore, configuration: Configuration) -> Predictor:
    assert configuration.variant is not None
    return load_predictor(
        configuration.variant,
        min_score=configuration.min_score,
        labels=configuration.labels,
        batch=configuration.batch,
        partial=configuration.partial,
        assets=assets,
        keep=True,
    )


def when_atoms(stage: str, stages: Sequence[StagePlan]) -> tuple[Any, ...]:
    """What conditions of stages further down ask about a stage, in the order that control expects."""
    atoms: dict[tuple[str, str], Any] = {}
    for other in stages:
        for condition in (other.when, other.hold_unless):
            for atom in parse_when(condition).atoms if condition else ():
                if atom.stage == stage:
                    atoms.setdefault((atom.combine, atom.key), atom)
    return tuple(atoms.values())
