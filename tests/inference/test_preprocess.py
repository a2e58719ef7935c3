"""Pictures into tensors."""

from __future__ import annotations

import numpy as np

from llamapipe.data import Image
from llamapipe.inference import DECODERS
from llamapipe.inference.decoders import Preprocess
from llamapipe.inference.preprocess import new_tensor, placer


def flat(width: int, height: int, bgr: tuple[int, int, int] = (10, 20, 30)) -> Image:
    return Image.from_bgr(np.full((height, width, 3), bgr, np.uint8))


def test_yolox_gets_bgr_top_left_padded_with_114() -> None:
    preprocess = DECODERS["yolox"].preprocess
    tensor = new_tensor(preprocess, 1, (64, 64))
    box = placer(preprocess, (64, 64))(flat(128, 64), tensor[0])
    assert tensor[0, :, 0, 0].tolist() == [10, 20, 30]
    assert (tensor[0, :, :32] != 114).all()
    assert (tensor[0, :, 32:] == 114).all()
    assert (box.scale_x, box.pad_y) == (0.5, 0)


def test_blazeface_gets_rgb_from_minus_one_to_one_in_the_middle() -> None:
    preprocess = DECODERS["blazeface"].preprocess
    tensor = new_tensor(preprocess, 1, (128, 128))
    box = placer(preprocess, (128, 128))(flat(64, 32, (0, 255, 0)), tensor[0])
    np.testing.assert_allclose(tensor[0, 64, 64], [-1, 1, -1], atol=1e-6)
    np.testing.assert_allclose(tensor[0, 0, 0], [-1, -1, -1], atol=1e-6)
    assert (box.pad_y, box.scale_x) == (32, 2)


def test_ssd_gets_bytes() -> None:
    preprocess = DECODERS["ssd"].preprocess
    tensor = new_tensor(preprocess, 2, (300, 300))
    placer(preprocess, (300, 300))(flat(300, 300), tensor[1])
    assert tensor.dtype == np.uint8
    assert tensor[1, 5, 5].tolist() == [30, 20, 10]


def test_classifiers_get_mean_and_deviation_per_channel() -> None:
    preprocess = DECODERS["classifier"].preprocess
    tensor = new_tensor(preprocess, 1, (8, 8))
    placer(preprocess, (8, 8))(flat(8, 8, (0, 0, 255)), tensor[0])
    np.testing.assert_allclose(tensor[0, :, 0, 0], [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-5)


def test_nothing_of_an_earlier_picture_stays_in_the_tensor() -> None:
    """A slot is used again by pictures of another shape: what they do not cover is padding again."""
    for resize in ("letterbox-topleft", "letterbox-center"):
        for layout in ("nchw", "nhwc"):
            preprocess = Preprocess(resize, "bgr", layout=layout, pad_value=7.0)  # type: ignore[arg-type]
            place, used = placer(preprocess, (32, 32)), new_tensor(preprocess, 1, (32, 32))
            place(flat(40, 10, (200, 200, 200)), used[0])
            place(flat(10, 40), used[0])
            fresh = new_tensor(preprocess, 1, (32, 32))
            place(flat(10, 40), fresh[0])
            np.testing.assert_array_equal(used, fresh)


def test_pictures_of_one_pixel_are_placed() -> None:
    for decoder in DECODERS.values():
        side = 128
        tensor = new_tensor(decoder.preprocess, 1, (side, side))
        box = placer(decoder.preprocess, (side, side))(flat(1, 1), tensor[0])
        assert np.isfinite(tensor).all()
        assert (box.width, box.height) == (1, 1)
