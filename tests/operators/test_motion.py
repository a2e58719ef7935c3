"""Motion: what counts as a change, and against what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llamapipe.data import Image
from llamapipe.operator import Operator
from llamapipe_operators import Motion
from tests.operators.kit import make


def picture(seq: int, *, spot: int | None = None, light: float = 0.0, noise: float = 2.0, block: float = 80) -> Image:
    """A gray scene with grain, at 25 frames a second; ``spot`` is where something 20 pixels wide stands in it."""
    rng = np.random.default_rng(seq)
    pixels = 100 + light + rng.normal(0, noise, (120, 160, 3))
    if spot is not None:
        pixels[40:80, spot : spot + 20] += block
    return Image.from_bgr(pixels.clip(0, 255).astype(np.uint8), seq=seq, pts_s=seq / 25)


def told(operator: Operator, images: list[Image]) -> list[int]:
    found: list[int] = []
    for image in images:
        outputs: Any = operator.process({"frames": image})
        if len(outputs["events"]):
            found.append(image.seq)
    return found


def test_the_first_frame_and_every_one_that_moves_have_an_event() -> None:
    images = [picture(seq, spot=6 * seq if 10 <= seq < 20 else None) for seq in range(30)]
    assert told(make(Motion), images) == [0, *range(10, 20), 20]  # with the last one it is gone again


@pytest.mark.parametrize("noise", [0.0, 2.0, 6.0, 12.0])
def test_noise_is_learned_from_the_pictures(noise: float) -> None:
    images = [picture(seq, noise=noise, spot=50 if seq >= 20 else None) for seq in range(40)]
    assert told(make(Motion), images) == [0, 20]


def test_what_stands_still_counts_once() -> None:
    images = [picture(seq, spot=50 if 10 <= seq < 60 else None) for seq in range(80)]
    assert told(make(Motion), images) == [0, 10, 60]


def test_slow_motion_adds_up() -> None:
    """A pixel a second is less than the threshold from frame to frame."""
    images = [picture(seq, spot=20 + seq // 25) for seq in range(250)]
    events = told(make(Motion, still_s=60.0), images)
    assert 3 <= len(events) <= 10


def test_light_that_changes_everywhere_is_no_motion() -> None:
    images = [picture(seq, light=0.2 * seq) for seq in range(100)]
    assert told(make(Motion), images) == [0]
    assert told(make(Motion), [picture(0), picture(1, light=90)]) == [0, 1]  # somebody has switched it on


def test_an_event_comes_anyhow_after_a_while() -> None:
    assert told(make(Motion, still_s=1.0), [picture(seq) for seq in range(60)]) == [0, 25, 50]


def test_time_that_goes_back_begins_anew() -> None:
    images = [picture(seq) for seq in (50, 51, 0, 1)]
    assert told(make(Motion), images) == [50, 0]


def test_a_threshold_is_a_share_of_the_picture() -> None:
    images = [picture(0), picture(1, spot=50)]  # 20 x 40 of 160 x 120 pixels: 4 %
    assert told(make(Motion, threshold=0.03), images) == [0, 1]
    assert told(make(Motion, threshold=0.06), images) == [0]


def test_it_goes_on_from_a_snapshot() -> None:
    first = make(Motion)
    told(first, [picture(seq, spot=50) for seq in range(5)])
    second = make(Motion)
    second.restore(first.snapshot())
    assert told(second, [picture(5, spot=50), picture(6)]) == [6]
