"""Building variants as users ask for it: by model or by task, with pictures to learn from and to be judged on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from llamapipe.catalog import Model
from llamapipe.clock import Clock, Env, SystemClock
from llamapipe.data import Boxes, Image, Native
from llamapipe.errors import UsageError
from llamapipe.inference import AssetStore, cache_root, open_catalogue, task_labels, use_catalogue
from llamapipe.inference.building import Result, build_variants, models_of
from llamapipe.inference.checking import LEAST_AGREEMENT, Pictures
from llamapipe.session.asked_pictures import pictures_of
from llamapipe.session.fetching import fetched
from llamapipe.session.labelled import Row, read_truths

__all__ = ["build"]

_SAMPLES = ("sample:bikes", "sample:carphone")  # a street, and a face
NUM_CALIBRATION = 32
NUM_PICTURES = 48
_MOST_FRAMES = 20_000  # of a video that are looked through


def build(
    names: Sequence[str] = (),
    *,
    task: str | None = None,
    calibrate: Sequence[str] = (),
    ground_truth: Path | None = None,
    num_calibration: int = NUM_CALIBRATION,
    num_pictures: int = NUM_PICTURES,
    least_agreement: float = LEAST_AGREEMENT,
    again: bool = False,
    seed: int = 0,
    env: Env,
    clock: Clock | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> Result:
    """Build and judge the variants of models by name, or of all models of a task; what passes is kept.

    ``calibrate`` are videos, or folders of pictures, of what the models will see; left out, those that the models were
    registered with, else sample clips. ``ground_truth`` has the boxes of the first of them (MOTChallenge text or COCO
    JSON). ``least_agreement`` (0..1) is the F1 with its source that a variant needs to be kept. What was built and
    judged by the same is not done again, unless ``again``: a call that was interrupted is gone on with. Raises
    UsageError, AssetError, SourceError.
    """
    if not 0 <= least_agreement <= 1:
        raise UsageError(f"least agreement {least_agreement:g}: expected an F1 from 0 to 1", hint="for example 0.8")
    if not names and task is None:
        raise UsageError("no model and no task is named", hint="for example --task person-detection")
    root = cache_root(env)
    use_catalogue(root)
    clock = clock if clock is not None else SystemClock()
    assets = AssetStore(root, env=env)
    models = models_of(names, task)
    with open_catalogue(env) as store:
        kept = [found for model in models if (found := store.kept_model(model.name)) is not None]
        sources = list(calibrate) or [str(one.calibration) for one in kept if one.calibration is not None]
        if ground_truth is None and not calibrate:
            ground_truth = next((one.ground_truth for one in kept if one.ground_truth is not None), None)
        if ground_truth is not None and not sources:
            raise UsageError(
                f"ground truth {ground_truth}: the video that it is of is missing", hint="name it with --calibrate"
            )
        models = fetched(models, assets, named=bool(names), on_step=on_step)
        for source in sources:
            if not source.startswith("sample:") and not Path(source).exists():
                raise UsageError(f"calibration {source} does not exist", hint="name a video, or a folder of pictures")
        on_step(f"reading {', '.join(sources or _SAMPLES)}")
        learnt, pictures = _pictures(
            sources or _SAMPLES, ground_truth, models, num_calibration, num_pictures, assets, env, clock
        )
        return build_variants(
            models,
            calibration=learnt,
            pictures=pictures,
            store=store,
            assets=assets,
            max_threads=_num_cores(),
            least_agreement=least_agreement,
            again=again,
            seed=seed,
            on_step=on_step,
        )


def _pictures(
    sources: Sequence[str],
    ground_truth: Path | None,
    models: Sequence[Model],
    num_calibration: int,
    num_pictures: int,
    assets: AssetStore,
    env: Env,
    clock: Clock,
) -> tuple[list[Image], Pictures]:
    """Pictures to learn from, and others between them to be judged on; labelled ones alone where some are."""
    rows, labelled = _by_frame(ground_truth) if ground_truth is not None else ({}, None)
    learnt: list[Image] = []
    judged: list[tuple[int, Image]] = []
    judging = sources[:1] if labelled is not None else sources
    for source in sources:
        judges = source in judging
        found = _spread(
            pictures_of(source, assets, env, clock),
            num_calibration // len(sources) + (num_pictures // len(judging) if judges else 0),
            labelled if judges else None,
        )
        if not found:
            raise UsageError(f"calibration {source} holds no picture that can be used")
        numbers = np.arange(len(found))
        for_judging = set(
            np.linspace(0, len(found) - 1, min(len(found), num_pictures // len(judging))).round().astype(int).tolist()
            if judges
            else ()
        )
        learnt += [found[i][1] for i in numbers if i not in for_judging] or [image for _, image in found]
        judged += [found[i] for i in sorted(for_judging)]
    truths = None
    if labelled is not None:
        names = _truth_names(models, rows)
        truths = [_truth(rows.get(number, ()), names) for number, _ in judged]
    shown = ", ".join(Path(source).name for source in judging)
    return learnt, Pictures(shown, [image for _, image in judged], truths)


def _spread(
    pictures: Iterable[tuple[str, int, Native | str]], most: int, wanted: frozenset[int] | None
) -> list[tuple[int, Image]]:
    """At most ``most`` pictures, spread evenly over all that can be read, whose number is known only at the end."""
    found: list[tuple[int, Image]] = []
    step = 1
    usable = 0
    for number, (_, seq, native) in enumerate(pictures):
        if number >= _MOST_FRAMES:
            break
        if isinstance(native, str) or (wanted is not None and seq not in wanted):
            continue
        if usable % step == 0:
            found.append((seq, Image.from_bgr(np.ascontiguousarray(native.bgr()))))
            if len(found) >= 2 * most:
                found, step = found[::2], 2 * step
        usable += 1
    kept = np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int)
    return [found[i] for i in kept]


def _by_frame(path: Path) -> tuple[Mapping[int, list[Row]], frozenset[int]]:
    rows, frames, _ = read_truths(path)
    if not rows:
        raise UsageError(f"ground truth {path} holds no boxes")
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row.frame, []).append(row)
    return found, frozenset(frames)


def _truth_names(models: Sequence[Model], rows: Mapping[int, Sequence[Row]]) -> tuple[str, ...]:
    """Labels of the truth; where its file names none, that of the tasks of all the models, which has to be one."""
    labels = sorted({row.label for row_list in rows.values() for row in row_list if row.label})
    if labels:
        return tuple(labels)
    shared = set.intersection(*(set(model.tasks) for model in models))
    single = sorted({task_labels(task) for task in shared if len(task_labels(task)) == 1})
    if len(single) != 1:
        raise UsageError(
            "the ground truth names no labels, and the models find several kinds of things",
            hint="use COCO JSON, which names them",
        )
    return single[0]


def _truth(rows: Sequence[Row], names: tuple[str, ...]) -> Boxes:
    xyxy = np.array([row.box for row in rows], np.float32).reshape(-1, 4)
    label = np.array([names.index(row.label) if row.label else 0 for row in rows], np.int32)
    return Boxes(xyxy, np.ones(len(rows), np.float32), label, names)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
