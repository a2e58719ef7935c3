"""Bytes in, bytes out: nothing is lost, and bytes of another protocol are refused."""

from __future__ import annotations

import numpy as np
import pytest

from llamapipe.data import Boxes, Tracks
from llamapipe.errors import WireError
from llamapipe.wire import PROTOCOL, Done, Hello, ItemOutputs, decode, decode_value, encode, encode_value


def test_a_message_comes_back_as_it_went() -> None:
    done = Done(7, [ItemOutputs(1, [[b"\x00payload"]], [0.5]), ItemOutputs(-1, [], [], "why")], 1.0, 2.0, b"state")
    assert decode(encode(done)) == done


def test_another_protocol_is_refused_with_both_versions() -> None:
    data = bytes([PROTOCOL + 1]) + encode(Hello("w", "worker"))[1:]
    with pytest.raises(WireError, match=f"protocol {PROTOCOL + 1}, expected {PROTOCOL}"):
        decode(data)


@pytest.mark.parametrize("data", [b"", bytes([PROTOCOL]), bytes([PROTOCOL]) + b"\xc1", encode(Hello("w", "x"))[:-1]])
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode(data)


def test_boxes_keep_their_kind_labels_and_ids() -> None:
    boxes = Tracks(
        np.array([[0, 1, 2, 3], [4, 5, 6, 7]], np.float32),
        np.array([0.25, 0.5], np.float32),
        np.array([2, 0], np.int32),
        ("a", "never", "c"),
        np.array([9, 2**40], np.int64),
    )
    back = decode_value(encode_value(boxes))
    assert isinstance(back, Tracks)
    assert back.xyxy.tolist() == boxes.xyxy.tolist()
    assert list(back.labels) == ["c", "a"]
    assert back.track_id is not None
    assert back.track_id.tolist() == [9, 2**40]


def test_no_boxes_are_boxes_too() -> None:
    back = decode_value(encode_value(Boxes.empty()))
    assert isinstance(back, Boxes)
    assert len(back) == 0
