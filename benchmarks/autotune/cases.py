"""Pipelines with stretches of video to tune them for, and the configurations that a full sweep goes through."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from llamapipe.clock import SystemClock, system_env
from llamapipe.inference import AssetStore, cache_root
from llamapipe.media import SourceSpec, open_source
from llamapipe.media.contract import SourceInfo
from llamapipe.session.prepare import profiles_here, sources_of
from llamapipe.session.resolve import LoadedPipeline, load_pipeline
from llamapipe.session.tunable import Choice, StageChoices, Tunable, tunable
from llamapipe.tune import Point, Space

MOST_VARIANTS = 14  # of a single stage with a model
WORKERS = (1, 3)


@dataclass(frozen=True)
class Case:
    """A pipeline on a clip. ``clip`` is a file of the shared assets, or ``sample:NAME``."""

    pipeline: str
    clip: str
    start_s: float = 0.0
    length_s: float = 8.0
    fps: float = 25.0  # of the clip, such that a stored sweep can be searched without it
    labels: str = ""  # ground truth of the whole clip, with the stage whose boxes it is of
    labels_stage: str = ""
    most: tuple[int, int] = (8, 4)  # variants of the first stage and of every further one, where there are several
    reference: str = ""  # a model that others are compared with, if not the tuner's own reference; of the held sweep

    @property
    def is_live(self) -> bool:
        """Whether it is run live, too."""
        return not self.reference

    @property
    def asked(self) -> dict[str, Any]:
        """What rows of it are of, beside its name."""
        return {"clip": self.clip, "start_s": self.start_s, "length_s": self.length_s}

    @property
    def name(self) -> str:
        """For keys and tables."""
        return (
            f"{self.pipeline}/{Path(self.clip.removeprefix('sample:')).stem}{self.reference and f'/{self.reference}'}"
        )

    @property
    def source(self) -> str:
        """As `llamapipe run` takes it."""
        return self.clip if self.clip.startswith("sample:") else str(assets() / self.clip)


CASES = (
    Case("people", "TUD-Stadtmitte.mp4", labels="TUD-Stadtmitte_gt.txt", labels_stage="detect"),
    Case("people", "one-by-one-person-detection.mp4", start_s=16.0, length_s=12.0, fps=10.0),
    Case("traffic", "car-detection.mp4", fps=12.5),
    # On the street there are people, and faces to look for, in every frame; on the road hardly anything at first.
    Case("traffic", "TUD-Stadtmitte.mp4", most=(5, 3)),
    Case("blur-faces", "sample:bikes"),
    Case("blur-faces", "TUD-Stadtmitte.mp4", most=(5, 3)),
    Case("vintage", "sample:bikes"),
    Case("denoise", "car-detection.mp4", fps=12.5),
    # By its labels the most accurate on this clip: what tuning compares with where `models build` has been told them.
    Case(
        *("people", "TUD-Stadtmitte.mp4"), labels="TUD-Stadtmitte_gt.txt", labels_stage="detect", reference="yolox-nano"
    ),
)


def assets() -> Path:
    """Folder of the shared clips."""
    return Path(os.environ.get("LLAMAPIPE_ASSET_MIRROR", "../shared/assets"))


def cases(names: Sequence[str]) -> list[Case]:
    """Those named, all without names. Raises SystemExit."""
    known = {case.name: case for case in CASES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"unknown case {unknown[0]}: expected some of {', '.join(known)}")
    return [known[name] for name in names] or list(CASES)


@dataclass(frozen=True)
class Choices:
    """What a case may run, and its video."""

    case: Case
    loaded: LoadedPipeline
    source: SourceSpec
    info: SourceInfo
    tunable: Tunable

    def configurations(self, *, rates: bool = False) -> list[Point]:
        """Points of the sweep, those that every run needs first."""
        points = [
            point
            for point, choice in self.tunable.choices.items()
            if rates or not any(key.endswith(".sample_fps") for key in choice)
        ]
        first = [point for point in dict.fromkeys((self.tunable.reference, self.tunable.default)) if point in points]
        return [*first, *(point for point in points if point not in first)]


def choices_of(case: Case) -> Choices:
    """What the case may run, and its video. Raises SourceError."""
    env = system_env()
    source = sources_of([case.source], env, None)[0]
    opened = open_source(source, clock=SystemClock(), threads=1)
    opened.close()
    return Choices(case, load_pipeline(case.pipeline, env=env), source, opened.info, tunable_of(case))


def tunable_of(case: Case) -> Tunable:
    """The space that `llamapipe tune` searches, with fewer variants where there are two models to combine."""
    env = system_env()
    store = AssetStore(cache_root(env), env=env)
    reference = {f"{case.labels_stage}.model": case.reference} if case.reference else {}
    loaded = load_pipeline(case.pipeline, env=env)
    return _fewer(tunable(loaded, profiles_here(env), store, fps=case.fps, asked={}, reference=reference), case.most)


def _fewer(whole: Tunable, of_several: tuple[int, int]) -> Tunable:
    """Some variants of every stage, over all costs: with several models their product would take a day."""
    if not whole.stages:
        return whole
    first, further = (MOST_VARIANTS, 0) if len(whole.stages) == 1 else of_several
    most = [first, *([further] * (len(whole.stages) - 1))]
    kept = {stage.stage: _spread(stage, n) for stage, n in zip(whole.stages, most, strict=True)}
    points = {
        point: choice
        for point, choice in whole.choices.items()
        if all(whole.variant(point, stage)[0] in kept[stage.stage] for stage in whole.stages)
    }
    stages = tuple(
        replace(stage, variants=tuple(v for v in stage.variants if v in kept[stage.stage])) for stage in whole.stages
    )
    return replace(whole, space=Space(whole.space.knobs, list(points)), choices=points, stages=stages)


def _spread(stage: StageChoices, most: int) -> set[object]:
    """The reference's variant, the default, the cheapest, and others evenly by cost."""
    by_cost = sorted(stage.variants, key=lambda v: stage.cost_s(v, 1) or 0.0)
    kept = dict.fromkeys((stage.variants[0], stage.default, by_cost[0]))
    for n in range(most):
        if len(kept) < most:
            kept[by_cost[round(n * (len(by_cost) - 1) / max(1, most - 1))]] = None
    return set(kept)


def combined(points: Sequence[Point]) -> list[tuple[Point, int]]:
    """With numbers of workers."""
    return list(product(points, WORKERS))


def worded(choice: Choice, workers: int | None = None) -> str:
    """A configuration in a few words."""
    stages = sorted({key.partition(".")[0] for key in choice})
    parts = []
    for stage in stages:
        of = {key.partition(".")[2]: value for key, value in choice.items() if key.startswith(f"{stage}.")}
        size = "x".join(str(side) for side in of.get("input_size", ()))
        text = f"{of.get('model', '')} {of.get('backend', '')} {of.get('precision', '')} {size} b{of.get('batch', 1)}"
        rate = f" at {of['sample_fps']:g} fps" if "sample_fps" in of else ""
        parts.append(f"{stage}: {text}{rate}")
    cores = {None: "", 1: "; one core"}.get(workers, "; all cores")
    return "; ".join(parts or ["as it is"]) + cores
