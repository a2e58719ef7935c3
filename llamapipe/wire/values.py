"""Values as payloads: boxes and events as bytes, pictures as references.

Layout of boxes: msgpack array [kind, names, xyxy f32 LE, score f32 LE, label i32 LE, track_id i64 LE or nil].
Only labels that occur travel.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import numpy as np

from llamapipe.data import Boxes, Classes, Event, Events, FrameRef, Tracks
from llamapipe.errors import WireError

__all__ = ["Payload", "decode_value", "encode_value"]

Payload: TypeAlias = FrameRef | bytes
"""One value on the wire."""


class _Boxes(msgspec.Struct, array_like=True, tag="b"):
    kind: str
    names: tuple[str, ...]
    xyxy: bytes
    score: bytes
    label: bytes
    track_id: bytes | None


class _Events(msgspec.Struct, array_like=True, tag="e"):
    items: list[Event]


_KINDS: dict[str, type[Boxes]] = {"boxes": Boxes, "tracks": Tracks, "classes": Classes}
_NAMES = {cls: kind for kind, cls in _KINDS.items()}
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[_Boxes | _Events] = msgspec.msgpack.Decoder(_Boxes | _Events)


def encode_value(value: Boxes | Events) -> bytes:
    """Bytes of boxes or events. Raises WireError for anything else."""
    if isinstance(value, Boxes):
        # For a few boxes quicker than numpy's own way, which imports masked arrays in a worker's first invocation.
        labels = value.label.tolist()
        used = sorted(set(labels))
        places = {label: place for place, label in enumerate(used)}
        label = np.array([places[label] for label in labels], "<i4")
        return _encoder.encode(
            _Boxes(
                _NAMES.get(type(value), "boxes"),
                tuple(value.names[i] for i in used),
                value.xyxy.astype("<f4", copy=False).tobytes(),
                value.score.astype("<f4", copy=False).tobytes(),
                label.tobytes(),
                None if value.track_id is None else value.track_id.astype("<i8", copy=False).tobytes(),
            )
        )
    if isinstance(value, Events):
        return _encoder.encode(_Events(list(value.items)))
    raise WireError(f"cannot send a {type(value).__name__}: expected Boxes, Tracks, Classes or Events")


def decode_value(data: bytes) -> Boxes | Events:
    """What `encode_value` encoded. Raises WireError for other bytes."""
    try:
        raw = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise WireError(f"payload of {len(data)} bytes cannot be read: {error}") from error
    if isinstance(raw, _Events):
        return Events(raw.items)
    if raw.kind not in _KINDS:
        raise WireError(f"payload of unknown kind {raw.kind!r}: expected {', '.join(_KINDS)}")
    return _KINDS[raw.kind](
        np.frombuffer(raw.xyxy, "<f4"),
        np.frombuffer(raw.score, "<f4"),
        np.frombuffer(raw.label, "<i4"),
        raw.names,
        None if raw.track_id is None else np.frombuffer(raw.track_id, "<i8"),
    )
