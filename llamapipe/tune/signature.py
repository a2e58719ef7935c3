"""Whether two videos are alike: a few numbers of sampled frames, and a distance between them.

Notation: n stretches of frames that follow each other; luma is brightness in 0..1, shrunk to a common width, so that
what is compared are contents and not resolutions. The resolution and the rate are features of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from llamapipe.errors import UsageError

__all__ = ["LIKE", "VideoSignature", "distance", "signature_of"]

LIKE = 0.25
"""Videos at this `distance` or nearer are taken to be alike."""

_BINS = 8
_OCTAVES = 0.5  # of pixels or rate: a factor of two counts as so much
_LEAST_MOTION = 0.002  # mean change of brightness between frames that is noise
_LEAST_EDGES = 0.005
_PLACES = 6  # a side of the grid on which the mean picture is looked at


class VideoSignature(msgspec.Struct, frozen=True):
    """What a video looks like, whoever is in it at the moment."""

    width: int  # pixels
    height: int
    fps: float
    luma: tuple[float, ...]  # shares of pixels by brightness, dark first; they sum up to 1
    motion: float  # mean change of brightness from a frame to the next, 0..1
    edges: float  # mean of the gradient of brightness, 0..1
    scene: tuple[float, ...]  # mean brightness on a grid over the picture, row by row, 0..1


def signature_of(stretches: Sequence[NDArray[np.uint8]], *, width: int, height: int, fps: float) -> VideoSignature:
    """Of stretches of luma pictures, each (frames, h, w) uint8. Raises UsageError where there is no picture."""
    pictures = [stretch.astype(np.float32) / 255 for stretch in stretches if len(stretch)]
    if not pictures:
        raise UsageError("a video without a picture looks like nothing")
    every = np.concatenate([picture.reshape(-1) for picture in pictures])
    counts, _ = np.histogram(every, bins=_BINS, range=(0, 1))
    changes = [np.abs(np.diff(picture, axis=0)).mean() for picture in pictures if len(picture) > 1]
    gradients = [
        np.abs(np.diff(picture, axis=1)).mean() + np.abs(np.diff(picture, axis=2)).mean() for picture in pictures
    ]
    mean = np.mean([picture.mean(axis=0) for picture in pictures], axis=0)
    places = [
        float(place.mean()) for row in np.array_split(mean, _PLACES, 0) for place in np.array_split(row, _PLACES, 1)
    ]
    return VideoSignature(
        width,
        height,
        round(fps, 3),
        tuple(round(float(share), 4) for share in counts / counts.sum()),
        round(float(np.mean(changes)) if changes else 0.0, 5),
        round(float(np.mean(gradients)), 5),
        tuple(round(place, 4) for place in places),
    )


def distance(one: VideoSignature, other: VideoSignature) -> float:
    """How unlike two videos are: the largest of the differences in each feature, every one scaled to about 0..1.

    Of brightness the share of pixels that would have to change; of sizes, rates, motion and edges the ratio; of the
    scene the mean difference on the grid.
    """
    shares = 0.5 * float(np.abs(np.array(one.luma) - np.array(other.luma)).sum())
    return max(
        shares,
        _OCTAVES * _octaves(one.width * one.height, other.width * other.height),
        _OCTAVES * _octaves(one.fps, other.fps),
        _OCTAVES * _OCTAVES * _octaves(one.motion + _LEAST_MOTION, other.motion + _LEAST_MOTION),
        _OCTAVES * _octaves(one.edges + _LEAST_EDGES, other.edges + _LEAST_EDGES),
        2 * float(np.abs(np.array(one.scene) - np.array(other.scene)).mean()),
    )


def _octaves(one: float, other: float) -> float:
    return abs(float(np.log2(max(one, 1e-9) / max(other, 1e-9))))
