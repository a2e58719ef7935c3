"""What came of building a variant, kept so that nobody has to do it again while what it hangs on is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from llamapipe.accuracy import Agreement
from llamapipe.catalog import Variant
from llamapipe.data import Boxes, Image

__all__ = ["Found", "Verdict", "boxes_of", "digest_of_boxes", "digest_of_pictures", "found_of"]


class Found(msgspec.Struct, frozen=True, array_like=True):
    """`Boxes` of one picture as bytes: float32 corners, float32 scores, int32 labels."""

    xyxy: bytes
    score: bytes
    label: bytes


class Verdict(msgspec.Struct, frozen=True):
    """One variant (of one thread: it finds the same with more), what came of it, and what that hangs on."""

    variant: Variant
    basis: str  # digest of all that it hangs on: while it is the same, so is the rest
    state: str
    reason: str = ""
    agreement: Agreement | None = None
    source: Variant | None = None
    note: str = ""
    in_float: str = ""
    ap50: float | None = None
    builder: int = 1  # number of the way that it was built in
    pictures: str = ""  # `digest_of_pictures` of those that it was judged on
    names: tuple[str, ...] = ()  # labels of what it found there
    found: tuple[Found, ...] = ()  # in each of them, of every score that counts; empty where it was rejected


def found_of(boxes: Iterable[Boxes]) -> tuple[Found, ...]:
    """As a verdict keeps them."""
    return tuple(Found(one.xyxy.tobytes(), one.score.tobytes(), one.label.tobytes()) for one in boxes)


def boxes_of(verdict: Verdict) -> list[Boxes]:
    """What a verdict kept of each picture."""
    return [
        Boxes(
            np.frombuffer(one.xyxy, np.float32).reshape(-1, 4),
            np.frombuffer(one.score, np.float32),
            np.frombuffer(one.label, np.int32),
            verdict.names,
        )
        for one in verdict.found
    ]


def digest_of_pictures(images: Sequence[Image]) -> str:
    """Sha256 of their pixels: the same pictures from another place are the same."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.bgr.shape}".encode())
        digest.update(np.ascontiguousarray(image.bgr).data)
    return digest.hexdigest()


def digest_of_boxes(boxes: Sequence[Boxes]) -> str:
    """Sha256 of what they are, score and all."""
    digest = hashlib.sha256()
    for one, kept in zip(boxes, found_of(boxes), strict=True):
        digest.update(msgspec.msgpack.encode((one.names, kept)))
    return digest.hexdigest()
