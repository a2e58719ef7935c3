"""Sample and motion gate: which frames pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llamapipe.data import Image
from llamapipe.operator import FILTERED, Operator
from llamapipe_operators import MotionGate, Sample
from tests.operators.kit import gray, make


def passed(operator: Operator, images: list[Image]) -> list[int]:
    return [image.seq for image in images if operator.process({"frames": image}) is not FILTERED]


@pytest.mark.parametrize(("fps", "wanted"), [(25.0, 100), (12.5, 50), (10.0, 40), (1.0, 4), (60.0, 100)])
def test_sampling_gives_the_rate_asked_for(fps: float, wanted: int) -> None:
    assert len(passed(make(Sample, fps=fps), [gray(8, 8, seq=i) for i in range(100)])) == wanted


def test_sampling_goes_by_time_stamps() -> None:
    """Two seconds at 50 frames a second, then two at 10: five frames of each second."""
    times = [*np.arange(0, 2, 0.02), *np.arange(2, 4, 0.1)]
    images = [gray(8, 8, seq=i) for i in range(len(times))]
    for image, pts_s in zip(images, times, strict=True):
        image.pts_s = float(pts_s)
    kept = passed(make(Sample, fps=5.0), images)
    assert [sum(second <= times[i] < second + 1 for i in kept) for second in range(4)] == [5, 5, 5, 5]


def scene(moving: range, frames: int = 60, noise: float = 3.0) -> list[Image]:
    rng = np.random.default_rng(0)
    images = []
    for i in range(frames):
        pixels = np.full((120, 160, 3), 100, np.float32) + rng.normal(0, noise, (120, 160, 3))
        if i in moving:
            x = 5 * (i - moving.start)
            pixels[40:80, x : x + 20] += 80
        images.append(Image.from_bgr(pixels.clip(0, 255).astype(np.uint8), seq=i, pts_s=i / 25))
    return images


def test_the_gate_opens_for_motion_and_not_for_noise() -> None:
    gate = make(MotionGate, hold_s=0.2)
    kept = passed(gate, scene(range(20, 40)))
    assert kept[:1] == [0]  # the first frame always
    assert set(range(20, 40)) <= set(kept)
    assert not set(range(1, 20)) & set(kept)
    assert not set(range(50, 60)) & set(kept)


def test_the_gate_closes_behind_who_has_stood_there_for_long() -> None:
    """A background that had taken them up would have to forget them first."""
    images = []
    for i in range(200):
        pixels = np.full((120, 160, 3), 100, np.uint8)
        if 10 <= i < 150:
            pixels[20:100, 60:100] = 220
        images.append(Image.from_bgr(pixels, seq=i, pts_s=i / 10))
    assert passed(make(MotionGate, hold_s=0.0), images) == [0, 10, 150]


def test_the_gate_says_how_much_moves() -> None:
    gate = make(MotionGate)
    images = scene(range(5, 10))
    shares = []
    for image in images[:8]:
        outputs: Any = gate.process({"frames": image})
        if outputs is not FILTERED and image.seq:
            shares += [event.value for event in outputs["events"].items]
            assert outputs["frames"] is image
    assert shares == pytest.approx([20 * 40 / (120 * 160)] * 3, rel=0.5)
