"""A piece of a live source as a file: its packets as they come, nothing decoded and nothing lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamapipe.clock import Clock
from llamapipe.errors import InterruptedRun, SourceError
from llamapipe.media.expand import SourceSpec
from llamapipe.media.opening import open_video, reason_of
from llamapipe.media.packets import PacketPump, Stalled

if TYPE_CHECKING:
    import av.container

__all__ = ["record"]

_STALL_S = 10.0  # without a packet
_LATE_S = 20.0  # beyond the asked length: for the first keyframe, and for senders that fall behind
_LOOK_S = 0.05  # how soon an interruption is noticed
_LEAST_S = 1.0  # what is shorter shows nothing


def record(spec: SourceSpec, path: Path, length_s: float, *, clock: Clock, interrupt: threading.Event) -> float:
    """Write ``length_s`` seconds of a source to a Matroska file, from its next keyframe on. Returns how long it is.

    A source that ends, stalls or falls behind gives what there was of it. Raises SourceError where it cannot be
    connected to, cannot be kept as it is, or gave less than a second; InterruptedRun.
    """
    import av

    container, stream = open_video(spec, 1, read_timeout_s=_STALL_S)
    pump = PacketPump(container, stream, clock=clock, stall_timeout_s=_STALL_S)
    threading.Thread(target=_stop_when, args=(interrupt, pump), name="recording", daemon=True).start()
    try:
        with av.open(str(path), "w", format="matroska") as out:
            taken_s = _copied(pump, out, stream, length_s, clock)
    except (av.FFmpegError, ValueError) as error:
        raise SourceError(
            f"source {spec.shown} cannot be recorded: {reason_of(error)}", hint="record some of it by other means"
        ) from error
    finally:
        pump.stop()
    if interrupt.is_set():
        raise InterruptedRun("recording was interrupted")
    if taken_s < min(_LEAST_S, length_s):
        raise SourceError(
            f"source {spec.shown} gave {taken_s:.1f} s of pictures that can be recorded, of {length_s:g} s",
            hint="is it sending, and with keyframes?",
        )
    return taken_s


def _stop_when(interrupt: threading.Event, pump: PacketPump) -> None:
    while not interrupt.wait(_LOOK_S) and not pump.stopped:
        pass
    pump.stop()


def _copied(pump: PacketPump, out: av.container.OutputContainer, stream: Any, length_s: float, clock: Clock) -> float:
    """Seconds of the source that were written."""
    copy = out.add_stream_from_template(stream)
    begin: int | None = None
    taken_s, until_s = 0.0, clock.now_s() + length_s + _LATE_S
    for packet in _until_lost(pump):
        if clock.now_s() > until_s:
            break
        if packet.dts is None or packet.pts is None or (begin is None and not packet.is_keyframe):
            continue
        if begin is None:
            begin = packet.dts
        packet.pts, packet.dts = packet.pts - begin, packet.dts - begin
        at_s = float(packet.dts * packet.time_base)
        if at_s >= length_s:
            break
        taken_s = max(taken_s, at_s)
        packet.stream = copy
        out.mux(packet)
    return taken_s


def _until_lost(pump: PacketPump) -> Iterator[Any]:
    """Packets, for as long as the source sends some."""
    import av

    try:
        yield from pump
    except (Stalled, av.FFmpegError, OSError):
        return  # what came before is there
