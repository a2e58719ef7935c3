"""Encoded pictures on their way into a file that is only made once all are there."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from llamapipe.errors import OutputError
from llamapipe.media.sinks.side import SideFile

__all__ = ["PacketSpool", "decoding_times"]

_HEAD = struct.Struct("<qqIB")  # pts, duration, size, whether a key frame


class PacketSpool:
    """Packets in decoding order, in a `SideFile`. They come from encoders that follow one another, a segment each."""

    def __init__(self, path: Path, size: int = 0) -> None:
        self._file = SideFile(path, size)

    def put(self, packets: Sequence[Any]) -> None:
        """Append packets. Raises OutputError."""
        for packet in packets:
            data = bytes(packet)
            self._file.write(_HEAD.pack(packet.pts, packet.duration or 0, len(data), packet.is_keyframe) + data)

    def mark(self) -> int:
        """Bring all to the disk; how many bytes. Raises OutputError."""
        return self._file.mark()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def packets(self, time_base: Fraction, *, exact_end: bool) -> Iterator[Any]:
        """All packets, with decoding times as one encoder for all of them would have given.

        ``exact_end``: the last one lasts until the end of the picture that is shown last, counted as MP4 counts.
        """
        entries = list(self._entries())
        if not entries:
            return
        pts = np.array([entry[0] for entry in entries], np.int64)
        dts = decoding_times(pts)
        shown_last = int(pts.argmax())
        end = int(pts[shown_last]) + entries[shown_last][1]
        for i, (at, duration, offset, size, is_key) in enumerate(entries):
            self._file.seek(offset)
            packet = av.Packet(self._file.read(size))
            packet.pts, packet.dts, packet.time_base, packet.is_keyframe = at, int(dts[i]), time_base, is_key
            packet.duration = duration
            if exact_end and i + 1 == len(entries):
                packet.duration = max(1, end - int(pts.min()) - int(dts[i] - dts[0]))
            yield packet

    def _entries(self) -> Iterator[tuple[int, int, int, int, bool]]:
        """(pts, duration, offset of the data, its size, whether a key frame) of each packet."""
        at = 0
        while True:
            self._file.seek(at)
            head = self._file.read(_HEAD.size)
            if not head:
                return
            if len(head) < _HEAD.size:
                raise OutputError(f"{self._file.path} breaks off within a packet")
            pts, duration, size, is_key = _HEAD.unpack(head)
            yield pts, duration, at + _HEAD.size, size, bool(is_key)
            at += _HEAD.size + size


def decoding_times(pts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Decoding times (n,) of pictures in decoding order with presentation times ``pts`` (n,), all different.

    They grow, and none is later than its presentation time: the times of presentation, in order, moved by as many
    pictures as the most delayed one waits. Those at the beginning lie as far before it as those pictures last.
    """
    order = np.argsort(pts, kind="stable")
    rank = np.empty(len(pts), np.int64)
    rank[order] = np.arange(len(pts))
    delay = int(max(0, (np.arange(len(pts)) - rank).max()))
    shown = pts[order]
    dts = np.empty_like(shown)
    dts[delay:] = shown[: len(pts) - delay]
    dts[:delay] = shown[:delay] - (shown[min(delay, len(pts) - 1)] - shown[0])
    return dts
