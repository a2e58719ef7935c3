"""Ways to open, read and spoil clips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av

from llamapipe.clock import SystemClock
from llamapipe.media import Decoded, SourceSpec, Undecodable, VideoSource, open_source


def opened(path: Path | str, kind: Any = "file", **options: Any) -> VideoSource:
    options.setdefault("clock", SystemClock())
    return open_source(SourceSpec("clip", str(path), kind), **options)


def read(path: Path | str, **options: Any) -> list[Decoded | Undecodable]:
    items = list(opened(path, **options))
    assert [item.seq for item in items] == list(range(len(items)))
    return items


def times(items: list[Decoded | Undecodable]) -> list[int]:
    return [item.pts for item in items if isinstance(item, Decoded)]


def lost(items: list[Decoded | Undecodable]) -> list[tuple[int, str]]:
    return [(item.seq, item.reason) for item in items if isinstance(item, Undecodable)]


def remuxed(
    source: Path, target: Path, change: Callable[[int, av.Packet], av.Packet], **options: dict[str, str]
) -> Path:
    """A copy of the packets, each through ``change(number, packet)``."""
    with av.open(str(source)) as reader, av.open(str(target), "w", **options) as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        packets = [packet for packet in reader.demux(video=0) if packet.dts is not None]
        for number, packet in enumerate(packets):
            packet = change(number, packet)
            packet.stream = stream
            writer.mux(packet)
    return target


def noise(packet: av.Packet) -> av.Packet:
    """A packet of the same place whose data mean nothing."""
    spoilt = av.Packet(bytes((i * 37 + 11) % 255 for i in range(packet.size)))
    spoilt.pts, spoilt.dts, spoilt.time_base = packet.pts, packet.dts, packet.time_base
    spoilt.is_keyframe = packet.is_keyframe
    return spoilt
