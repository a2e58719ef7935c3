"""Boxes: struct of arrays that stays consistent through joins and coordinate changes."""

import numpy as np
import pytest

from llamapipe.data import Boxes, Image, Placement, Tracks


def boxes(names=("person", "car"), label=(0, 1)):
    return Boxes(np.array([[0, 0, 10, 10], [5, 5, 20, 30]]), np.array([0.9, 0.5]), np.array(label), names)


def test_concat_merges_label_tables():
    joined = Boxes.concat([boxes(), boxes(names=("car", "face"))])
    assert joined.labels == ["person", "car", "car", "face"]


def test_concat_keeps_tracks_and_marks_the_untracked():
    tracked = Tracks([[0, 0, 1, 1]], [1.0], [0], ("a",), [7])
    assert Boxes.concat([tracked, boxes()]).track_id.tolist() == [7, -1, -1]


def test_arrays_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="score has 1 entries for 2 boxes"):
        Boxes([[0, 0, 1, 1], [0, 0, 2, 2]], [0.5], [0, 0], ("a",))


def test_placement_maps_there_and_back():
    place = Placement(scale_x=2.0, scale_y=0.5, offset_x=10, offset_y=-4)
    there = boxes().to_source(place)
    np.testing.assert_allclose(there.xyxy[0], [10, -4, 30, 1])
    np.testing.assert_allclose(there.from_source(place).xyxy, boxes().xyxy)


def test_a_crop_of_a_crop_knows_its_place_in_the_source():
    image = Image.from_bgr(np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3))
    inner = image.crop(10, 5, 50, 35).crop(4, 6, 90, 90)
    assert (inner.width, inner.height) == (36, 24)
    assert inner.placement.to_source(np.zeros((1, 4), np.float32)).tolist() == [[14, 11, 14, 11]]
    np.testing.assert_array_equal(inner.bgr, image.bgr[11:35, 14:50])


def test_resized_pixels_keep_their_place():
    image = Image.from_bgr(np.zeros((40, 60, 3), np.uint8)).crop(20, 10, 60, 40)
    small = image.resized(np.zeros((15, 20, 3), np.uint8))
    assert small.placement.to_source(np.array([[0, 0, 20, 15]], np.float32)).tolist() == [[20, 10, 60, 40]]
