"""Videos are alike by what they show, not by which file they are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from llamapipe.errors import UsageError
from llamapipe.tune import LIKE, VideoSignature, distance, signature_of


def street(seed: int, *, level: int = 110, noise: float = 8.0, frames: int = 8) -> list[NDArray[np.uint8]]:
    """Two stretches of a picture that stays, with a square that moves over it."""
    scene = np.tile(np.linspace(level - 60, level + 60, 96), (72, 1))
    found = []
    for start in (0, 40):
        rng = np.random.default_rng([seed, start])
        pictures = scene + rng.normal(0, noise, (frames, 72, 96))
        for i in range(frames):
            pictures[i, 30:40, (start + 3 * i) % 80 : (start + 3 * i) % 80 + 10] = 240
        found.append(pictures.clip(0, 255).astype(np.uint8))
    return found


def of(stretches: list[NDArray[np.uint8]], width: int = 640, height: int = 480, fps: float = 25.0) -> VideoSignature:
    return signature_of(stretches, width=width, height=height, fps=fps)


def test_the_same_scene_at_another_time_is_alike() -> None:
    assert distance(of(street(1)), of(street(1))) == 0
    assert distance(of(street(1)), of(street(2))) <= LIKE / 2


@pytest.mark.parametrize(
    "other",
    [
        of(street(1, level=170)),
        of([picture[:, :, ::-1] for picture in street(1)]),
        of(street(1), width=1920, height=1080),
        of(street(1), fps=10),
        of(street(1, noise=40)),
    ],
    ids=["brighter", "mirrored", "larger", "slower", "noisier"],
)
def test_another_scene_size_or_rate_is_not(other: VideoSignature) -> None:
    assert distance(of(street(1)), other) > LIKE
    assert distance(other, of(street(1))) == pytest.approx(distance(of(street(1)), other))


def test_nothing_has_no_signature() -> None:
    with pytest.raises(UsageError):
        signature_of([], width=1, height=1, fps=1)
