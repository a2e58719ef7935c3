"""Reads one source into the arena, no faster than the engine grants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import zmq

from llamapipe.clock import Clock
from llamapipe.data import FrameRef
from llamapipe.errors import LlamapipeError, SourceLostError
from llamapipe.media.contract import Decoded, VideoSource
from llamapipe.runtime.arena import Arena
from llamapipe.runtime.dealing import dealer
from llamapipe.wire import Ended, Granted, Hello, NewFrames, Opened, Stop, Undecoded, decode, encode

__all__ = ["SourceReader"]

# Each message wakes the engine, whose every turn costs more than what it is about: frames of a file that are decoded in
# next to no time go to it together, as far as there is credit.
_SOON_S = 0.002
_TOGETHER = 4
_LOOK_S = 0.01  # between two looks for messages, each of which costs as much as one


class SourceReader:
    """One thread's worth of reading. ``waits``: a frame waits for credit (files); else it is sent as it comes.

    ``paced``: not even the first frame is read before there is credit. ``first_seq``: that of the source's first frame.
    A source that is not there yet is given as what opens it, in the reader's thread, and says how it is to be read.
    """

    def __init__(
        self,
        stream: str,
        source: VideoSource | Callable[[], tuple[VideoSource, Opened]],
        *,
        arena: Arena,
        clock: Clock,
        waits: bool = False,
        paced: bool = False,
        first_seq: int = 0,
    ) -> None:
        self.name = f"source:{stream}"
        self._stream = stream
        self._open = source if callable(source) else None
        self._source = None if callable(source) else source
        self._arena = arena
        self._clock = clock
        self._waits = waits
        self._paced = paced
        self._sent = first_seq  # frames of the stream that the run has, those of an earlier process included
        self._credits = 0
        self._stopped = False
        self._ready: list[FrameRef] = []  # that the engine has not been told of
        self._look_s = 0.0  # when to look for messages, where there is no need to wait for one

    def serve(self, context: zmq.Context[Any], address: str) -> None:
        """Read to the end, or until Stop. Blocks."""
        socket = dealer(context, self.name, address)
        num_frames = self._sent
        error: LlamapipeError | None = None
        try:
            socket.send(encode(Hello(self.name, "source")))
            try:
                num_frames = self._read(socket, self._opened(socket))
            except LlamapipeError as caught:
                error, num_frames = caught, self._sent
            except Exception as caught:  # a bug in a source must not take the engine with it
                error = LlamapipeError(f"{self._stream}: {type(caught).__name__}: {caught}")
                num_frames = self._sent
            lost = isinstance(error, SourceLostError)
            socket.send(encode(Ended(self._stream, num_frames, str(error) if error else None, lost)))
            while not self._stopped:  # the engine says when it has everything
                self._take(decode(socket.recv()))
        finally:
            if self._source is not None:
                self._source.close()
            socket.close()

    def _opened(self, socket: zmq.Socket[Any]) -> VideoSource:
        if self._source is None:
            assert self._open is not None
            self._source, opened = self._open()
            self._waits, self._paced = opened.drop_policy == "block", opened.paced
            socket.send(encode(opened))
        return self._source

    def _read(self, socket: zmq.Socket[Any], source: VideoSource) -> int:
        info = source.info
        time_base = (info.time_base.numerator, info.time_base.denominator)
        while self._paced and self._credits <= 0 and not self._stopped:
            self._take(decode(socket.recv()))
        if self._stopped:
            return self._sent
        # Of a pipe nobody knows when its next frame comes.
        together = self._waits and not self._paced and info.num_frames is not None
        began_s = self._clock.now_s()
        try:
            for decoded in source:
                took_s = self._clock.now_s() - began_s
                if not self._credit(socket):
                    break
                if isinstance(decoded, Decoded):
                    captured_at_s = getattr(decoded, "captured_at_s", None)
                    ref = self._arena.put(
                        decoded.picture,
                        stream=self._stream,
                        seq=decoded.seq,
                        pts=decoded.pts,
                        time_base=time_base,
                        captured_at_s=self._clock.now_s() if captured_at_s is None else captured_at_s,
                    )
                    self._ready.append(ref)
                    soon = took_s < _SOON_S and len(self._ready) < _TOGETHER and self._credits > 1
                    if not (together and soon):
                        self._send(socket)
                else:
                    self._send(socket)
                    socket.send(encode(Undecoded(self._stream, decoded.seq, decoded.reason, 0.0)))
                self._credits -= 1
                self._sent += 1
                began_s = self._clock.now_s()
        finally:
            self._send(socket)
        return self._sent

    def _send(self, socket: zmq.Socket[Any]) -> None:
        """Tell the engine of the frames that are in the arena."""
        if self._ready:
            socket.send(encode(NewFrames(self._stream, self._ready)))
            self._ready = []

    def _credit(self, socket: zmq.Socket[Any]) -> bool:
        """Whether the next frame may go: waits for credit; where there is some, looks for Stop now and then."""
        while not self._stopped and self._waits and self._credits <= 0:
            self._take(decode(socket.recv()))
        now_s = self._clock.now_s()
        while not self._stopped and (now_s >= self._look_s or not self._waits):
            try:
                data = socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                self._look_s = now_s + _LOOK_S
                break
            self._take(decode(data))
        return not self._stopped

    def _take(self, message: object) -> None:
        if isinstance(message, Granted):
            self._credits += message.credits
        elif isinstance(message, Stop):
            self._stopped = True
