"""Vintage, toonify, denoise: what they do to pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamapipe.data import Image
from llamapipe.operator import Operator
from llamapipe.testing import moving_scene
from llamapipe_operators import Denoise, Toonify, Vintage
from tests.operators.kit import gray, make


def changed(cls: type[Operator], image: Image, **params: Any) -> NDArray[np.float64]:
    outputs: Any = make(cls, **params).process({"frames": image})
    return outputs["frames"].bgr.astype(float)  # type: ignore[no-any-return]


def test_vintage_is_brown_and_dark_in_the_corners() -> None:
    pixels = changed(Vintage, gray(level=160), grain=0.0)
    blue, green, red = pixels[120, 160]
    assert red > green > blue
    assert pixels[0, 0].mean() < 0.7 * pixels[120, 160].mean()


def test_grain_is_new_in_each_frame_and_the_same_in_each_run() -> None:
    first, again = changed(Vintage, gray(seq=1)), changed(Vintage, gray(seq=1))
    assert (first == again).all()
    assert (first != changed(Vintage, gray(seq=2))).any()
    assert (first != changed(Vintage, gray(seq=1), seed=1)).any()


def test_grain_covers_pictures_larger_than_its_pattern() -> None:
    pixels = changed(Vintage, gray(700, 600), vignette=0.0)
    assert pixels[550:, 650:].std() == pytest.approx(pixels[:100, :100].std(), rel=0.3)


def test_all_zero_leaves_the_picture() -> None:
    image = moving_scene(64, 48, 1)[0]
    assert (changed(Vintage, image, sepia=0.0, fade=0.0, vignette=0.0, grain=0.0) == image.bgr).all()


def test_toonify_leaves_few_levels_and_keeps_greys_grey() -> None:
    ramp = np.repeat(np.linspace(0, 255, 320).astype(np.uint8)[None, :, None], 240, axis=0).repeat(3, axis=2)
    pixels = changed(Toonify, Image.from_bgr(ramp), levels=5, edges=0.0)
    assert len(np.unique(pixels.mean(axis=2))) <= 5
    assert np.ptp(pixels, axis=2).max() <= 2


def test_toonify_draws_edges_and_no_lines_on_even_surfaces() -> None:
    pixels = np.full((240, 320, 3), 200, np.uint8)
    pixels[80:160, 100:220] = 90
    with_lines, without = (changed(Toonify, Image.from_bgr(pixels), edges=edges) for edges in (1.0, 0.0))
    darker = (without - with_lines).mean(axis=2) > 10
    assert darker[76:84, 120:200].any(axis=0).mean() > 0.95
    assert not darker[:60].any()
    assert not darker[110:130, 130:190].any()


def noisy(image: Image, seed: int, sigma: float = 10.0) -> Image:
    noise = np.random.default_rng(seed).normal(0, sigma, image.bgr.shape)
    return Image.from_bgr((image.bgr + noise).clip(0, 255).astype(np.uint8), seq=image.seq, pts_s=image.pts_s)


def error(pixels: NDArray[Any], clean: Image) -> float:
    return float(np.sqrt(((pixels.astype(float) - clean.bgr) ** 2).mean()))


@pytest.mark.parametrize(("method", "most"), [("temporal", 0.4), ("bilateral", 0.8), ("median", 0.8), ("nlmeans", 0.7)])
def test_denoising_comes_closer_to_the_clean_picture(method: str, most: float) -> None:
    clean = Image.from_bgr(np.repeat(np.arange(0, 240, 2, np.uint8)[:, None, None], 160, axis=1).repeat(3, axis=2))
    operator = make(Denoise, method=method)
    for seed in range(12 if method == "temporal" else 1):
        outputs: Any = operator.process({"frames": noisy(clean, seed)})
    assert error(outputs["frames"].bgr, clean) < most * error(noisy(clean, 0).bgr, clean)


def test_what_moves_leaves_no_ghost() -> None:
    operator = make(Denoise)
    clean = moving_scene(160, 120, 8)
    for image in clean:
        outputs: Any = operator.process({"frames": noisy(image, image.seq)})
    behind = np.abs(outputs["frames"].bgr[50:70, :60].astype(float) - clean[-1].bgr[50:70, :60]).mean()
    assert behind < 12


def test_no_strength_leaves_the_picture() -> None:
    image = gray()
    outputs: Any = make(Denoise, strength=0.0).process({"frames": image})
    assert outputs["frames"] is image
