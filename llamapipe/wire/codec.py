"""One message, one frame of bytes: a version byte, then msgpack."""

from __future__ import annotations

import msgspec

from llamapipe.errors import WireError
from llamapipe.wire.messages import PROTOCOL, Message

__all__ = ["decode", "encode"]

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_VERSION = bytes([PROTOCOL])


def encode(message: Message) -> bytes:
    """Bytes of a message."""
    return _VERSION + _encoder.encode(message)


def decode(data: bytes) -> Message:
    """The message. Raises WireError for another protocol version, or bytes that are no message."""
    if data[:1] != _VERSION:
        came = data[0] if data else "nothing"
        raise WireError(f"message of protocol {came}, expected {PROTOCOL}", hint="run the same llamapipe on both ends")
    try:
        return _decoder.decode(memoryview(data)[1:])
    except msgspec.MsgspecError as error:
        raise WireError(f"message of {len(data)} bytes cannot be read: {error}") from error
