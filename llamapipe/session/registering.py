"""Registering a model, with what its variants are to be calibrated and judged by."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from llamapipe.catalog import Accuracy, Model
from llamapipe.clock import Env, SystemClock, system_env
from llamapipe.data import Image
from llamapipe.errors import UsageError
from llamapipe.inference import open_catalogue, register, use_catalogue
from llamapipe.inference.assets import cache_root
from llamapipe.media import Decoded, SourceSpec, open_source
from llamapipe.session.labelled import read_truths

__all__ = ["register_model"]

_PICTURES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp"))
_NUM_PICTURES = 4  # that the network is tried on


def register_model(
    source: str | Path | Any,
    *,
    task: str | Sequence[str],
    decoder: str | None = None,
    labels: Any = None,
    accuracy: Sequence[Accuracy] = (),
    name: str | None = None,
    input_size: int | tuple[int, int] | None = None,
    calibrate: Path | None = None,
    ground_truth: Path | None = None,
    licence: str = "",
    description: str = "",
    env: Env | None = None,
) -> Model:
    """Make a network a model for every later run. See `llamapipe.inference.register`.

    ``calibrate`` is a video, or a folder of pictures, like what the model will see; ``ground_truth`` has the boxes of
    that video (MOTChallenge text or COCO JSON). Raises also SourceError and UsageError where these cannot be read.
    """
    env = env if env is not None else system_env()
    if ground_truth is not None:
        if calibrate is None or calibrate.is_dir():
            raise UsageError(
                f"ground truth {ground_truth}: the video that it is of is missing", hint="name it with --calibrate"
            )
        rows, _, _ = read_truths(ground_truth)
        if not rows:
            raise UsageError(f"ground truth {ground_truth} holds no boxes")
    pictures = _pictures(calibrate) if calibrate is not None else []
    use_catalogue(cache_root(env))
    with open_catalogue(env) as store:
        return register(
            source,
            store=store,
            task=task,
            decoder=decoder,
            labels=labels,
            accuracy=accuracy,
            name=name,
            input_size=input_size,
            calibration=calibrate,
            ground_truth=ground_truth,
            pictures=pictures,
            licence=licence,
            description=description,
        )


def _pictures(path: Path) -> list[Image]:
    """A few pictures of a video or a folder."""
    if not path.exists():
        raise UsageError(f"calibration {path} does not exist", hint="name a video, or a folder of pictures")
    if not path.is_dir():
        return _frames(path, _NUM_PICTURES)
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in _PICTURES)
    if not files:
        raise UsageError(
            f"calibration folder {path} holds no pictures", hint=f"expected files with {', '.join(sorted(_PICTURES))}"
        )
    return [picture for file in files[:: max(1, len(files) // _NUM_PICTURES)] for picture in _frames(file, 1)]


def _frames(path: Path, most: int) -> list[Image]:
    source = open_source(SourceSpec(path.stem, str(path), "file"), clock=SystemClock(), max_frames=most)
    try:
        found = [Image.from_bgr(frame.picture.bgr()) for frame in islice(source, most) if isinstance(frame, Decoded)]
    finally:
        source.close()
    if not found:
        raise UsageError(f"calibration {path} holds no picture that can be decoded")
    return found
