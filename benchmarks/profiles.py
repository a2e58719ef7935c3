"""Profiles for the benchmarks of serving: those of the catalogue, or, where it has none, measured here in minutes.

What is measured here is coarse: a few batches on one thread, and the agreement of each variant with the most accurate
one on some frames of one clip. It is kept in a file and measured once.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from math import inf
from pathlib import Path

import msgspec
import numpy as np

from llamapipe.accuracy import best_f1, precision_recall
from llamapipe.catalog import AccuracyFigure, BatchPoint, Model, Profile, Variant
from llamapipe.clock import SystemClock, system_env
from llamapipe.data import Boxes, Image, Native
from llamapipe.errors import LlamapipeError
from llamapipe.inference import BACKENDS, AssetStore, cache_root, find_models, load_predictor, open_catalogue
from llamapipe.inference.hardware import fingerprint
from llamapipe.operator import Predictor
from llamapipe.session.asked_pictures import pictures_of

REFERENCES = {
    "person-detection": "yolox-nano/openvino/cpu/fp32/640x640/t1",
    "face-detection": "mtcnn/openvino/cpu/fp32/1280x1280/t1",
}
"""What counts as right, by task: the most accurate there is."""

CLIPS = {
    "person-detection": str(Path(os.environ.get("LLAMAPIPE_ASSET_MIRROR", "../shared/assets")) / "TUD-Stadtmitte.mp4"),
    "face-detection": "sample:bikes",
}

_SECONDS = 1.0  # that each point is called for
_LEAST_KIB = 400_000  # this process has grown by the networks before: what one more takes does not show
_BATCHES = (1, 2, 4)
_LABELS = {"person-detection": ("person",), "face-detection": ("face",)}


def frames_of(source: str, count: int, every: int = 1) -> list[Native]:
    """Pictures of a clip."""
    env = system_env()
    assets = AssetStore(cache_root(env), env=env)
    found = pictures_of(source, assets, env, SystemClock())
    return [picture for *_, picture in islice(found, 0, count * every, every) if not isinstance(picture, str)]


def profiles_for(tasks: Sequence[str], kept: Path, until_s: float = inf) -> list[Profile] | None:
    """Profiles of every variant of the tasks; None where time (of `time.monotonic`) ran out. Call again to go on."""
    with open_catalogue(system_env()) as store:
        known = [profile for task in tasks for profile in store.profiles(task=task) if profile.points]
    if {task for profile in known for task in profile.tasks} >= set(tasks):
        return list({profile.variant.name: profile for profile in known}.values())
    done: dict[str, Profile] = {}
    if kept.is_file():
        done = {profile.variant.name: profile for profile in msgspec.json.decode(kept.read_bytes(), type=list[Profile])}
    for task in tasks:
        images = _images(frames_of(CLIPS[task], 24, 7))
        variants = variants_of(task)
        reference = REFERENCES[task]
        truth: list[Boxes] | None = None
        for variant, model in sorted(variants, key=lambda pair: pair[0].name != reference):
            if variant.name in done:
                continue
            if time.monotonic() > until_s:
                return None
            if truth is None:
                truth = _found(reference, task, images)
            with _pinned():
                profile, boxes = _measured(variant, model, task, images)
            if profile is None:
                continue
            figure = AccuracyFigure("f1", _agreement(boxes, truth), Path(CLIPS[task]).stem, "agreement")
            done[variant.name] = msgspec.structs.replace(profile, accuracy=(figure, *profile.accuracy))
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(msgspec.json.encode(list(done.values())))
    return list(done.values())


def measured_again(variant: Variant, task: str, frames: Sequence[Native]) -> tuple[float, float]:
    """Median and p95 of single pictures, seconds: a measurement of its own."""
    env = system_env()
    images = _images(frames)
    with _pinned():
        predictor = load_predictor(variant, labels=_LABELS[task], assets=AssetStore(cache_root(env), env=env))
        predictor.predict(images[:1])
        seconds = _called(predictor, images, 1, 2 * _SECONDS)
        predictor.close()
    median_s, p95_s = np.percentile(seconds, [50, 95])
    return float(median_s), float(p95_s)


def variants_of(task: str) -> list[tuple[Variant, Model]]:
    """Everything on one thread that this machine can run of a task."""
    found = []
    for model in find_models(task):
        for backend in BACKENDS.values():
            if model.format not in backend.formats or not backend.status().available:
                continue
            for precision in sorted(backend.precisions("cpu")):
                for size in model.input_sizes:
                    found.append((Variant(model.name, backend.name, "cpu", precision, size, 1), model))
    return found


def _measured(variant: Variant, model: Model, task: str, images: Sequence[Image]) -> tuple[Profile | None, list[Boxes]]:
    env = system_env()
    assets = AssetStore(cache_root(env), env=env)
    points: list[BatchPoint] = []
    boxes: list[Boxes] = []
    load_s = 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for batch in _BATCHES:
        began_s = time.perf_counter()
        try:
            predictor = load_predictor(variant, batch=batch, labels=_LABELS[task], assets=assets)
            predictor.predict(images[:batch])
        except LlamapipeError:
            break
        if batch == 1:
            load_s = time.perf_counter() - began_s
            boxes = list(predictor.predict(images))
        before_s = time.process_time()
        seconds = _called(predictor, images, batch, _SECONDS)
        core_s = (time.process_time() - before_s) / len(seconds)
        median_s, p95_s = (float(value) for value in np.percentile(seconds, [50, 95]))
        points.append(BatchPoint(batch, median_s, p95_s, core_s, len(seconds), 0.03))
        predictor.close()
    if not points:
        return None, []
    memory = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, _LEAST_KIB) * 1024
    published = tuple(
        AccuracyFigure(figure.metric, figure.value, figure.dataset, figure.kind) for figure in model.accuracy
    )
    profile = Profile(
        variant,
        fingerprint(),
        load_s=load_s + 0.4,  # a process comes up first
        peak_memory_bytes=memory,
        points=tuple(points),
        accuracy=published,
        tasks=model.tasks,
    )
    return profile, boxes


def _called(predictor: Predictor, images: Sequence[Image], batch: int, for_s: float) -> list[float]:
    seconds: list[float] = []
    while sum(seconds) < for_s or len(seconds) < 8:
        at = (len(seconds) * batch) % (len(images) - batch + 1)
        began_s = time.perf_counter()
        predictor.predict(images[at : at + batch])
        seconds.append(time.perf_counter() - began_s)
    return seconds


def _found(reference: str, task: str, images: Sequence[Image]) -> list[Boxes]:
    env = system_env()
    variant = next(variant for variant, _ in variants_of(task) if variant.name == reference)
    predictor = load_predictor(variant, labels=_LABELS[task], assets=AssetStore(cache_root(env), env=env))
    found = list(predictor.predict(images))
    predictor.close()
    return found


def _images(frames: Sequence[Native]) -> list[Image]:
    return [Image(width=frame.width, height=frame.height, bgr=frame.bgr()) for frame in frames]


def _agreement(found: Sequence[Boxes], reference: Sequence[Boxes]) -> float:
    """F1 at IoU 0.5, at one score for all frames, with boxes of the reference that it is at least half sure of."""
    frames = [
        (boxes.xyxy, boxes.score, truth.xyxy[truth.score >= 0.5]) for boxes, truth in zip(found, reference, strict=True)
    ]
    return round(best_f1(precision_recall(frames, 0.5))[0], 4)


@contextmanager
def _pinned() -> Iterator[None]:
    """On one core, as a replica of one thread is."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
