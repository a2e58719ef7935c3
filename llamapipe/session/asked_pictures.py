"""Pictures that queries are about: arrays, files, folders, videos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamapipe.clock import Clock, Env
from llamapipe.data import Image, Native
from llamapipe.errors import SourceError, UsageError
from llamapipe.inference import AssetStore
from llamapipe.media import BgrPicture, Decoded, expand_sources, open_source
from llamapipe.media.expand import VIDEO_SUFFIXES

__all__ = ["Picture", "one_by_one", "pictures_of", "read_pictures"]

Picture = NDArray[np.uint8] | Image | str | Path
"""An array (height, width, 3) uint8, blue first; an `Image`; or the path of a picture's file."""

_TAKEN = "a picture is a path, an array (height, width, 3) of uint8, or an Image"
_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def read_pictures(given: Picture | Sequence[Picture]) -> list[Native]:
    """Pictures as a query takes them.

    Raises SourceError for a file that cannot be read, UsageError for what is no picture.
    """
    pictures = one_by_one(given)
    if not pictures:
        raise UsageError("a query needs a picture")
    return [_picture(picture) for picture in pictures]


def one_by_one(given: Any) -> list[Picture]:
    """The pictures that are given, unread, a single one as a list. Raises UsageError for neither."""
    if isinstance(given, Image | str | Path) or (isinstance(given, np.ndarray) and given.ndim < 4):
        return [given]
    if not isinstance(given, Iterable) or isinstance(given, bytes | Mapping):
        raise UsageError(f"expected pictures, got a {type(given).__name__}", hint=_TAKEN)
    return list(given)


def _picture(given: Picture) -> Native:
    if isinstance(given, Image):
        return given.native if given.native is not None and given.region is None else BgrPicture(given.bgr.copy())
    if isinstance(given, np.ndarray):
        if given.ndim != 3 or given.shape[2] != 3 or given.dtype != np.uint8 or not given.size:
            raise UsageError(f"a picture must be (height, width, 3) uint8, got {given.shape} {given.dtype}")
        return BgrPicture(given.copy())  # the caller may go on with it
    if not isinstance(given, str | Path):
        raise UsageError(f"expected a picture, got a {type(given).__name__}", hint=_TAKEN)
    return BgrPicture(_read(Path(given)))


def _read(path: Path) -> NDArray[np.uint8]:
    import cv2

    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SourceError(f"picture {path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if picture is None:
        raise SourceError(f"picture {path} cannot be read", hint="is it a picture? videos: --offline, Session.offline")
    return np.asarray(picture, np.uint8)


def pictures_of(source: str, assets: AssetStore, env: Env, clock: Clock) -> Iterator[tuple[str, int, Native | str]]:
    """Every picture of a folder or a video, in order: (name, number, picture or why there is none).

    Raises UsageError for a folder that holds neither, and what `expand_sources` and `open_source` raise.
    """
    folder = Path(source)
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    paths = [path for path in files if path.suffix.lower() in _PICTURES]
    if folder.is_dir() and not paths and not any(path.suffix.lower() in VIDEO_SUFFIXES for path in files):
        raise UsageError(
            f"folder {source} holds no picture and no video",
            hint=f"expected pictures (*{', *'.join(sorted(_PICTURES))}) or videos such as *.mkv, *.mov, *.mp4, *.ts",
        )
    if paths:
        for seq, path in enumerate(paths):
            try:
                yield str(path), seq, BgrPicture(_read(path))
            except SourceError as error:
                yield str(path), seq, error.message
        return

    def sample(name: str) -> Path:
        return assets.pull(f"{name}.mp4")

    for spec in expand_sources([source], env=env, resolve_sample=sample):
        opened = open_source(spec, clock=clock)
        try:
            for decoded in opened:
                picture = decoded.picture if isinstance(decoded, Decoded) else decoded.reason
                yield spec.shown, decoded.seq, picture
        finally:
            opened.close()
