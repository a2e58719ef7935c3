"""Packets of sources that can block: read ahead by a thread, so that closing never waits for the network."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llamapipe.clock import Clock

if TYPE_CHECKING:
    import av
    import av.container
    import av.video.stream

__all__ = ["PacketPump", "Stalled"]

_AHEAD = 64  # packets; a full queue leaves the rest to the sender's own flow control
_LOOK_S = 0.05  # how soon either side notices that the source was closed
_SETTLE_S = 0.5  # for what had piled up before the first read
_RECENT = 256  # packets by which the lead is judged: a sender's clock drifts against ours


class Stalled(Exception):
    """No packet came for too long."""


class PacketPump:
    """Reads packets of one stream. It owns ``container`` and closes it once no read is under way.

    A blocked read cannot be interrupted from outside: the thread stays behind until the read times out, nobody
    waits for it, and only it may free what the read uses.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        stream: av.video.stream.VideoStream,
        *,
        clock: Clock,
        stall_timeout_s: float | None = None,
    ) -> None:
        self._container = container
        self._stream = stream
        self._clock = clock
        self._stall_timeout_s = stall_timeout_s
        self._queue: queue.Queue[Any] = queue.Queue(_AHEAD)  # packets, then the error that ended them or None
        self._early: deque[Any] = deque()  # taken from the queue by `settle`
        self._leads: deque[float] = deque(maxlen=_RECENT)
        self._stopped = threading.Event()
        threading.Thread(target=self._read, name="packets", daemon=True).start()

    @property
    def lead_s(self) -> float | None:
        """Our clock minus the sender's: of recent packets the smallest, which is that of the least delayed."""
        return min(self._leads.copy(), default=None)

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def settle(self) -> None:
        """Take what had piled up at the sender and while the format was learnt, until packets come as they are made.

        Only then does `lead_s` say what it will go on saying.
        """
        until_s = self._clock.now_s() + _SETTLE_S
        while not self._stopped.is_set() and self._clock.now_s() < until_s:
            try:
                self._early.append(self._queue.get(timeout=_LOOK_S))
            except queue.Empty:
                if self._early:
                    return

    def __iter__(self) -> Iterator[av.Packet[Any]]:
        """Packets until the end or until `stop`. Raises what reading raised, and `Stalled`."""
        while not self._stopped.is_set():
            item = self._early.popleft() if self._early else self._take()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def _take(self) -> Any:
        waiting_since_s = self._clock.now_s()
        while not self._stopped.is_set():
            try:
                return self._queue.get(timeout=_LOOK_S)
            except queue.Empty:
                silent_s = self._clock.now_s() - waiting_since_s
                if self._stall_timeout_s is not None and silent_s >= self._stall_timeout_s:
                    raise Stalled from None
        return None

    def stop(self) -> None:
        """Ends the iteration, from any thread. Returns at once."""
        self._stopped.set()

    def _read(self) -> None:
        ending: BaseException | None = None
        try:
            for packet in self._container.demux(self._stream):
                if packet.pts is not None and packet.time_base is not None:
                    self._leads.append(self._clock.now_s() - float(packet.pts * packet.time_base))
                if not self._put(packet):
                    break
        except Exception as error:  # raised again where the packets are taken
            ending = error
        self._put(ending)
        self._stopped.wait()  # the taker may still be decoding: the decoder belongs to the container
        self._container.close()

    def _put(self, item: Any) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_LOOK_S)
                return True
            except queue.Full:
                continue
        return False
